"""Photos matched also with a mirrored partner, and the better of the two hypotheses kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from asic_flow.collection import TokenGrid
from asic_flow.matches import OF_MATCHES, MatchSet


def unmirror(descriptors: torch.Tensor, grid: TokenGrid, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the descriptors of mirrored photos where their tokens lie in the photos.

    Where the tokens of the mirrored photo do not fall on those of the photo, the nearest is taken, at most half a
    stride away; of two equally near ones always the same side's.

    Args:
        descriptors: (N, T, D) of the mirrored photos.
        grid: Where the tokens are, in a square of ``size`` pixels.
        size: Side in pixels.

    Returns:
        (N, T, D) descriptors by the tokens of the photos, and (T,) bool, false where the mirrored photo has no token;
        the descriptor there is that of the nearest column.
    """
    columns = torch.arange(grid.cols, dtype=torch.float64)
    there = ((size - 1 - 2 * grid.first) / grid.stride - columns + 0.5).floor().long()
    found = (there >= 0) & (there < grid.cols)
    maps = descriptors.view(len(descriptors), grid.rows, grid.cols, -1)
    turned = maps[:, :, there.clamp(0, grid.cols - 1)].reshape(descriptors.shape)
    return turned, found.repeat(grid.rows)


def better_of(plain: MatchSet, mirrored: MatchSet) -> MatchSet:
    """Of each pair the matches whose similarities add up to more; the plain ones where they are equal.

    Args:
        plain: Matches of some pairs.
        mirrored: Matches of the same pairs in the same order, under the other hypothesis.
    """
    sums = [np.bincount(found.pair_of_match(), found.score, len(found.pairs)) for found in (plain, mirrored)]
    takes_mirrored = sums[1] > sums[0]
    lengths = np.where(takes_mirrored, np.diff(mirrored.offsets), np.diff(plain.offsets))
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    first = np.where(takes_mirrored, mirrored.offsets[:-1] + len(plain), plain.offsets[:-1])
    rows = np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1])
    columns = {name: np.concatenate([getattr(plain, name), getattr(mirrored, name)])[rows] for name in OF_MATCHES}
    return replace(plain, offsets=offsets, **columns)
