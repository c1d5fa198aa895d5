"""A collection's annotated points: `truth.json`, written before the index and named in it by its sha256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from asic_cli.errors import InputError
from asic_flow import atomic

if TYPE_CHECKING:
    from asic_eval import KeypointBenchmark
    from asic_flow.collection import ImageCollection

TRUTH_FILE = "truth.json"


class TruthError(InputError):
    """A collection's truth that is missing or is not the one that belongs to it."""


def truth_sha256(truth: KeypointBenchmark) -> str:
    """The sha256 of what `write_truth` writes."""
    return hashlib.sha256(_to_bytes(truth)).hexdigest()


def write_truth(folder: Path, truth: KeypointBenchmark) -> None:
    """Writes a collection's truth, whole or not at all."""
    atomic.write_bytes(folder / TRUTH_FILE, _to_bytes(truth))


def remove_truth(folder: Path) -> None:
    """Removes the truth of an earlier collection."""
    (folder / TRUTH_FILE).unlink(missing_ok=True)


def read_truth(folder: Path, collection: ImageCollection) -> KeypointBenchmark | None:
    """Reads a collection's truth; None where it has none.

    Raises:
        TruthError: The file is missing or is not the one that belongs to the collection.
        AnnotationError: Another version wrote it.
    """
    from asic_eval import KeypointBenchmark
    from asic_eval.fields import parse_json

    kept = collection.settings.get("truth_sha256")
    if kept is None:
        return None
    path = folder / TRUTH_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TruthError(f"{path}: {error.strerror}; run `asic features` again") from None
    if hashlib.sha256(data).hexdigest() != kept:
        raise TruthError(f"{path}: the content is not what was recorded (sha256); run `asic features` again")
    return KeypointBenchmark.from_json(parse_json(data.decode(), str(path)).value, file=str(path))


def _to_bytes(truth: KeypointBenchmark) -> bytes:
    return json.dumps(truth.to_json(), allow_nan=False).encode()
