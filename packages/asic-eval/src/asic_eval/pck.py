"""Percentage of correct keypoints: counts first, ratios after, so that shards add up exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.keypoints import KeypointBenchmark

Threshold = Literal["box", "image", "keypoints", "square"]
MirrorAsks = Literal["target_shows", "pair_names"]


def check_alphas(alphas: Sequence[float]) -> NDArray[np.float64]:
    """The alphas as an array.

    Raises:
        ValueError: There is none, or they are not positive and strictly increasing.
    """
    array = np.array(alphas, dtype=np.float64)
    if array.ndim != 1 or not array.size or not (np.diff(array, prepend=0.0) > 0).all() or not np.isfinite(array).all():
        raise ValueError(f"alphas: expected positive numbers in increasing order, got {list(alphas)}")
    return array


@dataclass(frozen=True, eq=False)
class PckCounts:
    """How many points of each row (a pair, or a keypoint) were right, and how many were asked for.

    Args:
        alphas: (A,) the tolerances, as fractions of the threshold length.
        hits: (R, A) points within the tolerance.
        totals: (R,) points asked for.
    """

    alphas: NDArray[np.float64]
    hits: NDArray[np.int64]
    totals: NDArray[np.int64]

    def per_point(self) -> NDArray[np.float64]:
        """(A,) in 0..1: all hits over all points; NaN where no point was asked for."""
        total = int(self.totals.sum())
        return self.hits.sum(axis=0) / total if total else np.full(len(self.alphas), np.nan)

    def per_image(self) -> NDArray[np.float64]:
        """(A,) in 0..1: the mean over the rows that ask for a point of the row's own ratio; NaN where there is none."""
        asked = self.totals > 0
        if not asked.any():
            return np.full(len(self.alphas), np.nan)
        return np.asarray((self.hits[asked] / self.totals[asked, None]).mean(axis=0))

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> PckCounts:
        """The counts of some of the rows."""
        return PckCounts(self.alphas, self.hits[rows], self.totals[rows])

    def __add__(self, other: PckCounts) -> PckCounts:
        if not np.array_equal(self.alphas, other.alphas):
            raise ValueError(
                f"PckCounts: expected the same alphas to add, got {self.alphas.tolist()} and {other.alphas.tolist()}"
            )
        return PckCounts(
            self.alphas, np.concatenate([self.hits, other.hits]), np.concatenate([self.totals, other.totals])
        )


def threshold_lengths(benchmark: KeypointBenchmark, threshold: Threshold | ArrayLike) -> NDArray[np.float64]:
    """(N,) or (N, 2) the length of each image that alpha is a fraction of, in the original photo's pixels.

    Args:
        benchmark: The images.
        threshold: `box`, the longer side of the object's box (SPair-71k); `image`, the longer side of the photo;
            `keypoints`, the longer side of the box round the visible points (PF-WILLOW); `square`, the photo's width
            along x and its height along y (PF-PASCAL since SCNet, where photos are resized to a square first); or N
            lengths of one's own, or (N, 2) of them along x and y.

    Returns:
        (N,), or (N, 2) where x and y have lengths of their own: what lies within alpha is an ellipse then.

    Raises:
        ValueError: The name is unknown, an image has no box, or the lengths are not N or (N, 2) non-negative numbers.
    """
    if isinstance(threshold, str):
        if threshold == "box":
            boxless = [image.name for image in benchmark.images if image.box_xyxy is None]
            if boxless:
                raise ValueError(f"threshold 'box': expected a box for every image, got none for {boxless[0]!r}")
            boxes = np.array([image.box_xyxy for image in benchmark.images], dtype=np.float64).reshape(-1, 4)
            return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
        if threshold == "image":
            return np.array([max(image.size_hw) for image in benchmark.images], dtype=np.float64)
        if threshold == "keypoints":
            points, visible = benchmark.points_image, benchmark.visible[..., None]
            low = np.where(visible, points, np.inf).min(axis=1, initial=np.inf)
            high = np.where(visible, points, -np.inf).max(axis=1, initial=-np.inf)
            return np.asarray((high - low).max(axis=1).clip(min=0.0))
        if threshold == "square":
            return np.array([image.size_hw[::-1] for image in benchmark.images], dtype=np.float64).reshape(-1, 2)
        raise ValueError(f"threshold: expected 'box', 'image', 'keypoints', 'square' or lengths, got {threshold!r}")
    lengths = np.array(threshold, dtype=np.float64)
    count = len(benchmark.images)
    fits = lengths.shape in ((count,), (count, 2)) and np.isfinite(lengths).all()
    # A single length may be 0, as where one keypoint alone is visible; nothing can be divided by it.
    if not fits or not ((lengths > 0) if lengths.ndim == 2 else (lengths >= 0)).all():
        raise ValueError(
            f"threshold: expected {count} lengths of at least 0, or ({count}, 2) above 0, got shape {lengths.shape}"
            + (f" with {lengths.min()} to {lengths.max()}" if lengths.size else "")
        )
    return lengths


