"""Scores for predictors that know what they do not know, and for those that mix up neighbouring keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.keypoints import KeypointBenchmark
from asic_eval.pck import (
    PckCounts,
    PointErrors,
    Threshold,
    count_pck,
    distances,
    point_errors,
    threshold_lengths,
    unit_and_length,
)


def pck_dagger(
    predicted: ArrayLike,
    benchmark: KeypointBenchmark,
    alphas: Sequence[float],
    *,
    threshold: Threshold | ArrayLike = "box",
    inclusive: bool = True,
) -> PckCounts:
    """PCK with swaps counted as errors: of the pair's keypoints, the right one must also be the nearest in the target.

    A point within alpha of its truth that lies still nearer to the truth of another keypoint that the pair asks for is
    wrong here. What the target shows beyond that is no rival, as in the authors' evaluation, which knows a pair's
    common keypoints alone. A NaN counts as wrong. At equal distances the point is right. The authors report the mean
    over pairs (`per_image`).

    Args:
        predicted: (P, K, 2) xy in the target photo's pixels.
        benchmark: The truth.
        alphas: Tolerances, increasing.
        threshold: See `asic_eval.pck.threshold_lengths`.
        inclusive: `<=` or `<`.

    Returns:
        Counts with one row a pair.

    Raises:
        ValueError: See `asic_eval.pck.point_errors`.

    Aygun and Mac Aodha, "Demystifying unsupervised semantic correspondence estimation", 2022, section 3 (PCK-dagger).
    """
    errors = point_errors(predicted, benchmark, threshold=threshold, missing="miss")
    positions = np.asarray(predicted, dtype=np.float64)
    targets = benchmark.pairs[:, 1]
    rivals = np.where(errors.asked[..., None], benchmark.points_image[targets], np.nan)
    unit, _ = unit_and_length(threshold_lengths(benchmark, threshold)[targets])
    nearest = np.full(errors.distance.shape, np.inf)
    for keypoint in range(rivals.shape[1]):
        nearest = np.fmin(nearest, distances(positions, rivals[:, keypoint, None], unit))
    distance = np.where(errors.distance <= nearest, errors.distance, np.inf)
    return count_pck(PointErrors(distance, errors.length, errors.asked), alphas, inclusive=inclusive)


def calibration_error(probability: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """The expected calibration error, in 0..1: how far claimed probabilities are from the share that proves right.

    Claims are put into bins of equal width by their probability; the error is the mean over all claims of the distance
    between their bin's mean probability and its share of correct ones. Source: Naeini et al., "Obtaining well
    calibrated probabilities using Bayesian binning", 2015.

    Args:
        probability: (D,) in 0..1.
        correct: (D,) bool.
        bins: How many, at least 1.

    Returns:
        NaN where there is no claim.

    Raises:
        ValueError: Shapes that differ, probabilities outside 0..1, or no bin.
    """
    claimed, right = np.asarray(probability, np.float64), np.asarray(correct, bool)
    if claimed.ndim != 1 or claimed.shape != right.shape:
        raise ValueError(f"expected two arrays (D,), got shapes {claimed.shape} and {right.shape}")
    if not ((claimed >= 0) & (claimed <= 1)).all():
        raise ValueError("probabilities must lie in 0..1 and not be NaN")
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    if not len(claimed):
        return float("nan")
    row = np.minimum((claimed * bins).astype(np.int64), bins - 1)
    gap = np.bincount(row, claimed, bins) - np.bincount(row, right, bins)
    return float(np.abs(gap).sum() / len(claimed))


@dataclass(frozen=True, eq=False)
class KeypointDetections:
    """What a predictor claimed to have found, for average precision. Shards add up exactly.

    Args:
        confidence: (D,) of every claim; higher is surer.
        correct: (D,) whether the keypoint is there and within the tolerance.
        positives: How many keypoints there were to be found.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    positives: int

    def __add__(self, other: KeypointDetections) -> KeypointDetections:
        return KeypointDetections(
            np.concatenate([self.confidence, other.confidence]),
            np.concatenate([self.correct, other.correct]),
            self.positives + other.positives,
        )

    def average_precision(self) -> float:
        """In 0..1: the precision at each found keypoint, averaged over all that were to be found.

        Claims of equal confidence are taken together, so their order does not matter. NaN where there was nothing to
        be found.
        """
        if not self.positives:
            return float("nan")
        order = np.argsort(-self.confidence, kind="stable")
        confidence, correct = self.confidence[order], self.correct[order]
        last_of_tie = np.append(np.diff(confidence) != 0, True)[: len(confidence)]
        found = np.cumsum(correct)[last_of_tie]
        claimed = np.flatnonzero(last_of_tie) + 1
        return float((np.diff(found, prepend=0) * found / claimed).sum() / self.positives)


