"""Descriptors joined with their surroundings on two rings."""

from __future__ import annotations

import torch
from torch.nn import functional

from asic_flow.collection import TokenGrid

_NEIGHBOURS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))
_OUTER_DISTANCE = 3


def log_bin(descriptors: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Join each token with its 8 neighbours, and with 8 means of 3 x 3 tokens at distance 3.

    Amir et al., "Deep ViT features as dense visual descriptors" (2021), hierarchy 2. Shifted copies of the whole map
    do what the known implementation loops over pixels for.

    Args:
        descriptors: (N, T, D) tokens of ``grid``, row by row.
        grid: Where the tokens are.

    Returns:
        (N, T, 17 D): the token, its neighbours row by row, then the means row by row. Positions beyond the border are
        clamped to it; means near the border are over the tokens that exist.
    """
    count, tokens, width = descriptors.shape
    maps = descriptors.view(count, grid.rows, grid.cols, width)
    means = functional.avg_pool2d(maps.permute(0, 3, 1, 2), 3, stride=1, padding=1, count_include_pad=False)
    joined = descriptors.new_empty(count, grid.rows, grid.cols, 17, width)
    joined[:, :, :, 0] = maps
    for first, distance, source in ((1, 1, maps), (9, _OUTER_DISTANCE, means.permute(0, 2, 3, 1).contiguous())):
        padded = _repeat_border(source, distance)
        for cell, (row, column) in enumerate(_NEIGHBOURS, first):
            down, right = distance * (1 + row), distance * (1 + column)
            joined[:, :, :, cell] = padded[:, down : down + grid.rows, right : right + grid.cols]
    return joined.view(count, tokens, 17 * width)


def _repeat_border(maps: torch.Tensor, distance: int) -> torch.Tensor:
    """(N, rows, cols, D) continued by copies of its border, so far on every side."""
    rows, columns = (
        torch.arange(-distance, side + distance, device=maps.device).clamp(0, side - 1) for side in maps.shape[1:3]
    )
    return maps[:, rows][:, :, columns]
