"""Cosine matching on CPUs with bfloat16 instructions: candidates in bfloat16, then decided in float32.

Products come out rounded to 8 bits, far too coarse for similarities near 1. So each row's products are taken less a
lower bound of its best one, found on a sample: near the best they are small, and small numbers keep their last bits.
Every pair within `MARGIN` of its row's or its column's best is then scored in float32. See the README.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from asic_flow.kernels.match_cosine.operands import Guide, unit_rows

TILE_ROWS = 512
TILE_COLUMNS = 1024
# One column in this many gives the rows' lower bounds.
SAMPLE = 16
# Twice the rounding error of a product near the best of its row or column, with room to spare.
MARGIN = 2.0**-8
# Candidates scored at a time.
SCORED = 2048
# Candidates a descriptor beyond which scoring them takes longer than float32 products of all pairs.
CROWD = 32


def match_mutual(a: Tensor, b: Tensor, guide: Guide | None) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return (index_a, index_b, cosine) of the mutual pairs of a (M, D) and b (N, D), sorted by index_a.

    `None` where too many pairs are as good as the best, as among the tokens of an empty background.
    """
    if 0 in (len(a), len(b)):
        none = torch.empty(0, dtype=torch.int64)
        return none, none, torch.empty(0)
    candidates = _candidates(a, b, guide)
    if candidates is None:
        return None
    row, column = candidates
    cosine = torch.cat(
        [_cosine(a, b, *part) for part in zip(torch.split(row, SCORED), torch.split(column, SCORED), strict=True)]
    )
    score = cosine if guide is None else cosine + guide.bias(row, column + len(a))
    own_row = _winner(row, column, score, len(a), len(b))
    own_column = _winner(column, row, score, len(b), len(a))
    mutual = (own_row[row] == column) & (own_column[column] == row)
    index_a, order = row[mutual].sort()
    return index_a, column[mutual][order], cosine[mutual][order]


def _candidates(a: Tensor, b: Tensor, guide: Guide | None) -> tuple[Tensor, Tensor] | None:
    """Return (row, column) of all pairs that may be the best of either, `None` where they are too many."""
    row_bias = column_bias = a.new_empty(len(a) + len(b), 0, dtype=torch.float32)
    if guide is not None:
        row_bias, column_bias = _split(guide.as_rows(), "rows"), _split(guide.as_columns(), "columns")
    # The last column is one, for the rows' lower bounds.
    columns = torch.ones(len(b), b.shape[1] + column_bias.shape[1] + 1, dtype=torch.bfloat16)
    for top in range(0, len(b), TILE_ROWS):
        part = slice(top, top + TILE_ROWS)
        columns[part, :-1] = torch.cat((unit_rows(b[part]), column_bias[len(a) :][part]), 1)
    sample = columns[::SAMPLE, :-1].contiguous()
    tile = min(TILE_ROWS, len(a)) * min(TILE_COLUMNS, len(b))
    products, scores, limits, candidates = (
        torch.empty(tile, dtype=dtype) for dtype in (torch.bfloat16, torch.float32, torch.float32, torch.bool)
    )
    row_best = torch.full((len(a), 1), -torch.inf)
    column_best = torch.full((len(b),), -torch.inf)
    found = []
    room = CROWD * (len(a) + len(b))
    for top in range(0, len(a), TILE_ROWS):
        part = slice(top, top + TILE_ROWS)
        rows = torch.cat((unit_rows(a[part]), row_bias[: len(a)][part]), 1).to(torch.bfloat16)
        bound = (rows @ sample.T).amax(1, keepdim=True)
        rows = torch.cat((rows, -bound), 1)
        for left in range(0, len(b), TILE_COLUMNS):
            own = slice(left, left + TILE_COLUMNS)
            shape = len(rows), len(columns[own])
            product, score, limit, near = (
                buffer[: math.prod(shape)].view(shape) for buffer in (products, scores, limits, candidates)
            )
            torch.mm(rows, columns[own].T, out=product)
            score.copy_(product).add_(bound)
            torch.maximum(row_best[part], score.amax(1, keepdim=True), out=row_best[part])
            torch.maximum(column_best[own], torch.from_numpy(score.numpy().max(0)), out=column_best[own])
            torch.minimum(row_best[part] - MARGIN, column_best[own] - MARGIN, out=limit)
            # A few in a thousand are near: NumPy finds those in a tenth of torch's time.
            np.greater_equal(score.numpy(), limit.numpy(), out=near.numpy())
            flat = np.flatnonzero(near.numpy())
            room -= len(flat)
            if room < 0:
                return None
            i, j = np.divmod(flat, shape[1])
            found.append((i + top, j + left, score.numpy().ravel()[flat]))
    row, column, reached = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True))
    # The bests were still growing while candidates were collected.
    kept = reached >= torch.minimum(row_best[row, 0], column_best[column]) - MARGIN
    return row[kept], column[kept]


def _split(values: Tensor, side: str) -> Tensor:
    """Return columns whose bfloat16 products with the other side's sum to the float32 ones: three terms for each."""
    high = values.to(torch.bfloat16).float()
    middle = (values - high).to(torch.bfloat16).float()
    low = values - high - middle
    if side == "rows":
        return torch.cat((high, high, high, middle, middle, low), 1)
    return torch.cat((high, middle, low, high, middle, high), 1)


def _cosine(a: Tensor, b: Tensor, row: Tensor, column: Tensor) -> Tensor:
    return (unit_rows(a[row]) * unit_rows(b[column])).sum(1)


def _winner(group: Tensor, member: Tensor, score: Tensor, num_groups: int, num_members: int) -> Tensor:
    """Return (num_groups,) the member of highest score in each group, the lowest among equals."""
    best = torch.full((num_groups,), -torch.inf).scatter_reduce_(0, group, score, "amax")
    lowest = torch.full((num_groups,), num_members)
    at_best = score == best[group]
    return lowest.scatter_reduce_(0, group[at_best], member[at_best], "amin")
