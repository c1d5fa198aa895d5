"""A run with the collection it was made from, as the commands that show, score and use one need it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asic_cli.errors import InputError
from asic_cli.folder import INDEX_FILES

if TYPE_CHECKING:
    from asic_eval import KeypointBenchmark
    from asic_flow.alignment import Alignment
    from asic_flow.collection import ImageCollection
    from asic_flow.collection_folder import CollectionArrays
    from asic_flow.matches import MatchSet
    from asic_flow.run_folder import AlignmentArrays

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, read; torch is imported where its tensors are asked for.

    Attributes:
        folder: The run's.
        collection_folder: Where its collection lies.
        identity: The collection's.
        photos: The collection.
        matches: Its matches.
        maps: The alignment.
    """

    folder: Path
    collection_folder: Path
    identity: str
    photos: CollectionArrays
    matches: MatchSet
    maps: AlignmentArrays

    @cached_property
    def collection(self) -> ImageCollection:
        """`photos` in tensors."""
        from asic_flow.collection import ImageCollection

        return ImageCollection.of_arrays(self.photos)

    @cached_property
    def alignment(self) -> Alignment:
        """`maps` in tensors, which can carry points."""
        from asic_flow.alignment import Alignment

        return Alignment.of_arrays(self.maps)

    @property
    def title(self) -> str:
        """What to call it: the collection's folder."""
        return self.collection_folder.name

    def truth(self) -> KeypointBenchmark | None:
        """The collection's annotated points, or None; see `asic_cli.truth.read_truth` for the errors."""
        from asic_cli.truth import read_truth

        return read_truth(self.collection_folder, self.photos.settings)


def load_run(folder: Path) -> Run:
    """Reads a run and its collection, which lies where the run says: relative to itself, so both can be moved together.

    Raises:
        InputError: The collection is not recorded, or has changed since.
        RunError: The run is missing or damaged.
        CollectionError: The collection is.
    """
    from asic_flow.collection_folder import identity, read_collection
    from asic_flow.run_folder import AlignmentArrays, read_run_index

    record = read_run_index(folder).get("collection")
    if not isinstance(record, dict) or not isinstance(record.get("path"), str):
        raise InputError(f"{folder / INDEX_FILES['run']}, field 'collection': expected the collection's path")
    collection_folder = (folder / record["path"]).resolve()
    if not (collection_folder / INDEX_FILES["collection"]).exists():
        raise InputError(
            f"{folder}: its collection is no longer at {collection_folder}; keep both where they lie to each other"
        )
    photos, matches = read_collection(collection_folder)
    found = identity(collection_folder)
    if found != record.get("identity"):
        raise InputError(
            f"{collection_folder} has changed since {folder} was made; make the run again, with `asic train` or "
            "`asic add` and --fresh"
        )
    maps = AlignmentArrays.load(folder)
    if maps.photos != photos.photos or maps.size_hw != photos.size_hw:
        raise InputError(f"{folder / INDEX_FILES['run']}, field 'photos': expected those of {collection_folder}")
    return Run(folder, collection_folder, found, photos, matches, maps)


def read_summary(run: Run) -> dict[str, Any]:
    """What `asic eval` found of a run; nothing where it has not looked, or looked at an earlier run in this folder.

    Raises:
        InputError: `summary.json` cannot be read or is of another format.
    """
    path = run.folder / SUMMARY_FILE
    try:
        summary = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, got {error}; run `asic eval` again") from error
    if not isinstance(summary, dict) or (summary.get("format"), summary.get("version")) != ("asic-summary", 1):
        raise InputError(f"{path}, field 'format': expected 'asic-summary', version 1; run `asic eval` again")
    scored = summary.get("alignment")
    support = [round(value, 6) for value in run.maps.support.tolist()]
    return summary if isinstance(scored, dict) and scored.get("support") == support else {}
