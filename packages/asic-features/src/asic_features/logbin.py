"""Descriptors joined with their surroundings on two rings."""

from __future__ import annotations

import torch
from torch.nn import functional

from asic_flow.collection import TokenGrid

_NEIGHBOURS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))
_OUTER_DISTANCE = 3


def log_bin(descriptors: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Join each token with its 8 neighbours, and with 8 means of 3 x 3 tokens at distance 3.

    Amir et al., "Deep ViT features as dense visual descriptors" (2021), hierarchy 2. One gather does what the known
    implementation loops over pixels for.

    Args:
        descriptors: (N, T, D) tokens of ``grid``, row by row.
        grid: Where the tokens are.

    Returns:
        (N, T, 17 D): the token, its neighbours row by row, then the means row by row. Positions beyond the border are
        clamped to it; means near the border are over the tokens that exist.
    """
    count, tokens, width = descriptors.shape
    maps = descriptors.transpose(1, 2).reshape(count, width, grid.rows, grid.cols)
    means = functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
    means = means.flatten(2).transpose(1, 2)
    around = [descriptors[:, _shifted(grid, row, column)] for row, column in _NEIGHBOURS]
    beyond = [means[:, _shifted(grid, _OUTER_DISTANCE * row, _OUTER_DISTANCE * column)] for row, column in _NEIGHBOURS]
    return torch.stack([descriptors, *around, *beyond], dim=2).reshape(count, tokens, 17 * width)


def _shifted(grid: TokenGrid, row: int, column: int) -> torch.Tensor:
    """(T,) index of the token so many rows down and columns to the right, clamped to the border."""
    rows = (torch.arange(grid.rows) + row).clamp(0, grid.rows - 1)
    columns = (torch.arange(grid.cols) + column).clamp(0, grid.cols - 1)
    return (rows[:, None] * grid.cols + columns).flatten()
