"""PF-PASCAL: pairs of PASCAL photos of 20 categories, each pair with keypoints of its own.

Ham et al., "Proposal flow: semantic correspondences from object proposals", 2017. The lists are those that everyone
uses: `test_pairs_pf_pascal.csv` and its siblings, with the points of a pair in one cell, separated by semicolons.
Coordinates are taken as the lists give them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asic_eval.benchmarks.image_size import read_image_size
from asic_eval.fields import Field, read_csv
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, benchmark_of_point_pairs

CATEGORIES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def read_pf_pascal(pairs_csv: Path, root: Path, category: str | None = None) -> KeypointBenchmark:
    """Reads the pairs of one category, or of all.

    Args:
        pairs_csv: The list: columns source_image, target_image, class (1 to 20), XA, YA, XB, YB.
        root: The folder that the list's image paths start from.
        category: One of `CATEGORIES`, or None for all.

    Returns:
        An image of several pairs appears once for each pair: keypoints have no identity beyond their pair. There are
        no boxes; the protocol's length is the target photo's longer side.

    Raises:
        AnnotationError: The list or an image's header is malformed.
        ValueError: The category is unknown.
    """
    if category is not None and category not in CATEGORIES:
        raise ValueError(f"category: expected one of {', '.join(CATEGORIES)}, got {category!r}")
    kept = []
    most = 0
    for row in read_csv(pairs_csv, ("source_image", "target_image", "class", "XA", "YA", "XB", "YB")):
        number = row["class"].parsed_integer(1)
        if number > len(CATEGORIES):
            raise row["class"].error(f"a class from 1 to {len(CATEGORIES)}")
        if category in (None, CATEGORIES[number - 1]):
            coordinates = {column: row[column].parsed_numbers(";") for column in ("XA", "YA", "XB", "YB")}
            if len({len(values) for values in coordinates.values()}) != 1:
                raise row["XA"].error("as many numbers as YA, XB and YB have")
            most = max(most, len(coordinates["XA"]))
            kept.append((row, coordinates))
    ends = [
        (
            _image(root, row["source_image"], coordinates["XA"], coordinates["YA"], most),
            _image(root, row["target_image"], coordinates["XB"], coordinates["YB"], most),
        )
        for row, coordinates in kept
    ]
    title = "pf-pascal" if category is None else f"pf-pascal/{category}"
    return benchmark_of_point_pairs(title, ends, tuple(str(index) for index in range(most)))


def _image(root: Path, name: Field, x: list[float], y: list[float], count: int) -> ImageKeypoints:
    points = np.full((count, 2), np.nan)
    points[: len(x)] = np.stack([x, y], axis=1)
    size_hw = read_image_size(root / name.relative_path())
    return ImageKeypoints(name.relative_path(), size_hw, None, points, np.arange(count) < len(x))
