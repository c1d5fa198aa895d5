"""Small benchmarks that a reader can check on paper, and the folder of real data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asic_eval import ImageKeypoints, KeypointBenchmark, all_pairs

# Needs torchmetrics, which is an extra; its own test skips without it.
collect_ignore = ["src/asic_eval/torch_metric.py"]
# What the session `mutation` leaves.
collect_ignore_glob = ["mutants/*"]
NAMES = ("nose", "left eye", "right eye", "tail")


@pytest.fixture
def benchmark() -> KeypointBenchmark:
    """Three images of 100 x 200 with boxes of longer side 40, 100 and 10; image 2 lacks the tail."""
    nan = np.nan
    return KeypointBenchmark(
        name="hand-made",
        keypoint_names=NAMES,
        images=(
            ImageKeypoints("a/0.png", (100, 200), (0, 0, 40, 20), [[0, 0], [10, 0], [20, 0], [30, 10]], [1, 1, 1, 1]),
            ImageKeypoints("a/1.png", (100, 200), (0, 0, 60, 100), [[5, 5], [15, 5], [25, 5], [50, 90]], [1, 1, 0, 1]),
            ImageKeypoints(
                "a/2.png", (100, 200), (10, 10, 20, 18), [[11, 11], [12, 12], [13, 13], [nan, nan]], [1, 1, 1, 0]
            ),
        ),
        pairs=all_pairs(3),
        mirror=np.array([0, 2, 1, 3]),
    )


@pytest.fixture
def random_benchmark() -> Callable[..., KeypointBenchmark]:
    """Draws a benchmark of any size."""

    def draw(seed: int, num_images: int = 5, num_keypoints: int = 6) -> KeypointBenchmark:
        rng = np.random.default_rng(seed)
        images = []
        for index in range(num_images):
            left, top = rng.uniform(0, 50, 2)
            width, height = rng.uniform(10, 60, 2)
            points = rng.uniform(0, 100, (num_keypoints, 2))
            visible = rng.random(num_keypoints) < 0.7
            points[~visible & (rng.random(num_keypoints) < 0.5)] = np.nan
            box = (left, top, left + width, top + height)
            images.append(ImageKeypoints(f"r/{index}.png", (120, 100 + index), box, points, visible))
        names = tuple(f"point {index}" for index in range(num_keypoints))
        return KeypointBenchmark("random", names, tuple(images), all_pairs(num_images))

    return draw


@pytest.fixture
def real_data() -> Path:
    """The folder that ASIC_REAL_DATA names."""
    folder = os.environ.get("ASIC_REAL_DATA")
    if not folder:
        pytest.skip("ASIC_REAL_DATA is not set: no real annotations to read")
    return Path(folder)