def keypoint_detections(
    predicted: ArrayLike,
    confidence: ArrayLike,
    benchmark: KeypointBenchmark,
    alpha: float,
    *,
    threshold: Threshold | ArrayLike = "box",
    inclusive: bool = True,
) -> KeypointDetections:
    """The claims that keypoint average precision is taken over.

    Every keypoint visible in the source is asked for, whether the target shows it or not: a claim about one that the
    target does not show is a false one. A predictor abstains by NaN.

    Args:
        predicted: (P, K, 2) xy in the target photo's pixels; NaN: no claim.
        confidence: (P, K) on any scale that orders; finite wherever there is a claim.
        benchmark: The truth.
        alpha: Tolerance.
        threshold: See `asic_eval.pck.threshold_lengths`.
        inclusive: `<=` or `<`.

    Raises:
        ValueError: A shape does not fit, or a claim has no confidence.

    A predictor is held to the one position that it names. Keypoint average precision as Mariotti et al. publish it
    needs whole similarity maps instead: see `similarity_detections`.
    """
    errors = point_errors(predicted, benchmark, threshold=threshold, missing="miss")
    sureness = np.asarray(confidence, dtype=np.float64)
    if sureness.shape != errors.asked.shape:
        raise ValueError(f"confidence: expected shape {errors.asked.shape}, got {sureness.shape}")
    claimed = benchmark.visible[benchmark.pairs[:, 0]] & np.isfinite(np.asarray(predicted, np.float64)).all(axis=2)
    if not np.isfinite(sureness[claimed]).all():
        raise ValueError("confidence: expected a finite number for every point that is predicted, got NaN or infinity")
    correct = errors.correct(alpha, inclusive=inclusive)
    return KeypointDetections(sureness[claimed], correct[claimed], int(errors.asked.sum()))


def similarity_detections(inside: ArrayLike, outside: ArrayLike, shown: ArrayLike) -> KeypointDetections:
    """The claims of published keypoint average precision, from similarity maps instead of positions.

    Every keypoint visible in the source asks for two numbers of its similarity map over the target: the highest within
    alpha of the truth, which should be high, and the highest elsewhere, which should be low. Where the target does not
    show the keypoint, elsewhere is everywhere.

    Args:
        inside: (M,) highest similarity within the tolerance; whatever stands where the target does not show the
            keypoint is ignored.
        outside: (M,) highest similarity elsewhere.
        shown: (M,) whether the target shows the keypoint.

    Raises:
        ValueError: The shapes differ, or a similarity that counts is not finite.

    Mariotti et al., "Improving semantic correspondence with viewpoint-guided spherical maps", 2024 (KAP). Their script
    scales the similarities of each pair to 0..1 beforehand and takes `<` at alpha = 0.10 of the target box.
    """
    near, far = np.asarray(inside, dtype=np.float64), np.asarray(outside, dtype=np.float64)
    present = np.asarray(shown, dtype=np.bool_)
    if present.ndim != 1 or near.shape != present.shape or far.shape != present.shape:
        raise ValueError(
            f"inside, outside, shown: expected three arrays of one shape (M,), got {near.shape}, {far.shape}, "
            f"{present.shape}"
        )
    confidence = np.concatenate([near[present], far])
    if not np.isfinite(confidence).all():
        raise ValueError("inside, outside: expected finite similarities, got NaN or infinity")
    correct = np.arange(len(confidence)) < int(present.sum())
    return KeypointDetections(confidence, correct, int(present.sum()))


def object_keypoint_similarity(
    predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike, areas: ArrayLike, sigmas: ArrayLike
) -> NDArray[np.float64]:
    """COCO's object keypoint similarity: the mean over visible keypoints of exp(-d^2 / (2 area (2 sigma)^2)).

    Args:
        predicted: (N, K, 2) xy; a NaN scores 0.
        truth: (N, K, 2) xy in the same pixels.
        visible: (N, K) keypoints that count.
        areas: (N,) area of each object in square pixels, positive.
        sigmas: (K,) how far annotators stray, as a fraction of the root of the area; see `COCO_SIGMAS`.

    Returns:
        (N,) in 0..1; NaN for an object without a visible keypoint.

    Raises:
        ValueError: A shape does not fit, or an area or sigma is not positive.

    cocodataset.org/#keypoints-eval
    """
    found, true = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    shown, area = np.asarray(visible, dtype=np.bool_), np.asarray(areas, dtype=np.float64)
    sigma = np.asarray(sigmas, dtype=np.float64)
    if true.ndim != 3 or true.shape[2] != 2 or found.shape != true.shape:
        raise ValueError(f"truth and predicted: expected the same shape (N, K, 2), got {true.shape} and {found.shape}")
    if shown.shape != true.shape[:2] or area.shape != true.shape[:1] or sigma.shape != true.shape[1:2]:
        raise ValueError(
            f"visible, areas, sigmas: expected shapes {true.shape[:2]}, {true.shape[:1]}, {true.shape[1:2]}, "
            f"got {shown.shape}, {area.shape}, {sigma.shape}"
        )
    if not ((area > 0).all() and (sigma > 0).all()):
        raise ValueError("areas and sigmas: expected positive numbers")
    squared = ((found - true) ** 2).sum(axis=2)
    similarity = np.exp(-squared / (2.0 * area[:, None] * (2.0 * sigma) ** 2))
    similarity = np.where(shown & np.isfinite(squared), similarity, 0.0)
    count = shown.sum(axis=1)
    return np.where(count > 0, similarity.sum(axis=1) / np.maximum(count, 1), np.nan)


COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)
