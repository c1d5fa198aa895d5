"""Cosine matching on the CPU: tiles of products in one reused buffer, reduced while they are in the cache.

A column needs its maximum only, never its index: row i and its best column j are mutual when the column's maximum
is the row's. The index would cost more than the rest of the epilogue together. Memory is O((M + N) D).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from asic_flow.kernels.match_cosine import _bfloat16
from asic_flow.kernels.match_cosine.operands import Guide, unit_rows
from asic_flow.kernels.match_cosine.pairwise import match_each

# A tile (rows x columns, 4 MB of float32) stays in the cache between the product and its reductions.
TILE_ROWS = 512
TILE_COLUMNS = 2048


def _tiles(a: Tensor, b: Tensor, guide: Guide | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (rows, columns, similarity of those rows and columns), row-major; each tile overwrites the last one."""
    columns = unit_rows(b)
    row_bias = a.new_empty(len(a), 0, dtype=torch.float32)
    if guide is not None:
        row_bias = guide.as_rows()[: len(a)]
        columns = torch.cat((columns, guide.as_columns()[len(a) :]), 1)
    buffer = torch.empty(min(TILE_ROWS, len(a)) * min(TILE_COLUMNS, len(b)))
    for top in range(0, len(a), TILE_ROWS):
        rows = torch.cat((unit_rows(a[top : top + TILE_ROWS]), row_bias[top : top + TILE_ROWS]), 1)
        for left in range(0, len(b), TILE_COLUMNS):
            width = min(TILE_COLUMNS, len(b) - left)
            tile = buffer[: len(rows) * width].view(len(rows), width)
            torch.mm(rows, columns[left : left + width].T, out=tile)
            yield slice(top, top + len(rows)), slice(left, left + width), tile


def match_mutual(a: Tensor, b: Tensor, guide: Guide | None, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return (index_a, index_b, cosine) of the mutual pairs of a (M, D) and b (N, D), sorted by index_a."""
    found = _bfloat16.match_mutual(a, b, guide) if half else None
    if found is not None:
        return found
    row_score = torch.full((len(a),), -torch.inf)
    row_index = torch.zeros(len(a), dtype=torch.int64)
    column_score = torch.full((len(b),), -torch.inf)
    owner = torch.full((len(b),), -1, dtype=torch.int64)
    for rows, columns, tile in _tiles(a, b, guide):
        score, index = tile.max(1)
        better = score > row_score[rows]
        row_index[rows] = torch.where(better, index + columns.start, row_index[rows])
        row_score[rows] = torch.where(better, score, row_score[rows])
        previous = column_score[columns]
        highest = tile.amax(0)
        # Of the columns that a row of this tile prefers, and that no earlier row has reached, the lowest row at the
        # maximum is the owner. These are few, so exact ties cost almost nothing.
        reached = (score == highest[index]) & (score > previous[index])
        claimed = torch.unique(index[reached])
        owner[claimed + columns.start] = tile[:, claimed].argmax(0) + rows.start
        torch.maximum(previous, highest, out=previous)
    if len(b) == 0:
        return row_index[:0], row_index[:0], row_score[:0]
    owns = (column_score[row_index] == row_score) & (owner[row_index] == torch.arange(len(a)))
    index_a = torch.nonzero(owns).squeeze(1)
    index_b, score = row_index[index_a], row_score[index_a]
    return index_a, index_b, score if guide is None else score - guide.bias(index_a, index_b + len(a))


def match_pairs(
    descriptors: Tensor, offsets: Tensor, pairs: Tensor, guide: Guide | None, half: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (offsets, index_a, index_b, score) of the mutual matches of all pairs."""
    return match_each(match_mutual, descriptors, offsets, pairs, guide, half, at_once=True)


def rank_both_ways(a: Tensor, b: Tensor, top_k: int, guide: Guide | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (index_ab, cosine_ab, index_ba, cosine_ba): the k best partners of every row and column, best first."""
    index_ab, score_ab = _empty_ranking(len(a), top_k)
    index_ba, score_ba = _empty_ranking(len(b), top_k)
    for rows, columns, tile in _tiles(a, b, guide):
        _insert(index_ba[columns], score_ba[columns], tile.T.clone(), rows.start)
        _insert(index_ab[rows], score_ab[rows], tile, columns.start)
    if guide is not None:
        bias_ab, bias_ba = guide.rank_bias(index_ab, index_ba)
        score_ab, score_ba = score_ab - bias_ab, score_ba - bias_ba
    return index_ab, score_ab, index_ba, score_ba


def _empty_ranking(num_rows: int, top_k: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(num_rows, top_k, dtype=torch.int64), torch.full((num_rows, top_k), -torch.inf)


def _insert(ranked_index: Tensor, ranked_score: Tensor, tile: Tensor, start: int) -> None:
    """Merge the best of each row of the tile, whose columns count from `start`, into the ranking; spoils the tile."""
    index, score = [ranked_index], [ranked_score]
    for _ in range(min(ranked_score.shape[1], tile.shape[1])):
        best = tile.max(1, keepdim=True)
        tile.scatter_(1, best.indices, -torch.inf)
        index.append(best.indices + start)
        score.append(best.values)
    # Earlier tiles hold lower indices, so a stable sort keeps the lowest index first among equals.
    order = torch.cat(score, 1).sort(dim=1, descending=True, stable=True)
    kept = order.indices[:, : ranked_score.shape[1]]
    ranked_score.copy_(order.values[:, : ranked_score.shape[1]])
    ranked_index.copy_(torch.cat(index, 1).gather(1, kept))
