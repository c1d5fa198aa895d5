# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Match contrastive loss in Triton: one pass with a running softmax gives the loss and its gradient.

No atomics, so both are bit-stable. The gradient is known up to the factor that arrives from above; see the README.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK_ROWS = 16
BLOCK_COLUMNS = 64
WARPS = 4


@triton.jit
def contrast_kernel(
    p_ends,
    p_valid,
    p_loss,
    p_slope,
    num_pairs,
    num_matches,
    inverse_temperature,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Loss and slope of a block of matches of one pair, seen from one end; `p_ends` is (2, B, K, 2)."""
    i_pair = tl.program_id(1).to(tl.int64)
    i_end = tl.program_id(2)
    p_valid += i_pair * num_matches
    o_moving = (i_end * num_pairs + i_pair) * num_matches
    o_fixed = ((1 - i_end) * num_pairs + i_pair) * num_matches
    # of shape [BLOCK_ROWS]
    o_rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    m_rows = o_rows < num_matches
    m_valid = tl.load(p_valid + o_rows, mask=m_rows, other=0) != 0
    x = tl.load(p_ends + (o_moving + o_rows) * 2, mask=m_valid, other=0.0)
    y = tl.load(p_ends + (o_moving + o_rows) * 2 + 1, mask=m_valid, other=0.0)
    partner_x = x - tl.load(p_ends + (o_fixed + o_rows) * 2, mask=m_valid, other=0.0)
    partner_y = y - tl.load(p_ends + (o_fixed + o_rows) * 2 + 1, mask=m_valid, other=0.0)
    highest = tl.full([BLOCK_ROWS], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_ROWS], tl.float32)
    pull_x = tl.zeros([BLOCK_ROWS], tl.float32)
    pull_y = tl.zeros([BLOCK_ROWS], tl.float32)
    for start in range(0, num_matches, BLOCK_COLUMNS):
        # of shape [BLOCK_COLUMNS]
        o_columns = start + tl.arange(0, BLOCK_COLUMNS)
        m_columns = tl.load(p_valid + o_columns, mask=o_columns < num_matches, other=0) != 0
        fixed_x = tl.load(p_ends + (o_fixed + o_columns) * 2, mask=m_columns, other=0.0)
        fixed_y = tl.load(p_ends + (o_fixed + o_columns) * 2 + 1, mask=m_columns, other=0.0)
        # of shape [BLOCK_ROWS, BLOCK_COLUMNS]
        across = x[:, None] - fixed_x[None, :]
        down = y[:, None] - fixed_y[None, :]
        squared = across * across + down * down
        # One root for the distance and for what divides by it, 0 where that is undefined.
        inverse = tl.where(squared > 0, tl.rsqrt(tl.where(squared > 0, squared, 1.0)), 0.0)
        logits = tl.where(m_columns[None, :], squared * inverse * -inverse_temperature, float("-inf"))
        higher = tl.maximum(highest, tl.max(logits, 1))
        # While a row has met no candidate its maximum is -inf, which must not be subtracted from itself.
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        fade = tl.exp(highest - shift)
        weight = tl.exp(logits - shift[:, None])
        total = total * fade + tl.sum(weight, 1)
        pull = weight * inverse
        pull_x = pull_x * fade + tl.sum(pull * across, 1)
        pull_y = pull_y * fade + tl.sum(pull * down, 1)
        highest = higher
    distance = tl.sqrt(partner_x * partner_x + partner_y * partner_y)
    unit = tl.where(distance > 0, 1.0, 0.0) / tl.where(distance > 0, distance, 1.0)
    # With no valid match at all nothing was summed.
    total = tl.where(total == 0, 1.0, total)
    loss = tl.where(m_valid, distance * inverse_temperature + highest + tl.log(total), 0.0)
    slope_x = tl.where(m_valid, (partner_x * unit - pull_x / total) * inverse_temperature, 0.0)
    slope_y = tl.where(m_valid, (partner_y * unit - pull_y / total) * inverse_temperature, 0.0)
    tl.store(p_loss + o_moving + o_rows, loss, mask=m_rows)
    tl.store(p_slope + (o_moving + o_rows) * 2, slope_x, mask=m_rows)
    tl.store(p_slope + (o_moving + o_rows) * 2 + 1, slope_y, mask=m_rows)


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, u: Tensor, v: Tensor, valid: Tensor, temperature: float) -> Tensor:
        ends = torch.stack((u, v))
        _, num_pairs, num_matches, _ = ends.shape
        loss = ends.new_empty(ends.shape[:3])
        slope = ends.new_empty(ends.shape)
        if loss.numel():
            grid = (triton.cdiv(num_matches, BLOCK_ROWS), num_pairs, 2)
            contrast_kernel[grid](
                ends,
                valid.contiguous().view(torch.uint8),
                loss,
                slope,
                num_pairs,
                num_matches,
                1 / temperature,
                BLOCK_ROWS=BLOCK_ROWS,
                BLOCK_COLUMNS=BLOCK_COLUMNS,
                num_warps=WARPS,
                enable_fp_fusion=True,
            )
        ctx.save_for_backward(slope)
        return loss[0] + loss[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_u, grad_v = slope * grad[None, :, :, None]
        return grad_u, grad_v, None, None


def contrast(u: Tensor, v: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Return the loss (B, K) of each match, 0 where it is not valid; float32 only."""
    if u.dtype != torch.float32:
        raise TypeError(f"the Triton loss needs float32 points, got {u.dtype}; use impl='reference' for float64")
    loss: Tensor = _Contrast.apply(u, v, valid, temperature)
    return loss
