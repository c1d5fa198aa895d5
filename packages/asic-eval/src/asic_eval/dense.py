"""Errors of dense correspondence against exact truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.pck import check_alphas


@dataclass(frozen=True, eq=False)
class DenseCounts:
    """End-point errors of many pixels.

    Args:
        tolerances: (A,) pixels.
        hits: (A,) pixels whose error is at most the tolerance.
        total: Pixels that count.
        error_sum: Their errors' sum in pixels.
    """

    tolerances: NDArray[np.float64]
    hits: NDArray[np.int64]
    total: int
    error_sum: float

    def mean(self) -> float:
        """The average end-point error in pixels; NaN where no pixel counts."""
        return self.error_sum / self.total if self.total else float("nan")

    def within(self) -> NDArray[np.float64]:
        """(A,) in 0..1: pixels within each tolerance; NaN where no pixel counts."""
        return self.hits / self.total if self.total else np.full(len(self.hits), np.nan)

    def __add__(self, other: DenseCounts) -> DenseCounts:
        if not np.array_equal(self.tolerances, other.tolerances):
            raise ValueError(
                f"DenseCounts: expected the same tolerances to add, got {self.tolerances.tolist()} and "
                f"{other.tolerances.tolist()}"
            )
        return DenseCounts(
            self.tolerances, self.hits + other.hits, self.total + other.total, self.error_sum + other.error_sum
        )


def end_point_errors(
    predicted: ArrayLike, truth: ArrayLike, counted: ArrayLike, tolerances: Sequence[float] = (1.0, 3.0, 5.0)
) -> DenseCounts:
    """Distances between predicted and true positions.

    Args:
        predicted: (..., 2) xy in the target's pixels, finite wherever it counts.
        truth: (..., 2) xy.
        counted: (...) where truth exists and should count, such as `visible` of `SyntheticCollection.transfer`.
        tolerances: Pixels, increasing.

    Raises:
        ValueError: A shape does not fit, or a position that counts is not finite.
    """
    found, true = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    where = np.asarray(counted, dtype=np.bool_)
    if found.shape != true.shape or true.shape != (*where.shape, 2):
        raise ValueError(
            f"positions: expected two arrays of shape {(*where.shape, 2)}, got {found.shape} and {true.shape}"
        )
    difference = (found - true)[where]
    if not np.isfinite(difference).all():
        raise ValueError("positions: expected finite numbers wherever a pixel counts, got NaN or infinity")
    error = np.hypot(difference[:, 0], difference[:, 1])
    values = check_alphas(tolerances)
    hits = np.array([(error <= tolerance).sum() for tolerance in values], dtype=np.int64)
    return DenseCounts(values, hits, len(error), float(error.sum()))
