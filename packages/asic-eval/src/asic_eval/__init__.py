"""Metrics, protocols and benchmarks of semantic correspondence, with numpy and nothing else.

Points are xy in the original photo's pixels; a pixel's centre is its integer coordinate. Scores are fractions in 0..1.
"""

from __future__ import annotations

from asic_eval.cycles import CycleCounts, CyclePck, Transfer, cycle_pck, grid_cycle_pck, sample_cycles
from asic_eval.fields import AnnotationError
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, all_pairs, mirror_from_names, random_pairs
from asic_eval.pck import (
    PckCounts,
    PointErrors,
    count_pck,
    count_pck_by_keypoint,
    pck,
    point_errors,
    threshold_lengths,
)

__all__ = [
    "AnnotationError",
    "CycleCounts",
    "CyclePck",
    "ImageKeypoints",
    "KeypointBenchmark",
    "PckCounts",
    "PointErrors",
    "Transfer",
    "all_pairs",
    "count_pck",
    "count_pck_by_keypoint",
    "cycle_pck",
    "grid_cycle_pck",
    "mirror_from_names",
    "pck",
    "point_errors",
    "random_pairs",
    "sample_cycles",
    "threshold_lengths",
]
