# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Cosine matching in Triton: one pass over score tiles gives the best partner of every row and every column.

A program owns a block of columns of one pair and walks tiles of rows. A row's best meets the other programs' in a
64-bit minimum, which no order changes, so results are bit-stable. In half precision those are candidates, a few a
row, which a second kernel scores in float32. See the README for the packing and its precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asic_flow.kernels.match_cosine.operands import Guide

# Half precision: a packed score has a 7-bit lane or tile number, hence 128 of each at most; lanes (of a row's columns,
# of a column's rows) are dealt to SLOTS classes by turns, neighbours to different ones, and each has a candidate.
# The block of columns stays in shared memory where it fits (Hopper: 227 KB), for then a tile costs its rows alone; from
# 128 columns and rows that are read again, the second-level cache could not keep up. One stage leaves room for two
# programs a multiprocessor up to width 384.
WAYS: dict[str, dict[str, int]] = {
    "resident": {"BLOCK_M": 64, "BLOCK_N": 128, "SLOTS": 4, "num_warps": 4, "num_stages": 1},
    "packed": {"BLOCK_M": 128, "BLOCK_N": 128, "SLOTS": 4, "num_warps": 8, "num_stages": 3},
    "exact": {"BLOCK_M": 64, "BLOCK_N": 128, "SLOTS": 1, "num_warps": 8, "num_stages": 2},
}
RESIDENT_WIDTH = 416
RANK = {"BLOCK_M": 64, "BLOCK_N": 32, "BLOCK_D": 32, "num_warps": 8, "num_stages": 2, "enable_fp_fusion": True}
ROWS = {"BLOCK": 64, "BLOCK_D": 32, "num_warps": 4, "enable_fp_fusion": True}
TILES_A_PART = 128
WIDTH_MULTIPLE = 32
# Keys of one launch, 8 bytes each: pairs are taken in groups that fit.
KEYS_A_LAUNCH = 1 << 24

# Half precision measures from a little beyond the highest score that the rounding of unit rows allows: near the best
# the distance is small, and small numbers have fine steps.
FAR = tl.constexpr(1 + 2.0**-9)
# What a candidate may lack of the best, by half-precision scores, to be scored again: 30 times their usual error.
MARGIN = tl.constexpr(2.0**-11)
UNANSWERED = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def _falling(score):
    """Turn a float32 into an int32 that falls as it rises."""
    bits = (-score).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _key(order, index):
    """Join an order and an index so that the least key is the least order, the lowest index among equals."""
    return (order.to(tl.int64) << 32) | index.to(tl.int64)


@triton.jit
def _distance(key):
    """Distance from `FAR` that a key of half precision holds."""
    return ((key >> 32).to(tl.int32) << 7).to(tl.float32, bitcast=True)


