"""How well aligned photos lie on each other, and whose map says nothing; no torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asic_flow.run_folder import AlignmentArrays

_COLLAPSED_AREA = 0.02


def collapsed(alignment: AlignmentArrays) -> list[int]:
    """The photos whose foreground fills less than 2 % of the median photo's canonical area: maps that say nothing."""
    maps, foreground = alignment.maps, alignment.foreground
    across, along = np.diff(maps[:, :-1], axis=2), np.diff(maps[:, :, :-1], axis=1)
    area = np.abs(across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]) * foreground[:, :-1, :-1]
    total = area.sum((1, 2))
    shown = total[foreground.any((1, 2))]
    if not len(shown):
        return list(range(len(alignment)))
    return np.flatnonzero(total < _COLLAPSED_AREA * lower_median(shown)).tolist()


def lower_median(values: NDArray[np.float32]) -> float:
    """The middle value, the lower of the two middle ones of an even number; at least one."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def mean_pairwise_iou(masks: NDArray[np.bool_]) -> float:
    """The mean over all pairs of (N, ...) masks of their intersection over union; 0 for two empty ones."""
    # Bits are counted: a long and narrow matrix by its own transpose takes BLAS a second.
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    both = np.stack([np.bitwise_count(row & packed).sum(1, dtype=np.int64) for row in packed])
    area = both.diagonal()
    union = area[:, None] + area[None] - both
    pair = np.triu(np.ones_like(both, np.bool_), 1)
    return float((both / np.maximum(union, 1))[pair].mean()) if pair.any() else math.nan