@dataclass(frozen=True, eq=False)
class PointErrors:
    """How far each transferred point is from the truth.

    Args:
        distance: (P, K) pixels of the original target photo, or parts of the lengths along x and y where they are
            two; infinite where a point was asked for and not predicted.
        length: (P,) the target image's threshold length in the same unit, so 1 where the lengths are two.
        asked: (P, K) the points that count.
    """

    distance: NDArray[np.float64]
    length: NDArray[np.float64]
    asked: NDArray[np.bool_]

    def correct(self, alpha: float, *, inclusive: bool = True) -> NDArray[np.bool_]:
        """(P, K) the points that count and lie within `alpha` times the length; at an infinite distance none does."""
        return np.asarray(self.asked & within(self.distance, (alpha * self.length)[:, None], inclusive=inclusive))


def within(distance: NDArray[np.float64], limit: NDArray[np.float64], *, inclusive: bool) -> NDArray[np.bool_]:
    """Which distances lie within limits, on the border or not; one that is not finite never does."""
    return np.asarray(np.isfinite(distance) & (distance <= limit if inclusive else distance < limit))


def point_errors(
    predicted: ArrayLike,
    benchmark: KeypointBenchmark,
    *,
    threshold: Threshold | ArrayLike = "box",
    missing: Literal["error", "miss"] = "error",
    mirrored: ArrayLike | None = None,
    mirror_asks: MirrorAsks = "target_shows",
) -> PointErrors:
    """The error of every transferred point, before any tolerance is applied.

    Args:
        predicted: (P, K, 2) xy in the target photo's own pixels; whatever stands where a pair does not ask is ignored.
        benchmark: The truth.
        threshold: See `threshold_lengths`; the target image's length is taken.
        missing: What a NaN means where a point was asked for: an `error`, or a `miss`.
        mirrored: (P,) pairs to be scored against labels with left and right swapped (the mirror-aware score of
            SpaceJAM and FastJAM; not comparable with the strict one, so name it).
        mirror_asks: What a swapped pair asks for: keypoints that the source shows and whose other side the target
            `target_shows`, as these do on CUB, or those that the `pair_names` together with their other side, as on
            SPair-71k, whose keypoints they know by pair.

    Raises:
        ValueError: A shape does not fit, a point that was asked for is missing or infinite, there is no mirror, points
            of the pairs' own (such as a geometry-aware subset) are to be swapped by what the target shows, or
            `missing` is neither word.
    """
    if missing not in ("error", "miss"):
        raise ValueError(f"missing: expected 'error' or 'miss', got {missing!r}")
    predicted = np.asarray(predicted, dtype=np.float64)
    pairs, points = benchmark.pairs, benchmark.points_image
    expected = (len(pairs), len(benchmark.keypoint_names), 2)
    if predicted.shape != expected:
        raise ValueError(f"predicted: expected shape {expected} (pairs, keypoints, xy), got {predicted.shape}")
    truth, asked = points[pairs[:, 1]], benchmark.asked
    if mirrored is not None:
        swap = np.asarray(mirrored, dtype=np.bool_)
        if benchmark.mirror is None or swap.shape != (len(pairs),):
            raise ValueError(
                f"mirrored: expected a benchmark with a mirror permutation and {len(pairs)} flags, "
                f"got {'no permutation' if benchmark.mirror is None else f'shape {swap.shape}'}"
            )
        truth, asked = truth.copy(), asked.copy()
        truth[swap] = truth[swap][:, benchmark.mirror]
        asked[swap] = _asked_when_swapped(benchmark, swap, mirror_asks)
    present = np.isfinite(predicted).all(axis=2)
    if missing == "error" and (asked & ~present).any():
        pair, keypoint = (int(index[0]) for index in np.nonzero(asked & ~present))
        raise ValueError(
            f"predicted: expected a finite position for keypoint {keypoint} of pair {pair}, "
            f"got {predicted[pair, keypoint].tolist()}; missing='miss' counts it as wrong"
        )
    unit, length = unit_and_length(threshold_lengths(benchmark, threshold)[pairs[:, 1]])
    distance = np.where(present, distances(predicted, truth, unit), np.inf)
    return PointErrors(distance, length, asked)