@triton.jit
def _put_packed_rows(
    p_row_key, score, scale, best, o_m, o_n, i_tile, tile_row, num_rows, first_column, num_columns, SLOTS: tl.constexpr
):
    """Meet the other column blocks' best of a tile of rows; return the lanes' own best, with the tile's number.

    The bits of a positive float have its order, and leave the lowest seven to a number.
    """
    packed = (score * -scale + FAR).to(tl.int32, bitcast=True) & -128
    # of shape [BLOCK_M, SLOTS]
    top = tl.min(tl.reshape(packed | o_n[None, :], [score.shape[0], score.shape[1] // SLOTS, SLOTS]), 1)
    key = _key(top >> 7, tl.minimum(first_column + (top & 127), num_columns - 1))
    o_keys = (tile_row + o_m)[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
    tl.atomic_min(p_row_key + o_keys, key, mask=(tile_row + o_m < num_rows)[:, None], sem="relaxed")
    return tl.minimum(best, packed | i_tile)


@triton.jit
def _put_packed_columns(
    p_column_key, best, o_m, o_n, first_row, num_rows, first_column, num_columns, SLOTS: tl.constexpr
):
    """Reduce the lanes' own best over each class of a tile's rows, and meet the other parts' best of these columns."""
    best = tl.reshape(best, [best.shape[0] // SLOTS, SLOTS, best.shape[1]])
    lanes = tl.reshape(o_m, [best.shape[0], SLOTS])
    # of shape [SLOTS, BLOCK_N]
    top = tl.min(best, 0)
    lane = tl.min(tl.where(best == top[None, :, :], lanes[:, :, None], o_m.shape[0] - 1), 0)
    key = _key(top >> 7, tl.minimum(first_row + (top & 127) * o_m.shape[0] + lane, num_rows - 1))
    o_keys = (first_column + o_n)[None, :] * SLOTS + tl.arange(0, SLOTS)[:, None]
    tl.atomic_min(p_column_key + o_keys, key, mask=(first_column + o_n < num_columns)[None, :], sem="relaxed")


@triton.jit
def _exact_scores(
    p_rows, p_columns, o_rows, o_columns, width, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Products [BLOCK_M, BLOCK_N] of float32 rows and columns, in three tf32 products each."""
    o_d = tl.arange(0, BLOCK_D)
    score = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, width, BLOCK_D):
        a = tl.load(p_rows + o_rows[:, None] * width + (start + o_d)[None, :])
        b = tl.load(p_columns + o_columns[None, :] * width + (start + o_d)[:, None])
        score = tl.dot(a, b, score, input_precision="tf32x3")
    return score


@triton.jit
def unit_kernel(p_units, p_descriptors, num_rows, width, padded_width, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """Bring rows to unit length in the precision of the products, zeros behind them; a zero row stays zero."""
    # of shape [BLOCK, 1]
    o_rows = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)[:, None]
    m_rows = o_rows < num_rows
    # of shape [BLOCK, BLOCK_D]
    square = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for start in range(0, width, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)[None, :]
        values = tl.load(p_descriptors + o_rows * width + o_d, mask=m_rows & (o_d < width), other=0.0).to(tl.float32)
        square += values * values
    length = tl.sqrt(tl.sum(square, 1))[:, None]
    length = tl.where(length > 0, length, 1.0)
    for start in range(0, padded_width, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)[None, :]
        values = tl.load(p_descriptors + o_rows * width + o_d, mask=m_rows & (o_d < width), other=0.0).to(tl.float32)
        tl.store(p_units + o_rows * padded_width + o_d, values / length, mask=m_rows & (o_d < padded_width))


@triton.jit
def match_kernel(
    p_rows,
    p_columns,
    p_starts,
    p_pairs,
    p_ends,
    p_keys,
    p_scale,
    column_blocks,
    parts,
    width,
    WAY: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SLOTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Best keys of a block of columns over a part of the rows of one pair, and of those rows over the block.

    Three ways: `"resident"` packs keys and keeps the block of columns, of a WIDTH known beforehand, in shared memory;
    `"packed"` packs keys; `"exact"` works in float32, with whole scores for keys. A pair's rows have SLOTS keys each
    from where `p_ends` says, its columns from where the next entry says.
    """
    i_part = tl.program_id(0) % parts
    i_pair = tl.program_id(0) // (parts * column_blocks)
    i_column_block = (tl.program_id(0) // parts) % column_blocks
    first_column = i_column_block * BLOCK_N
    i_a = tl.load(p_pairs + 2 * i_pair)
    i_b = tl.load(p_pairs + 2 * i_pair + 1)
    start_a = tl.load(p_starts + i_a)
    start_b = tl.load(p_starts + i_b)
    num_rows = (tl.load(p_starts + i_a + 1) - start_a).to(tl.int32)
    num_columns = (tl.load(p_starts + i_b + 1) - start_b).to(tl.int32)
    tiles = tl.cdiv(tl.cdiv(num_rows, BLOCK_M), parts)
    first_row = i_part * tiles * BLOCK_M
    tiles = tl.minimum(tiles, tl.cdiv(num_rows - first_row, BLOCK_M))
    p_row_key = p_keys + tl.load(p_ends + 2 * i_pair) * SLOTS
    p_column_key = p_keys + tl.load(p_ends + 2 * i_pair + 1) * SLOTS
    if (first_column < num_columns) & (first_row < num_rows):
        o_m = tl.arange(0, BLOCK_M)
        o_n = tl.arange(0, BLOCK_N)
        o_d = tl.arange(0, BLOCK_D)
        # Lanes past the end repeat the last column: whichever of them wins, that column has won. The same for rows.
        o_columns = start_b + tl.minimum(first_column + o_n, num_columns - 1)
        if WAY == "exact":
            best_score = tl.full([BLOCK_N], float("-inf"), tl.float32)
            best_row = tl.zeros([BLOCK_N], tl.int32)
            for i_tile in range(tiles):
                tile_row = first_row + i_tile * BLOCK_M
                o_rows = start_a + tl.minimum(tile_row + o_m, num_rows - 1)
                score = _exact_scores(p_rows, p_columns, o_rows, o_columns, width, BLOCK_M, BLOCK_N, BLOCK_D)
                top = tl.max(score, 1)
                lane = tl.min(tl.where(score == top[:, None], o_n[None, :], BLOCK_N - 1), 1)
                key = _key(_falling(top), tl.minimum(first_column + lane, num_columns - 1))
                tl.atomic_min(p_row_key + tile_row + o_m, key, mask=tile_row + o_m < num_rows, sem="relaxed")
                top = tl.max(score, 0)
                lane = tl.min(tl.where(score == top[None, :], o_m[:, None], BLOCK_M - 1), 0)
                better = top > best_score
                best_score = tl.where(better, top, best_score)
                best_row = tl.where(better, tile_row + lane, best_row)
            key = _key(_falling(best_score), tl.minimum(best_row, num_rows - 1))
            tl.atomic_min(p_column_key + first_column + o_n, key, mask=first_column + o_n < num_columns, sem="relaxed")
        else:
            scale = tl.load(p_scale)
            # Column blocks begin at different tiles, or all of them would meet at the same rows' keys at once.
            turn = i_column_block * tiles // column_blocks
            # of shape [BLOCK_M, BLOCK_N] every lane keeps its own best, so that columns are reduced once.
            best = tl.full([BLOCK_M, BLOCK_N], 0x7FFFFFFF, tl.int32)
            if WAY == "resident":
                columns = ()
                for i_depth in tl.static_range(WIDTH // BLOCK_D):
                    values = tl.load(p_columns + o_columns[None, :] * WIDTH + (i_depth * BLOCK_D + o_d)[:, None])
                    columns = columns + (values,)  # type: ignore[assignment]  # noqa: RUF005 - no unpacking in Triton
                for step in tl.range(0, tiles, num_stages=STAGES):
                    i_tile = (step + turn) % tiles
                    tile_row = first_row + i_tile * BLOCK_M
                    o_rows = start_a + tl.minimum(tile_row + o_m, num_rows - 1)
                    score = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
                    for i_depth in tl.static_range(WIDTH // BLOCK_D):
                        a = tl.load(p_rows + o_rows[:, None] * WIDTH + (i_depth * BLOCK_D + o_d)[None, :])
                        score = tl.dot(a, columns[i_depth], score)
                    sizes = (num_rows, first_column, num_columns)
                    best = _put_packed_rows(p_row_key, score, scale, best, o_m, o_n, i_tile, tile_row, *sizes, SLOTS)
            else:
                # of shape [BLOCK_D, BLOCK_N]
                p_b = p_columns + o_columns[None, :] * width + o_d[:, None]
                depth = width // BLOCK_D
                score = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
                # One loop over tiles and depth, so that loads run ahead across tiles.
                for step in range(tiles * depth):
                    i_tile = (step // depth + turn) % tiles
                    i_depth = step % depth
                    tile_row = first_row + i_tile * BLOCK_M
                    o_rows = start_a + tl.minimum(tile_row + o_m, num_rows - 1)
                    a = tl.load(p_rows + o_rows[:, None] * width + (i_depth * BLOCK_D + o_d)[None, :])
                    b = tl.load(p_b + i_depth * BLOCK_D)
                    score = tl.dot(a, b, score)
                    if i_depth == depth - 1:
                        sizes = (num_rows, first_column, num_columns)
                        best = _put_packed_rows(
                            p_row_key, score, scale, best, o_m, o_n, i_tile, tile_row, *sizes, SLOTS
                        )
                        score = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
            _put_packed_columns(p_column_key, best, o_m, o_n, first_row, num_rows, first_column, num_columns, SLOTS)


@triton.jit
def rank_kernel(
    p_rows,
    p_columns,
    p_score,
    p_index,
    num_rows,
    num_columns,
    width,
    TOP_K: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Best TOP_K columns of a block of rows, in no order; SLOTS is the power of two that holds them."""
    o_m = tl.arange(0, BLOCK_M)
    o_n = tl.arange(0, BLOCK_N)
    o_slots = tl.arange(0, SLOTS)
    first_row = tl.program_id(0) * BLOCK_M
    o_rows = tl.minimum(first_row + o_m, num_rows - 1).to(tl.int64)
    # of shape [BLOCK_M, SLOTS] unused slots are never the worst, and so never replaced.
    kept_score = tl.where((o_slots < TOP_K)[None, :], float("-inf"), float("inf"))
    kept_score += tl.zeros([BLOCK_M, SLOTS], tl.float32)
    kept_index = tl.zeros([BLOCK_M, SLOTS], tl.int32)
    for first_column in range(0, num_columns, BLOCK_N):
        o_columns = tl.minimum(first_column + o_n, num_columns - 1).to(tl.int64)
        score = _exact_scores(p_rows, p_columns, o_rows, o_columns, width, BLOCK_M, BLOCK_N, BLOCK_D)
        score = tl.where((first_column + o_n < num_columns)[None, :], score, float("-inf"))
        for _ in tl.static_range(TOP_K):
            top = tl.max(score, 1)
            lane = tl.min(tl.where(score == top[:, None], o_n[None, :], BLOCK_N - 1), 1)
            score = tl.where(o_n[None, :] == lane[:, None], float("-inf"), score)
            worst = tl.min(kept_score, 1)
            # Among equally bad ones the highest index goes first; a newcomer must beat it, being higher still.
            m_worst = kept_score == worst[:, None]
            latest = tl.max(tl.where(m_worst, kept_index, -1), 1)
            slot = tl.min(tl.where(m_worst & (kept_index == latest[:, None]), o_slots[None, :], SLOTS - 1), 1)
            replaced = (o_slots[None, :] == slot[:, None]) & (top > worst)[:, None]
            kept_score = tl.where(replaced, top[:, None], kept_score)
            kept_index = tl.where(replaced, (first_column + lane)[:, None], kept_index)
    o_kept = (first_row + o_m).to(tl.int64)[:, None] * TOP_K + o_slots[None, :]
    m_kept = (first_row + o_m < num_rows)[:, None] & (o_slots < TOP_K)[None, :]
    tl.store(p_score + o_kept, kept_score, mask=m_kept)
    tl.store(p_index + o_kept, kept_index.to(tl.int64), mask=m_kept)


@triton.jit
def settle_kernel(
    p_settled,
    p_keys,
    p_descriptors,
    p_points,
    p_starts,
    p_pairs,
    p_ends,
    blocks,
    width,
    weight,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Score a block of the candidates of one side of a pair in float32, and meet the others of both their ends."""
    i_side = tl.program_id(0) // blocks % 2
    i_pair = tl.program_id(0) // (2 * blocks)
    i_own = tl.load(p_pairs + 2 * i_pair + i_side)
    i_other = tl.load(p_pairs + 2 * i_pair + 1 - i_side)
    start_own = tl.load(p_starts + i_own)
    start_other = tl.load(p_starts + i_other)
    num_own = (tl.load(p_starts + i_own + 1) - start_own).to(tl.int32)
    end_own = tl.load(p_ends + 2 * i_pair + i_side)
    end_other = tl.load(p_ends + 2 * i_pair + 1 - i_side)
    # of shape [BLOCK]
    o_lanes = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    o_own = o_lanes // SLOTS
    key = tl.load(p_keys + end_own * SLOTS + o_lanes, mask=o_own < num_own, other=UNANSWERED)
    m_own = key != UNANSWERED
    if SLOTS > 1:
        # of shape [BLOCK, SLOTS]
        o_class = (end_own + o_own)[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
        nearest = tl.min(_distance(tl.load(p_keys + o_class, mask=m_own[:, None], other=0)), 1)
        m_own = m_own & (_distance(key) <= nearest + MARGIN)
    o_other = key & 0xFFFFFFFF
    # of shape [BLOCK, BLOCK_D]
    product = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    square_own = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    square_other = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    p_own = p_descriptors + (start_own + o_own)[:, None] * width
    p_other = p_descriptors + (start_other + o_other)[:, None] * width
    for start in range(0, width, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)[None, :]
        m_values = m_own[:, None] & (o_d < width)
        own = tl.load(p_own + o_d, mask=m_values, other=0.0).to(tl.float32)
        other = tl.load(p_other + o_d, mask=m_values, other=0.0).to(tl.float32)
        product += own * other
        square_own += own * own
        square_other += other * other
    lengths = tl.sqrt(tl.sum(square_own, 1)) * tl.sqrt(tl.sum(square_other, 1))
    score = tl.sum(product, 1) / tl.where(lengths > 0, lengths, 1.0)
    if p_points is not None:
        p_u = p_points + (start_own + o_own) * 2
        p_v = p_points + (start_other + o_other) * 2
        across = tl.load(p_u, mask=m_own, other=0.0) - tl.load(p_v, mask=m_own, other=0.0)
        down = tl.load(p_u + 1, mask=m_own, other=0.0) - tl.load(p_v + 1, mask=m_own, other=0.0)
        score -= weight * (across * across + down * down)
    order = _falling(score)
    tl.atomic_min(p_settled + end_own + o_own, _key(order, o_other), mask=m_own, sem="relaxed")
    tl.atomic_min(p_settled + end_other + o_other, _key(order, o_own), mask=m_own, sem="relaxed")


@dataclass(frozen=True)
class _Operands:
    """Rows and columns of the products (S, width) in one dtype, and the scale that brings scores within [-1, 1]."""

    rows: Tensor
    columns: Tensor
    scale: Tensor


def _operands(descriptors: Tensor, guide: Guide | None, half: bool) -> _Operands:
    num_rows, width = descriptors.shape
    biases: list[Tensor] = []
    scale = torch.ones((), device=descriptors.device)
    if guide is not None and num_rows:
        scale = 1 / (1 + guide.extent())
        biases = [guide.as_rows(), guide.as_columns()]
        if half:
            # Each number as the sum of two halves: three of the four products, the last being below the rounding.
            (row, row_high), (column, column_high) = ((bias, bias.half().float()) for bias in biases)
            biases = [
                torch.cat((row_high, row_high, row - row_high), 1),
                torch.cat((column_high, column - column_high, column_high), 1),
            ]
    used = width + (biases[0].shape[1] if biases else 0)
    padded = triton.cdiv(used, WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    rows = torch.empty(num_rows, padded, dtype=torch.float16 if half else torch.float32, device=descriptors.device)
    if num_rows:
        unit_kernel[(triton.cdiv(num_rows, ROWS["BLOCK"]),)](rows, descriptors, num_rows, width, padded, **ROWS)
    columns = rows.clone() if biases else rows
    for side, bias in zip((rows, columns), biases, strict=False):
        side[:, width:used] = bias
    return _Operands(rows, columns, scale)


def match_pairs(
    descriptors: Tensor, offsets: Tensor, pairs: Tensor, guide: Guide | None, half: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (offsets, index_a, index_b, score) of the mutual matches of all pairs; `offsets` and `pairs` on the host.

    Nothing waits for the device but the number of matches of a launch.
    """
    device = descriptors.device
    descriptors = descriptors.contiguous()
    operands = _operands(descriptors, guide, half)
    width = operands.rows.shape[1]
    way = "exact"
    if half:
        way = "resident" if width <= RESIDENT_WIDTH and _is_hopper(device) else "packed"
    config = configuration(way, width)
    starts, sizes = offsets.to(device), offsets.diff()[pairs]
    none = torch.empty(0, dtype=torch.int64, device=device)
    found = [(none, none, none, none.float())]
    for group in _groups((sizes.sum(1) * config["SLOTS"]).tolist()):
        best = _best_of_each(descriptors, operands, starts, pairs[group], sizes[group], guide, config)
        pair, index_a, index_b, score = _mutual(*best[:2])
        if guide is not None:
            set_a, set_b = best[2][pair].unbind(1)
            score = score - guide.bias(starts[set_a] + index_a, starts[set_b] + index_b)
        found.append((pair + group.start, index_a, index_b, score))
    pair, index_a, index_b, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    return torch.searchsorted(pair, torch.arange(len(pairs) + 1, device=device)), index_a, index_b, score


def configuration(way: str, width: int) -> dict[str, Any]:
    """Return the constants and launch options of `match_kernel`; only the resident way is compiled for one width."""
    depth = {"resident": 128, "packed": 64, "exact": 32}[way]
    stages = WAYS[way]["num_stages"]
    constants = {"WAY": way, "WIDTH": width if way == "resident" else 0, "STAGES": stages}
    return WAYS[way] | constants | {"BLOCK_D": math.gcd(width, depth), "enable_fp_fusion": True}


def _is_hopper(device: torch.device) -> bool:
    """Say whether a device has Hopper's shared memory; the interpreter has as much as it likes."""
    return device.type == "cpu" or torch.cuda.get_device_capability(device)[0] == 9


def _groups(sizes: list[int]) -> list[slice]:
    """Return runs of pairs whose keys fit one launch; a pair that does not fit is a run of its own."""
    groups, start, total = [], 0, 0
    for position, size in enumerate(sizes):
        if position > start and total + size > KEYS_A_LAUNCH:
            groups.append(slice(start, position))
            start, total = position, 0
        total += size
    if sizes:
        groups.append(slice(start, len(sizes)))
    return groups


def _best_of_each(
    descriptors: Tensor,
    operands: _Operands,
    starts: Tensor,
    pairs: Tensor,
    sizes: Tensor,
    guide: Guide | None,
    config: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the keys of all best partners, each pair's rows and then its columns, and on the device where these begin.

    The third is `pairs` on the device; `pairs` and their `sizes` are on the host.
    """
    device = descriptors.device
    ends = torch.nn.functional.pad(sizes.flatten().cumsum(0), (1, 0))
    settled = torch.full((int(ends[-1]),), UNANSWERED.value, device=device)
    keys = torch.full((len(settled) * config["SLOTS"],), UNANSWERED.value, device=device)
    most_rows, most_columns = sizes.amax(0).tolist()
    column_blocks = triton.cdiv(most_columns, config["BLOCK_N"])
    parts = triton.cdiv(triton.cdiv(most_rows, config["BLOCK_M"]), TILES_A_PART)
    pairs, ends = pairs.to(device), ends.to(device)
    if column_blocks * parts:
        match_kernel[(len(pairs) * column_blocks * parts,)](
            operands.rows,
            operands.columns,
            starts,
            pairs,
            ends,
            keys,
            None if config["WAY"] == "exact" else operands.scale,
            column_blocks,
            parts,
            operands.rows.shape[1],
            **config,
        )
        blocks = triton.cdiv(max(most_rows, most_columns) * config["SLOTS"], ROWS["BLOCK"])
        settle_kernel[(len(pairs) * 2 * blocks,)](
            settled,
            keys,
            descriptors,
            None if guide is None else guide.points,
            starts,
            pairs,
            ends,
            blocks,
            descriptors.shape[1],
            0.0 if guide is None else float(guide.weight),
            SLOTS=config["SLOTS"],
            **ROWS,
        )
    return settled, ends, pairs


def _unpacked(settled: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index and the score of settled keys."""
    order = (settled >> 32).to(torch.int32)
    return settled & 0xFFFFFFFF, -(order ^ (order >> 31 & 0x7FFFFFFF)).view(torch.float32)


def _mutual(settled: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (pair, index_a, index_b, score) of the rows whose best column's best row they are."""
    place = torch.arange(len(settled), device=settled.device)
    side = torch.searchsorted(ends, place, right=True) - 1
    own, (partner, score) = place - ends[side], _unpacked(settled)
    back = settled[(ends[side + 1] + partner).clamp(max=len(settled) - 1)] & 0xFFFFFFFF
    matched = ((side % 2 == 0) & (settled != UNANSWERED.value) & (back == own)).nonzero().squeeze(1)
    return side[matched] // 2, own[matched], partner[matched], score[matched]


def match_mutual(a: Tensor, b: Tensor, guide: Guide | None, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return (index_a, index_b, cosine) of the mutual pairs of a (M, D) and b (N, D), sorted by index_a."""
    offsets = torch.tensor([0, len(a), len(a) + len(b)])
    _, index_a, index_b, score = match_pairs(torch.cat((a, b)), offsets, torch.tensor([[0, 1]]), guide, half)
    return index_a, index_b, score


def rank_both_ways(a: Tensor, b: Tensor, top_k: int, guide: Guide | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (index_ab, cosine_ab, index_ba, cosine_ba): the k best partners of every row and column, best first."""
    split, descriptors = len(a), torch.cat((a, b))
    operands = _operands(descriptors, guide, half=False)
    if top_k == 1:
        starts = torch.tensor([0, split, len(descriptors)], device=a.device)
        pair, sizes = torch.tensor([[0, 1]]), torch.tensor([[split, len(b)]])
        config = configuration("exact", operands.rows.shape[1])
        settled, *_ = _best_of_each(descriptors, operands, starts, pair, sizes, guide, config)
        (index_ab, score_ab), (index_ba, score_ba) = map(_unpacked, torch.split(settled[:, None], [split, len(b)]))
    else:
        index_ab, score_ab = _rank(operands.rows[:split], operands.columns[split:], top_k)
        index_ba, score_ba = _rank(operands.rows[split:], operands.columns[:split], top_k)
    if guide is not None:
        bias_ab, bias_ba = guide.rank_bias(index_ab, index_ba)
        score_ab, score_ba = score_ab - bias_ab, score_ba - bias_ba
    return index_ab, score_ab, index_ba, score_ba


def _rank(rows: Tensor, columns: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    score = rows.new_empty(len(rows), top_k)
    index = torch.empty(len(rows), top_k, dtype=torch.int64, device=rows.device)
    rank_kernel[(triton.cdiv(len(rows), RANK["BLOCK_M"]),)](
        rows,
        columns,
        score,
        index,
        len(rows),
        len(columns),
        rows.shape[1],
        TOP_K=top_k,
        SLOTS=triton.next_power_of_2(top_k),
        **RANK,
    )
    index, order = index.sort(1)
    score, best = score.gather(1, order).sort(dim=1, descending=True, stable=True)
    return index.gather(1, best), score
