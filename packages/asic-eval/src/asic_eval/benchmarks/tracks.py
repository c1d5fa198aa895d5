"""Point tracks in the manner of TAP-Vid: the same physical points in every frame of a video.

Doersch et al., "TAP-Vid: A benchmark for tracking any point in a video", 2022. TAP-Vid itself comes as pickles, which
this package does not open; the same arrays in an `.npz` file are read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from asic_eval.arrays import read_arrays
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, all_pairs


def read_tracks(path: Path, *, pairs: Literal["first", "all"] = "first") -> KeypointBenchmark:
    """Reads tracks as keypoints, frames as images.

    Args:
        path: An `.npz` file with `points` (K, T, 2), xy as fractions of width and height where (0, 0) is the corner of
            the first pixel, as TAP-Vid has it; `occluded` (K, T); and `size_hw` (2,), whole numbers.
        pairs: From the first frame to every other, or `all` ordered pairs.

    Returns:
        Image names are `000000`, `000001`, ...; points are in pixels whose centres are whole numbers, so half a pixel
        less than TAP-Vid's.

    Raises:
        AnnotationError: The file is missing, malformed, or an array has another shape or content.
    """
    arrays = read_arrays(path)
    points = arrays.numbers("points", (None, None, 2))
    occluded = arrays.flags("occluded", points.shape[:2])
    height, width = (int(side) for side in arrays.whole_numbers("size_hw", (2,), low=1))
    in_pixels = points * (width, height) - 0.5
    visible = ~occluded
    if not np.isfinite(in_pixels[visible]).all():
        raise arrays.error("points", "expected a position wherever a point is not occluded")
    frames = tuple(
        ImageKeypoints(f"{frame:06d}", (height, width), None, in_pixels[:, frame], visible[:, frame])
        for frame in range(points.shape[1])
    )
    asked = all_pairs(len(frames))
    names = tuple(str(index) for index in range(len(points)))
    return KeypointBenchmark("tracks", names, frames, asked if pairs == "all" else asked[asked[:, 0] == 0])
