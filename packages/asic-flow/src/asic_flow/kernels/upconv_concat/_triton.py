# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""The step up in Triton: a matrix product makes four pixels of each, and one copy puts everything in its place.

Signals are rows of channels, one row a pixel. The product's rows are low pixels with their four, each of its channels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from asic_flow.kernels import rows

TILE = 2048  # values
WARPS = 4
# Programs that sum up the bias's gradient side by side, over all blocks of channels.
PARTS = 1024


@triton.jit
def _made_row(o_rows, width):
    """Of rows of an upsampled signal, in reading order, the rows of the product that made them."""
    y = o_rows // width
    x = o_rows % width
    return ((y // 2) * (width // 2) + x // 2) * 4 + (y % 2) * 2 + x % 2


@triton.jit
def _upsampled_row(o_made, width):
    """The other way round."""
    o_low = o_made // 4
    half = width // 2
    return ((o_low // half) * 2 + (o_made % 4) // 2) * width + (o_low % half) * 2 + o_made % 2


@triton.jit
def place_kernel(
    p_joined,
    p_signal,
    p_bias,
    num_rows,
    num_channels,
    stride,
    first_channel,
    width,
    MADE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Put a block of the skip, or of what the product made and its bias, among the joined channels."""
    o_channels = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    m_channels = o_channels < num_channels
    o_rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (o_rows < num_rows)[:, None] & m_channels[None, :]
    o_source = _made_row(o_rows, width) if MADE else o_rows
    value = tl.load(
        p_signal + o_source.to(tl.int64)[:, None] * num_channels + o_channels[None, :], mask=mask, other=0.0
    )
    if MADE:
        value = value.to(tl.float32) + tl.load(p_bias + o_channels, mask=m_channels, other=0.0)[None, :]
    o_joined = o_rows.to(tl.int64)[:, None] * stride + first_channel + o_channels[None, :]
    tl.store(p_joined + o_joined, value, mask=mask)


@triton.jit
def collect_kernel(
    p_grad_made,
    p_partial,
    p_grad,
    num_rows,
    num_channels,
    stride,
    first_channel,
    width,
    rows_each,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """The gradient of some of the product's rows, and their sums, which are the bias's."""
    i_part = tl.program_id(0)
    o_channels = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    m_channels = o_channels < num_channels
    total = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, rows_each, BLOCK_ROWS):
        o_made = i_part * rows_each + start + tl.arange(0, BLOCK_ROWS)
        mask = (o_made < num_rows)[:, None] & m_channels[None, :]
        o_rows = _upsampled_row(o_made, width).to(tl.int64)
        value = tl.load(p_grad + o_rows[:, None] * stride + first_channel + o_channels[None, :], mask=mask, other=0.0)
        tl.store(p_grad_made + o_made.to(tl.int64)[:, None] * num_channels + o_channels[None, :], value, mask=mask)
        total += value.to(tl.float32)
    tl.store(p_partial + i_part * num_channels + o_channels, tl.sum(total, 0), mask=m_channels)


def tile(num_channels: int) -> dict[str, int]:
    """Return the block sizes for so many channels."""
    return rows.tile(num_channels, TILE)


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, skip: Tensor, low: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        skip = skip.contiguous(memory_format=torch.channels_last)
        low = low.contiguous(memory_format=torch.channels_last)
        batch, passed, height, width = skip.shape
        inner, made, _, _ = weight.shape
        pixels = low.permute(0, 2, 3, 1).reshape(batch, -1, inner)
        matrix = weight.to(low.dtype).permute(0, 2, 3, 1).reshape(inner, 4 * made)
        product = pixels.view(-1, inner) @ matrix
        joined = torch.empty(
            (batch, passed + made, height, width),
            dtype=skip.dtype,
            device=skip.device,
            memory_format=torch.channels_last,
        )
        num_rows = batch * height * width
        for signal, channels, first in ((skip, passed, 0), (product, made, passed)):
            blocks = tile(channels)
            grid = (triton.cdiv(num_rows, blocks["BLOCK_ROWS"]), triton.cdiv(channels, blocks["BLOCK_CHANNELS"]))
            place_kernel[grid](
                joined,
                signal,
                bias.contiguous() if first else None,
                num_rows,
                channels,
                passed + made,
                first,
                width,
                MADE=first > 0,
                **blocks,
                num_warps=WARPS,
            )
        ctx.save_for_backward(pixels, matrix)
        ctx.passed, ctx.kinds = passed, (weight.dtype, bias.dtype)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        pixels, matrix = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = grad.shape
        made, inner = channels - ctx.passed, pixels.shape[2]
        num_rows = batch * height * width
        blocks = tile(made)
        across = triton.cdiv(made, blocks["BLOCK_CHANNELS"])
        rows_each, parts = rows.shares(num_rows, blocks["BLOCK_ROWS"], PARTS // across)
        grad_made = grad.new_empty(batch, height * width // 4, 4 * made)
        partial = torch.empty(parts, made, dtype=torch.float32, device=grad.device)
        collect_kernel[(parts, across)](
            grad_made,
            partial,
            grad,
            num_rows,
            made,
            channels,
            ctx.passed,
            width,
            rows_each,
            **blocks,
            num_warps=WARPS,
        )
        grad_low = (grad_made.view(-1, 4 * made) @ matrix.T).view(batch, height // 2, width // 2, inner)
        # A product a photo: one over all pixels at once has a single small result, which few programs would share.
        grad_matrix = (pixels.transpose(1, 2) @ grad_made).sum(0, dtype=torch.float32)
        grad_weight = grad_matrix.view(inner, 2, 2, made).permute(0, 3, 1, 2)
        weight_kind, bias_kind = ctx.kinds
        return (
            grad[:, : ctx.passed],
            grad_low.permute(0, 3, 1, 2),
            grad_weight.to(weight_kind),
            partial.sum(0).to(bias_kind),
        )


def join(skip: Tensor, low: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (B, S + C, 2 h, 2 w), channels last."""
    rows.refuse_double(skip.dtype)
    joined: Tensor = _Join.apply(skip, low, weight, bias)
    return joined
