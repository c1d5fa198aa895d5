"""Which photos a command is about: a folder of one's own, or part of a data set with its truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from asic_cli.errors import InputError
from asic_cli.folder import made_by_asic
from asic_cli.truth import one_image_each
from asic_features.images import SUFFIXES, PhotoSource, list_photos

if TYPE_CHECKING:
    from asic_eval import KeypointBenchmark

DataSet = Literal["cub", "spair", "stanford_dogs", "pf_pascal", "pf_willow", "ap10k"]
Box = tuple[float, float, float, float]
LEAST_PHOTOS = 2
PROTOCOLS: dict[str, str] = {
    "cub": "cub-asic-256",
    "spair": "spair-official",
    "stanford_dogs": "box-per-point",
    "pf_pascal": "pf-pascal",
    "pf_willow": "pf-willow",
    "ap10k": "ap10k",
}
"""The protocol that each data set is scored by."""

# The first that is there; the lists of Proposal Flow name their images from the root on.
_IMAGE_FOLDERS = {
    "cub": ("images",),
    "spair": ("JPEGImages",),
    "stanford_dogs": ("images", "Images"),
    "pf_pascal": ("",),
    "pf_willow": ("",),
    "ap10k": ("data",),
}
# These are shown to the model by their boxes, as the literature does; the others' photos are shown whole.
_CROPPED = frozenset({"cub", "stanford_dogs"})
_FLAGS = {
    "cub": frozenset({"species", "split"}),
    "spair": frozenset({"category", "split"}),
    "stanford_dogs": frozenset({"category"}),
    "pf_pascal": frozenset({"category", "split"}),
    "pf_willow": frozenset({"category"}),
    "ap10k": frozenset({"category", "split"}),
}
_ACSM_LISTS = ("{split}_cub_cleaned.mat", "cachedir/cub/data/{split}_cub_cleaned.mat")
_PF_PASCAL_LISTS = ("{split}_pairs_pf_pascal.csv", "{split}_pairs.csv", "image_pairs/{split}_pairs.csv")
_PF_WILLOW_LISTS = ("test_pairs_pf.csv", "test_pairs.csv")


@dataclass(frozen=True)
class Selection:
    """Which photos of a data set, as the flags say.

    Attributes:
        dataset: Its name; None for a folder of photos.
        species: CUB's class, a number or a name.
        category: SPair-71k's or Proposal Flow's category, a breed of the dogs, or a species of AP-10K.
        split: `test` and so on.
        limit: Only the first photos.
        every: Only every so many-th photo, from the first on: of frames of a video.
    """

    dataset: DataSet | None = None
    species: str | None = None
    category: str | None = None
    split: str | None = None
    limit: int | None = None
    every: int = 1


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
    refuse_flags(selection, "a folder of photos (no --dataset)", "species", "category", "split")
    # What an earlier command wrote below the photos is not one of them.
    found = [source for source in list_photos(root) if not _is_ours(root, source.path.parent)]
    return PhotoSet(
        title=root.resolve().name,
        source={"kind": "folder"} | ({} if selection.every == 1 else {"every": selection.every}),
        sources=tuple(found[:: selection.every][: selection.limit]),
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
    folders = [root / name for name in _IMAGE_FOLDERS[dataset]]
    images = next((folder for folder in folders if folder.is_dir()), folders[0])
    sources = tuple(
        PhotoSource(
            images / image.name,
            image.name,
            box_xyxy=image.box_xyxy if dataset in _CROPPED else None,
            object_xyxy=image.box_xyxy,
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
    refuse_flags(selection, f"--dataset {dataset}", *sorted({"species", "category", "split"} - _FLAGS[dataset]))
    if selection.every != 1:
        raise InputError("--every is for frames of a video (no --dataset); drop it")
    truth = _READERS[dataset](root, selection)
    return truth if selection.limit is None else truth.select(range(min(selection.limit, len(truth.images))))


def _read_cub(root: Path, selection: Selection) -> KeypointBenchmark:
    from asic_eval.benchmarks.cub import Split, read_cub

    species = _required(selection, "species", "cub")
    split = _one_of(selection.split, ("train", "val", "test"), "cub")
    number = int(species) if species.isascii() and species.isdigit() else species
    names = [pattern.format(split=split or "test") for pattern in _ACSM_LISTS]
    found = next((root / name for name in names if (root / name).is_file()), None)
    if found is not None:
        return _read_acsm(found, number)
    if split not in (None, *get_args(Split)):
        raise InputError(f"--split {split}: CUB has none, ACSM's lists do; copy {names[0]} to {root}")
    return read_cub(root, number, selection.limit, split=split)


def _read_acsm(path: Path, species: int | str) -> KeypointBenchmark:
    """The photos of one species in one of ACSM's lists, with the boxes and points that it gives them."""
    from asic_eval.benchmarks.acsm import read_acsm_cub
    from asic_eval.keypoints import all_pairs

    # The pairs of the whole list are thousands squared.
    every = read_acsm_cub(path, num_random_pairs=0)
    folders = sorted({image.name.partition("/")[0] for image in every.images})
    folder = next((name for name in folders if species in (name, _class_number(name))), None)
    if folder is None:
        known = ", ".join(folders[:3])
        raise ValueError(f"species: expected one of the {len(folders)} in {path.name} ({known}, ...), got {species!r}")
    chosen = every.select([image.name for image in every.images if image.name.startswith(f"{folder}/")])
    return replace(chosen, name=f"{every.name}/{folder}", pairs=all_pairs(len(chosen.images)))


