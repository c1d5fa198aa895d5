"""Cosine matching on CPUs with bfloat16 instructions: candidates in bfloat16, then decided in float32.

Products come out rounded to 8 bits, far too coarse for similarities near 1. So each row's products are taken less a
lower bound of its best one, found on a sample: near the best they are small, and small numbers keep their last bits.
Every pair within `MARGIN` of its row's or its column's best is then scored in float32. See the README.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.kernels.match_cosine.operands import Guide, unit_rows

TILE_ROWS = 512
TILE_COLUMNS = 2048
# One column in this many gives the rows' lower bounds.
SAMPLE = 16
# Twice the rounding error of a product near the best of its row or column, with room to spare.
MARGIN = 2.0**-8
# Candidates scored at a time.
SCORED = 8192


def match_mutual(a: Tensor, b: Tensor, guide: Guide | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return (index_a, index_b, cosine) of the mutual pairs of a (M, D) and b (N, D), sorted by index_a."""
    if 0 in (len(a), len(b)):
        none = torch.empty(0, dtype=torch.int64)
        return none, none, torch.empty(0)
    row, column = _candidates(a, b, guide)
    cosine = torch.cat(
        [_cosine(a, b, *part) for part in zip(torch.split(row, SCORED), torch.split(column, SCORED), strict=True)]
    )
    score = cosine if guide is None else cosine + guide.bias(row, column + len(a))
    own_row = _winner(row, column, score, len(a), len(b))
    own_column = _winner(column, row, score, len(b), len(a))
    mutual = (own_row[row] == column) & (own_column[column] == row)
    index_a, order = row[mutual].sort()
    return index_a, column[mutual][order], cosine[mutual][order]


def _candidates(a: Tensor, b: Tensor, guide: Guide | None) -> tuple[Tensor, Tensor]:
    """Return (row, column) of all pairs that may be the best of either."""
    rows, columns = unit_rows(a), unit_rows(b)
    if guide is not None:
        rows = torch.cat((rows, _split(guide.as_rows()[: len(a)], "rows")), 1)
        columns = torch.cat((columns, _split(guide.as_columns()[len(a) :], "columns")), 1)
    rows, columns = rows.to(torch.bfloat16), columns.to(torch.bfloat16)
    bound = torch.cat([(part @ columns[::SAMPLE].T).amax(1, keepdim=True) for part in torch.split(rows, TILE_ROWS)])
    rows = torch.cat((rows, -bound), 1)
    columns = torch.cat((columns, torch.ones_like(columns[:, :1])), 1)
    row_best = torch.full((len(a), 1), -torch.inf)
    column_best = torch.full((len(b),), -torch.inf)
    found = []
    for top in range(0, len(a), TILE_ROWS):
        for left in range(0, len(b), TILE_COLUMNS):
            part, own = slice(top, top + TILE_ROWS), slice(left, left + TILE_COLUMNS)
            score = (rows[part] @ columns[own].T).float().add_(bound[part].float())
            torch.maximum(row_best[part], score.amax(1, keepdim=True), out=row_best[part])
            torch.maximum(column_best[own], score.amax(0), out=column_best[own])
            near = (score >= torch.minimum(row_best[part], column_best[own]).sub_(MARGIN)).nonzero()
            found.append((near[:, 0] + top, near[:, 1] + left, score[near[:, 0], near[:, 1]]))
    row, column, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    # The bests were still growing while candidates were collected.
    kept = score >= torch.minimum(row_best[row, 0], column_best[column]) - MARGIN
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
