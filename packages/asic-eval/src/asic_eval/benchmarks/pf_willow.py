"""PF-WILLOW: 900 pairs of photos of cars, ducks, motorbikes and wine bottles with 10 keypoints.

Ham et al., "Proposal flow", 2016, with the list `test_pairs.csv` that everyone uses. Not "WILLOW-ObjectClass".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asic_eval.benchmarks.image_size import read_image_size
from asic_eval.fields import Field, read_csv
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, benchmark_of_point_pairs

NUM_KEYPOINTS = 10


def read_pf_willow(pairs_csv: Path, root: Path, category: str | None = None) -> KeypointBenchmark:
    """Reads the pairs of one category, or of all.

    Args:
        pairs_csv: The list: two image paths, then 10 x and 10 y of the source and the same of the target.
        root: The folder that the list's image paths start from.
        category: The name of an image folder, such as `car(G)`, or None for all.

    Returns:
        A keypoint at (-1, -1) is absent, never a position: counted as one, this padding has inflated scores from 70
        to 80. There are no boxes; the protocol's length is the longer side of the target's keypoint extent.

    Raises:
        AnnotationError: The list or an image's header is malformed, or no pair is of the category.
    """
    ends = []
    for row in read_csv(pairs_csv, 2 + 4 * NUM_KEYPOINTS):
        source, target = row["0"], row["1"]
        if category is None or category in source.relative_path().split("/")[:-1]:
            ends.append((_image(root, source, row, 2), _image(root, target, row, 2 + 2 * NUM_KEYPOINTS)))
    if not ends:
        raise Field([], str(pairs_csv), "file").error("pairs" if category is None else f"pairs of {category!r}")
    title = "pf-willow" if category is None else f"pf-willow/{category}"
    return benchmark_of_point_pairs(title, ends, tuple(str(index) for index in range(NUM_KEYPOINTS)))


def _image(root: Path, name: Field, row: dict[str, Field], first: int) -> ImageKeypoints:
    values = [row[str(first + index)].parsed_number() for index in range(2 * NUM_KEYPOINTS)]
    points = np.array(values).reshape(2, NUM_KEYPOINTS).T
    visible = ~(points == -1.0).all(axis=1)
    points[~visible] = np.nan
    size_hw = read_image_size(root / name.relative_path())
    return ImageKeypoints(name.relative_path(), size_hw, None, points, visible)
