"""Signals as rows of channels, one row a pixel: how kernels cut them up."""

from __future__ import annotations

import torch


def ceil_div(number: int, by: int) -> int:
    """Return how many parts of a size hold a number of things."""
    return -(-number // by)


def tile(num_channels: int, values: int, most_channels: int = 64) -> dict[str, int]:
    """Return the sides of a block of about so many values; channels, a power of two, come first."""
    channels = min(1 << (num_channels - 1).bit_length(), most_channels)
    return {"BLOCK_ROWS": max(1, values // channels), "BLOCK_CHANNELS": channels}


def shares(num_rows: int, block_rows: int, parts: int) -> tuple[int, int]:
    """Return how many rows, whole blocks of them, each of about so many parts has, and how many parts there are."""
    rows_each = ceil_div(ceil_div(num_rows, max(1, parts)), block_rows) * block_rows
    return rows_each, ceil_div(num_rows, rows_each)


def refuse_double(*dtypes: torch.dtype) -> None:
    """Raise TypeError for float64, which no kernel adds in."""
    if torch.float64 in dtypes:
        raise TypeError("the Triton kernels add in float32, got float64; use impl='reference'")
