"""The lists of CUB photos that ACSM and the works after it are scored on, in MATLAB files (extra `mat`).

Kanazawa et al., "Learning category-specific mesh reconstruction from image collections", 2018, made the lists;
Kulkarni et al., "Articulation-aware canonical surface mapping", 2020, draws 10,000 pairs from them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

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
        path: The file. Its pixels count from 1; ours from 0.
        num_random_pairs: Draw so many ordered pairs (the literature: 10,000) instead of taking all.
        seed: For drawing pairs.

    Returns:
        Image names are those of CUB's `images.txt`.

    Raises:
        ImportError: scipy is not installed: `pip install asic-eval[mat]`.
        AnnotationError: The file is missing or malformed.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError("reading .mat files needs scipy: pip install 'asic-eval[mat]'") from None
    try:
        data = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise AnnotationError(path, "file", f"expected a readable file, got {error.strerror}") from None
    try:
        content = loadmat(data, squeeze_me=True, struct_as_record=False, variable_names=["images"])
    except Exception as error:  # scipy's reader raises whatever a broken file leads it to
        raise AnnotationError(path, "file", f"expected a MATLAB 5 file: {error}") from None
    if "images" not in content:
        raise AnnotationError(path, "images", "expected a variable, got none of this name")
    images = tuple(
        _image(record, str(path), f"images[{index}]") for index, record in enumerate(np.atleast_1d(content["images"]))
    )
    pairs = all_pairs(len(images)) if num_random_pairs is None else random_pairs(len(images), num_random_pairs, seed)
    return KeypointBenchmark(f"acsm/{path.stem}", _PARTS, images, pairs, mirror_from_names(_PARTS))


def _image(record: Any, file: str, place: str) -> ImageKeypoints:
    def attribute(owner: Any, name: str) -> Any:
        if not hasattr(owner, name):
            raise AnnotationError(file, f"{place}.{name}", "expected a value, got no such field")
        return getattr(owner, name)

    def numbers(owner: Any, name: str, shape: tuple[int, ...]) -> Any:
        value = np.asarray(attribute(owner, name))
        if value.shape != shape or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise AnnotationError(file, f"{place}.{name}", f"expected finite numbers of shape {shape}")
        return value.astype(np.float64)

    bbox = attribute(record, "bbox")
    corners = [float(numbers(bbox, corner, ())) - 1.0 for corner in ("x1", "y1", "x2", "y2")]
    parts = numbers(record, "parts", (3, len(_PARTS))).T
    visible = parts[:, 2] > 0
    mask = np.asarray(attribute(record, "mask"))
    if mask.ndim != 2:
        raise AnnotationError(file, f"{place}.mask", f"expected a mask of two dimensions, got {mask.ndim}")
    name = Field(attribute(record, "rel_path"), file, f"{place}.rel_path").relative_path()
    points = np.where(visible[:, None], parts[:, :2] - 1.0, np.nan)
    return ImageKeypoints(
        name, (mask.shape[0], mask.shape[1]), Field(corners, file, f"{place}.bbox").box_xyxy(), points, visible
    )
