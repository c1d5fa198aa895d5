"""The lists of CUB photos that ACSM and the works after it are scored on, in MATLAB files.

Kanazawa et al., "Learning category-specific mesh reconstruction from image collections", 2018, made the lists;
Kulkarni et al., "Articulation-aware canonical surface mapping", 2020, draws 10,000 pairs from them, scores both
directions of each, and may draw an image twice; ASIC takes all ordered pairs of a species.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asic_eval.benchmarks.mat_file import read_mat_variable
from asic_eval.fields import AnnotationError, Field
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, all_pairs, mirror_from_names, random_pairs

_PARTS = (
    "back",
    "beak",
    "belly",
    "breast",
    "crown",
    "forehead",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
    "right wing",
    "tail",
    "throat",
)


def read_acsm_cub(path: Path, *, num_random_pairs: int | None = None, seed: int = 0) -> KeypointBenchmark:
    """Reads `test_cub_cleaned.mat` or `val_cub_cleaned.mat`.

    Args:
        path: The file. Its pixels count from 1, ours from 0, and its boxes name their first and last pixels, so that
            ours reach half a pixel beyond.
        num_random_pairs: Draw so many ordered pairs (the literature: 10,000) instead of taking all.
        seed: For drawing pairs.

    Returns:
        Image names are those of CUB's `images.txt`.

    Raises:
        AnnotationError: The file is missing or malformed.
    """
    records = read_mat_variable(path, "images")
    if not isinstance(records, list):
        raise AnnotationError(path, "images", "expected a struct array")
    # A cell array of structs, each in a list of its own, is as good as a struct array.
    flat = [record[0] if isinstance(record, list) and len(record) == 1 else record for record in records]
    images = tuple(_image(Field(record, str(path), f"images[{index}]")) for index, record in enumerate(flat))
    pairs = all_pairs(len(images)) if num_random_pairs is None else random_pairs(len(images), num_random_pairs, seed)
    return KeypointBenchmark(f"acsm/{path.stem}", _PARTS, images, pairs, mirror_from_names(_PARTS))


def _image(record: Field) -> ImageKeypoints:
    bbox = record.key("bbox")
    if isinstance(bbox.value, list) and len(bbox.value) == 1:
        bbox = Field(bbox.value[0], bbox.file, bbox.place)
    shifts = {"x1": -1.5, "y1": -1.5, "x2": -0.5, "y2": -0.5}
    corners = [float(_numbers(bbox.key(corner), (1, 1))[0, 0]) + shift for corner, shift in shifts.items()]
    parts = _numbers(record.key("parts"), (3, len(_PARTS))).T
    visible = parts[:, 2] > 0
    if not np.isfinite(parts[visible]).all():
        raise record.key("parts").error("a position for every visible part")
    height, width = _numbers(record.key("mask"), (None, None)).shape
    points = np.where(visible[:, None], parts[:, :2] - 1.0, np.nan)
    size = Field([height, width], record.file, f"{record.place}.mask").size_hw()
    box = Field(corners, bbox.file, bbox.place).box_xyxy()
    return ImageKeypoints(record.key("rel_path").relative_path(), size, box, points, visible)


def _numbers(field: Field, shape: tuple[int | None, int | None]) -> NDArray[Any]:
    value = field.value
    fits = isinstance(value, np.ndarray) and value.ndim == 2
    if not fits or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        raise field.error(f"numbers of {wanted}")
    return np.asarray(value)
