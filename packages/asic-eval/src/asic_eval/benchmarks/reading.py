"""Benchmarks by name, for command lines: which reader, which options, which protocol by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asic_eval.benchmarks.acsm import read_acsm_cub
from asic_eval.benchmarks.ap10k import read_ap10k, read_ap10k_pairs
from asic_eval.benchmarks.coco import read_coco_keypoints, read_stanford_dogs
from asic_eval.benchmarks.cub import names_by_id, read_cub
from asic_eval.benchmarks.pairs_file import read_benchmark_json, read_pair_list, read_pairs_csv
from asic_eval.benchmarks.pf_pascal import read_pf_pascal
from asic_eval.benchmarks.pf_willow import read_pf_willow
from asic_eval.benchmarks.spair import CATEGORIES, read_spair
from asic_eval.benchmarks.synthetic import CATEGORY, draw_collection
from asic_eval.benchmarks.tracks import read_tracks
from asic_eval.keypoints import KeypointBenchmark, random_pairs


@dataclass(frozen=True)
class Request:
    """What to read. What is None or empty was not asked for.

    Args:
        root: The folder that holds the data set, or images.
        categories: Categories, species or breeds.
        split: The split's name, where the data set has splits.
        limit: Only the first images of each category.
        annotations: The annotation file, for benchmarks that are one.
        seed: Of a drawn collection, or of drawn pairs; 0 where it is needed and not given.
        pairs: A file of the pairs to ask for, instead of all.
        random_pairs: Draw so many pairs instead of taking all.
    """

    root: Path | None = None
    categories: tuple[str, ...] = ()
    split: str | None = None
    limit: int | None = None
    annotations: Path | None = None
    seed: int | None = None
    pairs: Path | None = None
    random_pairs: int | None = None

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

    def one_of(self, *splits: str) -> str:
        """The split, which must be one of some; the first of them where none is given.

        Raises:
            ValueError: It is another one.
        """
        split = self.split or splits[0]
        if split not in splits:
            raise ValueError(f"--split: expected one of {', '.join(splits)}, got {split!r}")
        return split


@dataclass(frozen=True)
class Reader:
    """A benchmark's reader.

    Args:
        read: Gives the benchmarks by category.
        protocol: The protocol that it is scored by where no other is named.
        takes: The parts of a request that it looks at.
    """

    read: Callable[[Request], dict[str, KeypointBenchmark]]
    protocol: str
    takes: tuple[str, ...]


_FLAGS = {
    "root": "--root",
    "categories": "--category",
    "split": "--split",
    "limit": "--limit",
    "annotations": "--annotations",
    "seed": "--seed",
    "pairs": "--pairs",
    "random_pairs": "--random-pairs",
}
# Where any two photos make a pair, they may be chosen.
_CHOICE = ("limit", "seed", "pairs", "random_pairs")


def _chosen(
    benchmark: KeypointBenchmark, request: Request, other_names: Mapping[str, str] | None = None
) -> KeypointBenchmark:
    """The benchmark with the images and pairs that the request asks for; images may go by other names, too."""
    if request.limit is not None and request.limit < len(benchmark.images):
        benchmark = benchmark.select(range(request.limit))
    if request.pairs is not None:
        index_of = {image.name: index for index, image in enumerate(benchmark.images)}
        index_of |= {other: index_of[name] for other, name in (other_names or {}).items() if name in index_of}
        return replace(benchmark, pairs=read_pair_list(request.pairs, index_of), pair_visible=None)
    if request.random_pairs is not None:
        drawn = random_pairs(len(benchmark.images), request.random_pairs, request.seed or 0)
        return replace(benchmark, pairs=drawn, pair_visible=None)
    return benchmark


def _spair(request: Request) -> dict[str, KeypointBenchmark]:
    split, root = request.one_of("test", "val", "trn"), request.needs_root()
    names = request.categories or CATEGORIES
    return {name: _chosen(read_spair(root, name, split), request) for name in names}  # type: ignore[arg-type]


def _cub(request: Request) -> dict[str, KeypointBenchmark]:
    split = None if request.split is None else request.one_of("train", "test")
    whole = request.pairs is not None or request.random_pairs is not None
    if not request.categories and not whole:
        raise ValueError("--category: expected a species; all of them only with --pairs or --random-pairs")
    root = request.needs_root()
    benchmarks = {}
    for name in request.categories or ("cub",):
        species = int(name) if name.isascii() and name.isdigit() else name
        # Millions of pairs that nobody asks for are not listed.
        benchmark = read_cub(
            root,
            species if request.categories else None,
            request.limit,
            split=split,  # type: ignore[arg-type]
            num_random_pairs=0 if whole else None,
        )
        benchmarks[name] = _chosen(benchmark, request, names_by_id(root) if request.pairs else None)
    return benchmarks


def _by_category(
    request: Request, title: str, read: Callable[[str | None], KeypointBenchmark]
) -> dict[str, KeypointBenchmark]:
    if not request.categories:
        return {title: read(None)}
    return {name: read(name) for name in request.categories}


def _ap10k(request: Request) -> dict[str, KeypointBenchmark]:
    names, root = request.needs_categories(), request.needs_root()
    split = request.one_of("test", "val", "train")
    return {name: _chosen(read_ap10k(root, name, split=split), request) for name in names}  # type: ignore[arg-type]


def _ap10k_pairs(request: Request) -> dict[str, KeypointBenchmark]:
    crossings = (f"{part}_cross_{kind}" for part in ("test", "val") for kind in ("species", "family"))
    splits = ("test", "val", "trn", *crossings)
    names, root, split = request.needs_categories(), request.needs_root(), request.one_of(*splits)
    return {name: read_ap10k_pairs(root, name, split) for name in names}  # type: ignore[arg-type]


READERS: Mapping[str, Reader] = {
    "spair": Reader(_spair, "spair-official", ("root", "categories", "split", "limit")),
    "cub": Reader(_cub, "cub-asic-256", ("root", "categories", "split", *_CHOICE)),
    "acsm-cub": Reader(
        lambda r: {"cub": _chosen(read_acsm_cub(r.needs_annotations()), r)}, "cub-asic-256", ("annotations", *_CHOICE)
    ),
    "pf-pascal": Reader(
        lambda r: _by_category(r, "pf-pascal", lambda c: read_pf_pascal(r.needs_annotations(), r.needs_root(), c)),
        "pf-pascal",
        ("root", "annotations", "categories"),
    ),
    "pf-willow": Reader(
        lambda r: _by_category(r, "pf-willow", lambda c: read_pf_willow(r.needs_annotations(), r.needs_root(), c)),
        "pf-willow",
        ("root", "annotations", "categories"),
    ),
    "ap10k": Reader(_ap10k, "ap10k", ("root", "categories", "split", *_CHOICE)),
    "ap10k-pairs": Reader(_ap10k_pairs, "ap10k", ("root", "categories", "split")),
    "stanford-dogs": Reader(
        lambda r: _by_category(r, "dog", lambda breed: _chosen(read_stanford_dogs(r.needs_root(), breed=breed), r)),
        "box-per-point",
        ("root", "categories", *_CHOICE),
    ),
    "coco": Reader(
        lambda r: {name: _chosen(read_coco_keypoints(r.needs_annotations(), name), r) for name in r.needs_categories()},
        "box-per-point",
        ("annotations", "categories", *_CHOICE),
    ),
    "tracks": Reader(lambda r: {"tracks": read_tracks(r.needs_annotations())}, "image-per-point", ("annotations",)),
    "csv": Reader(
        lambda r: {"own": read_pairs_csv(r.needs_annotations(), r.needs_root())},
        "image-per-point",
        ("root", "annotations"),
    ),
    "json": Reader(
        lambda r: {"own": _chosen(read_benchmark_json(r.needs_annotations()), r)},
        "box-per-point",
        ("annotations", *_CHOICE),
    ),
    "synthetic": Reader(lambda r: {CATEGORY: draw_collection(r.seed or 0).benchmark}, "box-per-point", ("seed",)),
}


def read_benchmarks(name: str, request: Request) -> dict[str, KeypointBenchmark]:
    """The benchmarks of a name, by category.

    Raises:
        AnnotationError: A file is missing or malformed.
        ValueError: The name is unknown, the request lacks something, or has something that the reader does not look at.
    """
    if name not in READERS:
        raise ValueError(f"--benchmark: expected one of {', '.join(READERS)}, got {name!r}")
    reader = READERS[name]
    for part, flag in _FLAGS.items():
        if part not in reader.takes and getattr(request, part) not in (None, ()):
            taken = ", ".join(_FLAGS[part] for part in reader.takes)
            raise ValueError(f"{flag}: does not go with --benchmark {name}, which takes {taken}")
    if request.pairs is not None and request.random_pairs is not None:
        raise ValueError("--pairs, --random-pairs: expected one of them, got both")
    if request.limit is not None and request.limit < 1:
        raise ValueError(f"--limit: expected at least 1, got {request.limit}")
    if request.random_pairs is not None and request.random_pairs < 1:
        raise ValueError(f"--random-pairs: expected at least 1, got {request.random_pairs}")
    if request.seed is not None and request.seed < 0:
        raise ValueError(f"--seed: expected at least 0, got {request.seed}")
    return reader.read(request)