def _class_number(folder: str) -> int | None:
    number = folder.partition(".")[0]
    return int(number) if number.isascii() and number.isdigit() else None


def _read_spair(root: Path, selection: Selection) -> KeypointBenchmark:
    from asic_eval.benchmarks.spair import Split, read_spair

    split = _one_of(selection.split or "test", get_args(Split), "spair")
    return read_spair(root, _required(selection, "category", "spair"), split)


def _read_stanford_dogs(root: Path, selection: Selection) -> KeypointBenchmark:
    from asic_eval.benchmarks.coco import read_stanford_dogs

    return read_stanford_dogs(root, breed=selection.category)


def _read_pf_pascal(root: Path, selection: Selection) -> KeypointBenchmark:
    from asic_eval.benchmarks.pf_pascal import read_pf_pascal

    split = _one_of(selection.split or "test", ("trn", "val", "test"), "pf_pascal")
    pairs = _first_list(root, [name.format(split=split) for name in _PF_PASCAL_LISTS])
    return one_image_each(read_pf_pascal(pairs, root, _required(selection, "category", "pf_pascal")))


def _read_pf_willow(root: Path, selection: Selection) -> KeypointBenchmark:
    from asic_eval.benchmarks.pf_willow import read_pf_willow

    category = _required(selection, "category", "pf_willow")
    return one_image_each(read_pf_willow(_first_list(root, _PF_WILLOW_LISTS), root, category), same_points=True)


def _read_ap10k(root: Path, selection: Selection) -> KeypointBenchmark:
    from asic_eval.benchmarks.ap10k import read_ap10k

    split = _one_of(selection.split or "test", ("train", "val", "test"), "ap10k")
    return read_ap10k(root, _required(selection, "category", "ap10k"), split=split)


_READERS: dict[DataSet, Callable[[Path, Selection], KeypointBenchmark]] = {
    "cub": _read_cub,
    "spair": _read_spair,
    "stanford_dogs": _read_stanford_dogs,
    "pf_pascal": _read_pf_pascal,
    "pf_willow": _read_pf_willow,
    "ap10k": _read_ap10k,
}


def _first_list(root: Path, names: Sequence[str]) -> Path:
    paths = [root / name for name in names]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise InputError(f"{root}: expected a list of pairs, one of {', '.join(names)}; copy it there")
    return found


def _required(selection: Selection, flag: str, dataset: str) -> str:
    value = getattr(selection, flag)
    if value is None:
        raise InputError(f"--dataset {dataset}: expected --{flag}")
    return str(value)


def _one_of(value: str | None, allowed: tuple[Any, ...], dataset: str) -> Any:
    if value is not None and value not in allowed:
        raise InputError(f"--dataset {dataset}: expected a --split of {', '.join(allowed)}, got {value!r}")
    return value


def refuse_flags(selection: Selection, what: str, *flags: str) -> None:
    """Stops at flags that say nothing of what is read.

    Raises:
        InputError: One of the flags was given.
    """
    for flag in flags:
        if getattr(selection, flag) is not None:
            raise InputError(f"--{flag} does not go with {what}; drop it")