def _asked_when_swapped(
    benchmark: KeypointBenchmark, swap: NDArray[np.bool_], mirror_asks: MirrorAsks
) -> NDArray[np.bool_]:
    asked = benchmark.asked[swap]
    if mirror_asks == "pair_names":
        return np.asarray(asked & asked[:, benchmark.mirror])
    source, target = (benchmark.visible[images] for images in benchmark.pairs[swap].T)
    if not np.array_equal(asked, source & target):
        raise ValueError(
            f"mirrored: expected pairs that ask for every point visible in both images, got fewer in "
            f"{benchmark.name!r}; which of them to ask for after a swap is not known"
        )
    return np.asarray(source & target[:, benchmark.mirror])


def unit_and_length(lengths: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P, 2) what a distance counts along x and y, and (P,) the length in that unit: pixels, or the two lengths."""
    if lengths.ndim == 2:
        return lengths, np.ones(len(lengths))
    return np.ones((len(lengths), 2)), lengths


def distances(
    points: NDArray[np.float64], truth: NDArray[np.float64], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(P, K) between points (P, K, 2) and truth (P, K, 2), in a unit (P, 2) along x and y."""
    # A distance too large for a number is infinite: no hit.
    with np.errstate(invalid="ignore", over="ignore"):
        difference = (points - truth) / unit[:, None]
        return np.asarray(np.sqrt(difference[..., 0] ** 2 + difference[..., 1] ** 2))


def count_pck(errors: PointErrors, alphas: Sequence[float], *, inclusive: bool = True) -> PckCounts:
    """Counts one row a pair; see `pck`."""
    values = check_alphas(alphas)
    hits = np.stack([errors.correct(alpha, inclusive=inclusive).sum(axis=1) for alpha in values], axis=1)
    return PckCounts(values, hits, errors.asked.sum(axis=1))


def count_pck_by_keypoint(errors: PointErrors, alphas: Sequence[float], *, inclusive: bool = True) -> PckCounts:
    """Counts one row a keypoint, for a table of which keypoints are hard."""
    values = check_alphas(alphas)
    hits = np.stack([errors.correct(alpha, inclusive=inclusive).sum(axis=0) for alpha in values], axis=1)
    return PckCounts(values, hits, errors.asked.sum(axis=0))


def pck(
    predicted: ArrayLike,
    benchmark: KeypointBenchmark,
    alphas: Sequence[float],
    *,
    threshold: Threshold | ArrayLike = "box",
    inclusive: bool = True,
    missing: Literal["error", "miss"] = "error",
    mirrored: ArrayLike | None = None,
    mirror_asks: MirrorAsks = "target_shows",
) -> PckCounts:
    """Percentage of correct keypoints: a point is right when its distance to the truth is at most alpha times a length.

    Distances and lengths are in the original target photo's pixels; double precision. Nothing is rescaled, so a
    benchmark whose threshold was defined in a resized frame gives its lengths in the photo's pixels; where that frame
    was squeezed to a square, along x and y (`threshold="square"`).

    Args:
        predicted: (P, K, 2) xy; whatever stands where a pair does not ask is ignored.
        benchmark: The truth. A point counts when it is visible in both images of the pair.
        alphas: Tolerances, increasing.
        threshold: See `threshold_lengths`.
        inclusive: `<=` (SPair-71k's own script) or `<`.
        missing: Whether a NaN that was asked for is an `error` or a `miss`.
        mirrored: See `point_errors`.
        mirror_asks: See `point_errors`.

    Returns:
        Counts with one row a pair: `.per_point()` and `.per_image()` are fractions in 0..1.

    Raises:
        ValueError: See `point_errors`.

    Yang and Ramanan, "Articulated human detection with flexible mixtures of parts", 2013; SPair-71k, 2019, section 5.
    """
    errors = point_errors(
        predicted, benchmark, threshold=threshold, missing=missing, mirrored=mirrored, mirror_asks=mirror_asks
    )
    return count_pck(errors, alphas, inclusive=inclusive)
