"""Which photos a command is about: a folder of one's own, or part of a data set with its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from asic_cli.errors import InputError
from asic_cli.folder import made_by_asic
from asic_features.images import SUFFIXES, PhotoSource, list_photos

if TYPE_CHECKING:
    from asic_eval import KeypointBenchmark

DataSet = Literal["cub", "spair", "stanford_dogs"]
Box = tuple[float, float, float, float]
LEAST_PHOTOS = 2
PROTOCOLS: dict[str, str] = {"cub": "cub-asic-256", "spair": "spair-official", "stanford_dogs": "box-per-point"}
"""The protocol that each data set is scored by."""

_IMAGE_FOLDERS = {"cub": "images", "spair": "JPEGImages", "stanford_dogs": "images"}
# These are shown to the model by their boxes, as the literature does; SPair-71k's photos are shown whole.
_CROPPED = frozenset({"cub", "stanford_dogs"})


@dataclass(frozen=True)
class Selection:
    """Which photos of a data set, as the flags say.

    Attributes:
        dataset: Its name; None for a folder of photos.
        species: CUB's class, a number or a name.
        category: SPair-71k's category, or a breed of the dogs.
        split: `test` and so on.
        limit: Only the first photos.
    """

    dataset: DataSet | None = None
    species: str | None = None
    category: str | None = None
    split: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class PhotoSet:
    """Photos with what is known about them.

    Attributes:
        title: A name for the folder they go to.
        source: What the collection's settings record of where they came from.
        sources: The photos.
        boxes: Objects' boxes by photo name, also where the whole photo is shown.
        truth: The annotated points, or None.
    """

    title: str
    source: dict[str, Any]
    sources: tuple[PhotoSource, ...]
    boxes: dict[str, Box]
    truth: KeypointBenchmark | None

    def keep(self, names: Sequence[str]) -> PhotoSet:
        """The photos of some names, in the order of all."""
        kept = [source.name for source in self.sources if source.name in set(names)]
        return replace(
            self,
            sources=tuple(source for source in self.sources if source.name in set(kept)),
            truth=None if self.truth is None else self.truth.select(kept),
        )


def find_photos(root: Path, selection: Selection) -> PhotoSet:
    """Finds the photos that the flags ask for; decodes none.

    Args:
        root: A folder of photos, or the data set's root.
        selection: Which of them.

    Raises:
        InputError: Flags do not fit the data set, or there are fewer than two photos.
        AnnotationError: An annotation file is missing or malformed.
        PhotoError: The folder cannot be read.
    """
    photos = _folder(root, selection) if selection.dataset is None else _data_set(root, selection, selection.dataset)
    count = len(photos.sources)
    if count < LEAST_PHOTOS:
        found = "no photo" if count == 0 else f"only one photo, {photos.sources[0].name},"
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise InputError(f"{root}: {found} was found ({kinds}, at any depth); at least {LEAST_PHOTOS} are needed")
    return photos


def _folder(root: Path, selection: Selection) -> PhotoSet:
    _refuse_flags(selection, "a folder of photos (no --dataset)", "species", "category", "split")
    # What an earlier command wrote below the photos is not one of them.
    found = [source for source in list_photos(root) if not _is_ours(root, source.path.parent)]
    return PhotoSet(
        title=root.resolve().name,
        source={"kind": "folder"},
        sources=tuple(found[: selection.limit]),
        boxes={},
        truth=None,
    )


def _is_ours(root: Path, folder: Path) -> bool:
    while folder != root:
        if made_by_asic(folder):
            return True
        folder = folder.parent
    return False


def _data_set(root: Path, selection: Selection, dataset: DataSet) -> PhotoSet:
    from asic_eval import AnnotationError

    try:
        truth = _read_truth(root, selection, dataset)
    except AnnotationError:
        raise
    except ValueError as error:
        raise InputError(f"--dataset {dataset}: {error}") from error
    images = root / _IMAGE_FOLDERS[dataset]
    sources = tuple(
        PhotoSource(
            images / image.name,
            image.name,
            box_xyxy=image.box_xyxy if dataset in _CROPPED else None,
            size_hw=image.size_hw,
        )
        for image in truth.images
    )
    return PhotoSet(
        title=truth.name.replace("/", "-"),
        source={"kind": dataset, "benchmark": truth.name, "limit": selection.limit},
        sources=sources,
        boxes={image.name: image.box_xyxy for image in truth.images if image.box_xyxy is not None},
        truth=truth,
    )


def _read_truth(root: Path, selection: Selection, dataset: DataSet) -> KeypointBenchmark:
    from asic_eval.benchmarks.coco import read_stanford_dogs
    from asic_eval.benchmarks.cub import Split as CubSplit
    from asic_eval.benchmarks.cub import read_cub
    from asic_eval.benchmarks.spair import Split as SpairSplit
    from asic_eval.benchmarks.spair import read_spair

    if dataset == "cub":
        _refuse_flags(selection, "--dataset cub", "category")
        species = _required(selection, "species", "cub")
        split = _one_of(selection.split, get_args(CubSplit), dataset)
        number = int(species) if species.isascii() and species.isdigit() else species
        return read_cub(root, number, selection.limit, split=split)
    _refuse_flags(selection, f"--dataset {dataset}", "species")
    if dataset == "spair":
        split = _one_of(selection.split or "test", get_args(SpairSplit), dataset)
        truth = read_spair(root, _required(selection, "category", "spair"), split or "test")
    else:
        _refuse_flags(selection, "--dataset stanford_dogs", "split")
        truth = read_stanford_dogs(root, breed=selection.category)
    return truth if selection.limit is None else truth.select(range(min(selection.limit, len(truth.images))))


def _required(selection: Selection, flag: str, dataset: str) -> str:
    value = getattr(selection, flag)
    if value is None:
        raise InputError(f"--dataset {dataset}: expected --{flag}")
    return str(value)


def _one_of(value: str | None, allowed: tuple[Any, ...], dataset: str) -> Any:
    if value is not None and value not in allowed:
        raise InputError(f"--dataset {dataset}: expected a --split of {', '.join(allowed)}, got {value!r}")
    return value


def _refuse_flags(selection: Selection, what: str, *flags: str) -> None:
    for flag in flags:
        if getattr(selection, flag) is not None:
            raise InputError(f"--{flag} does not go with {what}; drop it")
