"""Benchmarks by name, for command lines: which reader, which options, which protocol by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asic_eval.benchmarks.acsm import read_acsm_cub
from asic_eval.benchmarks.ap10k import read_ap10k
from asic_eval.benchmarks.coco import read_coco_keypoints, read_stanford_dogs
from asic_eval.benchmarks.cub import read_cub
from asic_eval.benchmarks.pairs_file import read_benchmark_json, read_pairs_csv
from asic_eval.benchmarks.pf_pascal import read_pf_pascal
from asic_eval.benchmarks.pf_willow import read_pf_willow
from asic_eval.benchmarks.spair import CATEGORIES, read_spair
from asic_eval.benchmarks.synthetic import CATEGORY, draw_collection
from asic_eval.benchmarks.tracks import read_tracks
from asic_eval.keypoints import KeypointBenchmark


@dataclass(frozen=True)
class Request:
    """What to read.

    Args:
        root: The folder that holds the data set, or images.
        categories: Categories, species or breeds; all (or the only one) when empty.
        split: The split's name, where the data set has splits.
        limit: Only the first images of each category.
        annotations: The annotation file, for benchmarks that are one.
        seed: Of a drawn collection.
    """

    root: Path | None = None
    categories: tuple[str, ...] = field(default=())
    split: str | None = None
    limit: int | None = None
    annotations: Path | None = None
    seed: int = 0

    def needs_root(self) -> Path:
        """The root, which must be given.

        Raises:
            ValueError: It is not.
        """
        if self.root is None:
            raise ValueError("--root: expected the data set's folder, got none")
        return self.root

    def needs_annotations(self) -> Path:
        """The annotation file, which must be given.

        Raises:
            ValueError: It is not.
        """
        if self.annotations is None:
            raise ValueError("--annotations: expected the annotation file, got none")
        return self.annotations

    def needs_categories(self) -> tuple[str, ...]:
        """The categories, of which there must be one.

        Raises:
            ValueError: There is none.
        """
        if not self.categories:
            raise ValueError("--category: expected at least one category, got none")
        return self.categories


def _spair(request: Request) -> dict[str, KeypointBenchmark]:
    split = request.split or "test"
    if split not in ("trn", "val", "test"):
        raise ValueError(f"--split: expected trn, val or test, got {split!r}")
    return {name: read_spair(request.needs_root(), name, split) for name in request.categories or CATEGORIES}  # type: ignore[arg-type]


def _cub(request: Request) -> dict[str, KeypointBenchmark]:
    benchmarks = {}
    for species in request.needs_categories():
        key = int(species) if species.isascii() and species.isdigit() else species
        benchmarks[species] = read_cub(request.needs_root(), key, request.limit)
    return benchmarks


def _by_category(
    request: Request, title: str, read: Callable[[str | None], KeypointBenchmark]
) -> dict[str, KeypointBenchmark]:
    if not request.categories:
        return {title: read(None)}
    return {name: read(name) for name in request.categories}


READERS: Mapping[str, tuple[Callable[[Request], dict[str, KeypointBenchmark]], str]] = {
    "spair": (_spair, "spair-official"),
    "cub": (_cub, "cub-asic-256"),
    "acsm-cub": (lambda r: {"cub": read_acsm_cub(r.needs_annotations())}, "cub-asic-256"),
    "pf-pascal": (
        lambda r: _by_category(r, "pf-pascal", lambda c: read_pf_pascal(r.needs_annotations(), r.needs_root(), c)),
        "pf-pascal",
    ),
    "pf-willow": (
        lambda r: _by_category(r, "pf-willow", lambda c: read_pf_willow(r.needs_annotations(), r.needs_root(), c)),
        "pf-willow",
    ),
    "ap10k": (lambda r: {name: read_ap10k(r.needs_root(), name) for name in r.needs_categories()}, "ap10k"),
    "stanford-dogs": (
        lambda r: _by_category(r, "dog", lambda breed: read_stanford_dogs(r.needs_root(), breed=breed)),
        "box-per-point",
    ),
    "coco": (
        lambda r: {name: read_coco_keypoints(r.needs_annotations(), name) for name in r.needs_categories()},
        "box-per-point",
    ),
    "tracks": (lambda r: {"tracks": read_tracks(r.needs_annotations())}, "image-per-point"),
    "csv": (lambda r: {"own": read_pairs_csv(r.needs_annotations(), r.needs_root())}, "image-per-point"),
    "json": (lambda r: {"own": read_benchmark_json(r.needs_annotations())}, "box-per-point"),
    "synthetic": (lambda r: {CATEGORY: draw_collection(r.seed).benchmark}, "box-per-point"),
}


def read_benchmarks(name: str, request: Request) -> dict[str, KeypointBenchmark]:
    """The benchmarks of a name, by category.

    Raises:
        AnnotationError: A file is missing or malformed.
        ValueError: The name is unknown, or the request lacks something.
    """
    if name not in READERS:
        raise ValueError(f"--benchmark: expected one of {', '.join(READERS)}, got {name!r}")
    return READERS[name][0](request)
