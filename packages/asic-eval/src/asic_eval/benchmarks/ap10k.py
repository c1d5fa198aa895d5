"""AP-10K: 10,015 photos of 54 animal species with 17 keypoints, in COCO's format.

Yu et al., "AP-10K: A benchmark for animal pose estimation in the wild", 2021. As a correspondence benchmark, pairs are
drawn within a species or across species, of photos with one animal and at least three visible keypoints:
Zhang et al., "Telling left from right", 2024.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from asic_eval.benchmarks.coco import read_coco_keypoints
from asic_eval.keypoints import KeypointBenchmark

LEAST_VISIBLE = 3


def read_ap10k(
    root: Path,
    species: str,
    target_species: str | None = None,
    *,
    split: Literal["train", "val", "test"] = "test",
    fold: Literal[1, 2, 3] = 1,
) -> KeypointBenchmark:
    """Reads all ordered pairs within a species, or from one species to another.

    Args:
        root: The folder that holds `annotations/` and `data/`.
        species: The species of the source photos, and of the targets if no other is named.
        target_species: The species of the target photos.
        split: `train`, `val` or `test`.
        fold: Which of the three official splits.

    Returns:
        Image names are below `data/`.

    Raises:
        AnnotationError: The file is missing or malformed, or has no such species.
    """
    path = root / "annotations" / f"ap10k-{split}-split{fold}.json"
    source = read_coco_keypoints(path, species, least_visible=LEAST_VISIBLE)
    if target_species is None:
        return KeypointBenchmark(
            f"ap10k/{species}/{split}", source.keypoint_names, source.images, source.pairs, source.mirror
        )
    target = read_coco_keypoints(path, target_species, least_visible=LEAST_VISIBLE)
    first, second = np.arange(len(source.images)), len(source.images) + np.arange(len(target.images))
    pairs = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    title = f"ap10k/{species}-{target_species}/{split}"
    images = source.images + target.images
    return KeypointBenchmark(title, source.keypoint_names, images, pairs, source.mirror)
