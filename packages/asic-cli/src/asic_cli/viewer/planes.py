"""What lies around each pixel of planes (..., H, W): means, spread, and coarser planes."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", NDArray[np.float32], NDArray[np.bool_])


def box_mean(planes: NDArray[np.generic], side: int) -> NDArray[np.float32]:
    """The mean over the square of an odd side around each pixel, of what lies within the plane.

    >>> box_mean(np.array([[0, 0, 6]]), 3).tolist()
    [[0.0, 2.0, 3.0]]
    """
    values, ones = planes.astype(np.float32), np.ones(planes.shape[-2:], np.float32)
    return _along(_along(values, side, -1), side, -2) / _along(_along(ones, side, -1), side, -2)


def grown(masks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Whether any pixel of the square of an odd side around each one is set.

    >>> grown(np.array([[False, False, True]]), 3).tolist()
    [[False, True, True]]
    """
    return _along(_along(masks, side, -1), side, -2)


def cell_means(planes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(..., side, side): means over cells that cover the plane; those that share a pixel both take it.

    >>> cell_means(np.array([[1.0, 2.0, 6.0]]), 2)[0].tolist()
    [1.5, 4.0]
    """
    sums = planes.astype(np.float64)
    area = np.ones(1)
    for axis, length in ((-2, planes.shape[-2]), (-1, planes.shape[-1])):
        first, last = np.arange(side) * length // side, -(-np.arange(1, side + 1) * length // side)
        summed = np.concatenate((np.zeros_like(sums.take([0], axis)), sums.cumsum(axis)), axis)
        sums = summed.take(last, axis) - summed.take(first, axis)
        area = np.multiply.outer(area, last - first)
    return np.asarray(sums / area[0], np.float32)


def _along(planes: Values, side: int, axis: int) -> Values:
    """Sums of numbers, unions of masks, over windows of an odd side along one axis."""
    moved = planes.swapaxes(axis, -1)
    total = moved.copy()
    for step in range(1, side // 2 + 1):
        total[..., step:] += moved[..., :-step]
        total[..., :-step] += moved[..., step:]
    return total.swapaxes(axis, -1)
