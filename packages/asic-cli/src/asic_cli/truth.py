"""A collection's annotated points: `truth.json`, written before the index and named in it by its sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asic_cli.errors import InputError

if TYPE_CHECKING:
    from asic_eval import KeypointBenchmark

TRUTH_FILE = "truth.json"


class TruthError(InputError):
    """A collection's truth that is missing or is not the one that belongs to it."""


def one_image_each(truth: KeypointBenchmark, *, same_points: bool = False) -> KeypointBenchmark:
    """A benchmark of pairs that each bring their own two images, with every photo once.

    In PF-PASCAL a keypoint means something within its pair only, and a photo comes once for each of its pairs. Here
    each pair keeps its keypoints apart from those of the others, so that scores stay what they were.

    Args:
        truth: Images 2 p and 2 p + 1 are those of pair p.
        same_points: Whether a photo has the same points in all its pairs (PF-WILLOW): they are then kept once.

    Raises:
        InputError: A photo has other points in another pair, though they should be the same.
    """
    import numpy as np

    from asic_eval import ImageKeypoints

    first: dict[str, int] = {}
    for index, image in enumerate(truth.images):
        first.setdefault(image.name, index)
    new_index = {name: row for row, name in enumerate(first)}
    pairs = np.array([[new_index[truth.images[end].name] for end in pair] for pair in truth.pairs.tolist()], np.int64)
    if same_points:
        for image in truth.images:
            if not np.array_equal(image.points_image, truth.images[first[image.name]].points_image, equal_nan=True):
                raise InputError(f"{truth.name}: {image.name} has other keypoints in another pair; check the list")
        images = tuple(truth.images[index] for index in first.values())
        return replace(truth, images=images, pairs=pairs.reshape(-1, 2))
    width, count = len(truth.keypoint_names), len(truth.pairs)
    points = np.full((len(first), count, width, 2), np.nan)
    visible = np.zeros((len(first), count, width), np.bool_)
    asked = np.zeros((count, count, width), np.bool_)
    for row, (ends, new_ends) in enumerate(zip(truth.pairs.tolist(), pairs.tolist(), strict=True)):
        asked[row, row] = truth.asked[row]
        for end, new_end in zip(ends, new_ends, strict=True):
            points[new_end, row] = truth.images[end].points_image
            visible[new_end, row] = truth.images[end].visible
    used = visible.any(axis=0).reshape(-1)
    names = [f"{row}:{name}" for row in range(count) for name in truth.keypoint_names]
    merged = []
    for row, index in enumerate(first.values()):
        image = truth.images[index]
        flat_points, flat_visible = points[row].reshape(-1, 2)[used], visible[row].reshape(-1)[used]
        merged.append(ImageKeypoints(image.name, image.size_hw, image.box_xyxy, flat_points, flat_visible))
    return replace(
        truth,
        keypoint_names=tuple(name for name, kept in zip(names, used, strict=True) if kept),
        images=tuple(merged),
        pairs=pairs.reshape(-1, 2),
        mirror=None,
        pair_visible=asked.reshape(count, -1)[:, used],
    )


def truth_sha256(truth: KeypointBenchmark) -> str:
    """The sha256 of `truth_file`."""
    return hashlib.sha256(truth_file(truth)).hexdigest()


def read_truth(folder: Path, settings: Mapping[str, Any]) -> KeypointBenchmark | None:
    """Reads the truth of a collection with these settings; None where it has none.

    Its images are the collection's photos in their order, or the first of them: photos that were added later have none.

    Raises:
        TruthError: The file is missing or is not the one that belongs to the collection.
        AnnotationError: Another version wrote it.
    """
    from asic_eval import KeypointBenchmark
    from asic_eval.fields import parse_json

    kept = settings.get("truth_sha256")
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


def truth_file(truth: KeypointBenchmark) -> bytes:
    """The content of `truth.json`."""
    return json.dumps(truth.to_json(), allow_nan=False).encode()
