"""Metrics, protocols and benchmarks of semantic correspondence, with numpy and nothing else.

Points are xy in the original photo's pixels; a pixel's centre is its integer coordinate. Scores are fractions in 0..1.
Readers are in `asic_eval.benchmarks`, one module a data set; `asic_eval.torch_metric` needs the extra `torchmetrics`.
"""

from __future__ import annotations

from asic_eval.confidence import (
    COCO_SIGMAS,
    KeypointDetections,
    calibration_error,
    keypoint_detections,
    object_keypoint_similarity,
    pck_dagger,
    similarity_detections,
)
from asic_eval.cycles import CycleCounts, CyclePck, Transfer, all_cycles, cycle_pck, grid_cycle_pck, sample_cycles
from asic_eval.dense import DenseCounts, end_point_errors
from asic_eval.fields import AnnotationError
from asic_eval.geometry import geometry_aware_subset
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
from asic_eval.predictions import CategoryPredictions, Predictions, read_predictions, write_predictions
from asic_eval.protocols import PROTOCOLS, Protocol, get_protocol
from asic_eval.published import PUBLISHED, PublishedRow, asic_per_category
from asic_eval.regions import (
    IouCounts,
    LabelCounts,
    adjusted_rand_index,
    contingency,
    label_transfer,
    mask_iou,
    normalised_mutual_information,
)
from asic_eval.statistics import Difference, Interval, bootstrap_difference, bootstrap_interval, mean_and_std
from asic_eval.summary import questions_of, score_predictions, summarise

__all__ = [
    "COCO_SIGMAS",
    "PROTOCOLS",
    "PUBLISHED",
    "AnnotationError",
    "CategoryPredictions",
    "CycleCounts",
    "CyclePck",
    "DenseCounts",
    "Difference",
    "ImageKeypoints",
    "Interval",
    "IouCounts",
    "KeypointBenchmark",
    "KeypointDetections",
    "LabelCounts",
    "PckCounts",
    "PointErrors",
    "Predictions",
    "Protocol",
    "PublishedRow",
    "Transfer",
    "adjusted_rand_index",
    "all_cycles",
    "all_pairs",
    "asic_per_category",
    "bootstrap_difference",
    "bootstrap_interval",
    "calibration_error",
    "contingency",
    "count_pck",
    "count_pck_by_keypoint",
    "cycle_pck",
    "end_point_errors",
    "geometry_aware_subset",
    "get_protocol",
    "grid_cycle_pck",
    "keypoint_detections",
    "label_transfer",
    "mask_iou",
    "mean_and_std",
    "mirror_from_names",
    "normalised_mutual_information",
    "object_keypoint_similarity",
    "pck",
    "pck_dagger",
    "point_errors",
    "questions_of",
    "random_pairs",
    "read_predictions",
    "sample_cycles",
    "score_predictions",
    "similarity_detections",
    "summarise",
    "threshold_lengths",
    "write_predictions",
]
