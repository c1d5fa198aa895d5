"""How sure a score is: bootstrap intervals, paired comparisons, mean and spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.pck import PckCounts

Aggregate = Literal["per_point", "per_image"]


@dataclass(frozen=True)
class Interval:
    """A score and where it would fall if other pairs had been drawn.

    Args:
        value: The score, in 0..1.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much better the second of two methods is on the same pairs.

    Args:
        value: Second minus first, in -1..1.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: Two-sided: how often chance alone would give a difference at least so far from 0.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0.0 or self.high < 0.0


def _resampled(
    counts: PckCounts,
    index: int,
    aggregate: Aggregate,
    groups: ArrayLike | None,
    strata: ArrayLike | None,
    resamples: int,
    seed: int,
) -> tuple[float, NDArray[np.float64]]:
    """The score at one alpha, and (resamples,) scores of the groups of pairs drawn with replacement."""
    if aggregate not in ("per_point", "per_image"):
        raise ValueError(f"aggregate: expected 'per_point' or 'per_image', got {aggregate!r}")
    asked = counts.totals > 0
    if not asked.any():
        raise ValueError("counts: expected at least one pair that asks for a point, got none")
    if not enough_to_draw(counts, groups, strata):
        raise ValueError("groups: expected at least two to draw from, got one, which tells nothing of its like")
    stratum, member = _drawn_from(counts, groups, strata)
    hits, totals = counts.hits[asked, index].astype(np.float64), counts.totals[asked].astype(np.float64)
    if aggregate == "per_image":
        hits, totals = hits / totals, np.ones_like(totals)
    rng = np.random.Generator(np.random.PCG64(seed))
    parts = [
        _resampled_stratum(hits[own], totals[own], member[own], resamples, rng)
        for own in (stratum == number for number in range(stratum.max() + 1))
    ]
    values, scores = zip(*parts, strict=True)
    return math.fsum(values) / len(parts), np.mean(scores, axis=0)


def enough_to_draw(counts: PckCounts, groups: ArrayLike | None = None, strata: ArrayLike | None = None) -> bool:
    """Whether a bootstrap has two groups or more to draw from, in each stratum that asks for a point, and there is one.

    Args:
        counts: One row a pair.
        groups: See `bootstrap_interval`.
        strata: See `bootstrap_interval`.

    Raises:
        ValueError: Groups or strata do not fit.
    """
    stratum, _ = np.unique(_drawn_from(counts, groups, strata), axis=1)
    return bool(len(stratum) and (np.bincount(stratum) > 1).all())


def _drawn_from(counts: PckCounts, groups: ArrayLike | None, strata: ArrayLike | None) -> NDArray[np.int64]:
    """(2, Q): the strata and the groups of the pairs that ask for a point, numbered."""
    asked = counts.totals > 0
    numbered = []
    for name, values, default in (
        ("strata", strata, np.zeros(len(asked))),
        ("groups", groups, np.arange(len(asked))),
    ):
        rows = default if values is None else np.asarray(values)
        if rows.shape != asked.shape:
            raise ValueError(f"{name}: expected one for each of {len(asked)} pairs, got shape {rows.shape}")
        numbered.append(np.unique(rows[asked], return_inverse=True)[1])
    return np.stack(numbered).astype(np.int64)


def _resampled_stratum(
    hits: NDArray[np.float64],
    totals: NDArray[np.float64],
    member: NDArray[np.int64],
    resamples: int,
    rng: np.random.Generator,
) -> tuple[float, NDArray[np.float64]]:
    _, member = np.unique(member, return_inverse=True)
    hits = np.bincount(member, weights=hits).astype(np.float64)
    totals = np.bincount(member, weights=totals).astype(np.float64)
    scores = np.empty(resamples)
    for draw in range(resamples):
        weight = np.bincount(rng.integers(len(hits), size=len(hits)), minlength=len(hits))
        scores[draw] = (weight @ hits) / (weight @ totals)
    return float(hits.sum() / totals.sum()), scores


def bootstrap_interval(
    counts: PckCounts,
    index: int,
    *,
    aggregate: Aggregate = "per_point",
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A percentile bootstrap interval of PCK.

    Args:
        counts: One row a pair.
        index: Which of the alphas.
        aggregate: `per_point` or `per_image`.
        groups: (P,) pairs of the same group are drawn together, such as all pairs of a source image, as pairs that
            share an image are not independent. Every pair for itself when None: then the interval is too narrow.
        strata: (P,) each stratum is drawn from for itself, and the score is the mean over strata, such as categories
            that count alike. All pairs are one when None.
        level: The interval's coverage, in 0..1.
        resamples: How often to draw.
        seed: For drawing.

    Raises:
        ValueError: No pair asks for a point, groups or strata do not fit, or a stratum has one group alone.

    Efron and Tibshirani, "An introduction to the bootstrap", 1993, section 13.3.
    """
    value, scores = _resampled(counts, index, aggregate, groups, strata, resamples, seed)
    low, high = np.quantile(scores, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(value, float(low), float(high))


def bootstrap_difference(
    first: PckCounts,
    second: PckCounts,
    index: int,
    *,
    aggregate: Aggregate = "per_point",
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """A paired bootstrap: is the difference of two methods on the same pairs real?

    Both methods are scored on the same draws of pairs.

    Args:
        first: One row a pair.
        second: The same pairs in the same order.
        index: Which of the alphas.
        aggregate: `per_point` or `per_image`.
        groups: See `bootstrap_interval`.
        strata: See `bootstrap_interval`.
        level: The interval's coverage, in 0..1.
        resamples: How often to draw.
        seed: For drawing.

    Raises:
        ValueError: The two do not ask for the same points, or as for `bootstrap_interval`.
    """
    if not np.array_equal(first.totals, second.totals) or not np.array_equal(first.alphas, second.alphas):
        raise ValueError("counts: expected the same pairs and alphas for both methods")
    before, before_scores = _resampled(first, index, aggregate, groups, strata, resamples, seed)
    after, after_scores = _resampled(second, index, aggregate, groups, strata, resamples, seed)
    scores = after_scores - before_scores
    low, high = np.quantile(scores, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    tail = min(int((scores <= 0.0).sum()), int((scores >= 0.0).sum()))
    p_value = min(1.0, 2.0 * (tail + 1) / (resamples + 1))
    return Difference(after - before, float(low), float(high), p_value)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over seeds, and the sample standard deviation (n - 1), None for a single seed.

    Raises:
        ValueError: There is no value.

    >>> mean_and_std([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    if not values:
        raise ValueError("values: expected at least one, got none")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
