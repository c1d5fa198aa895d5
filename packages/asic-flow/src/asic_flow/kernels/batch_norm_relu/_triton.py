# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Batch normalisation with ReLU and pooling in Triton: two passes over the signal forward, two backward.

The signal is rows of channels, one row a pixel. What is normalised, where it was cut off and which of four pixels was
the largest are computed again in the backward passes: reading the signal is cheaper than keeping them.
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
# Programs that sum up rows side by side, over all blocks of channels: as many as 132 multiprocessors hold at once, once
# or twice. Their sums are added by one program a block.
MOMENTS_PARTS = 7 * 132
SLOPES_PARTS = 8 * 132
SETTLE = {"BLOCK_PARTS": 256, "BLOCK_CHANNELS": 8}


@triton.jit
def _channels(num_channels, BLOCK_CHANNELS: tl.constexpr):
    """A block's channels and which of them are there."""
    o_channels = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    return o_channels, o_channels < num_channels


@triton.jit
def _first_pixel(o_rows, width, POOL: tl.constexpr):
    """The pixel of a row; of a row of pooled ones, the upper left of its four."""
    if POOL:
        half = width // 2
        o_rows = (o_rows // half) * (2 * width) + (o_rows % half) * 2
    return o_rows.to(tl.int64)


@triton.jit
def _pixel(first, i_pixel: tl.constexpr, width):
    """One of a pooled row's four pixels, in reading order."""
    return first + (i_pixel // 2) * width + i_pixel % 2


@triton.jit
def moments_kernel(
    p_partial,
    p_signal,
    num_rows,
    num_channels,
    rows_each,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Mean of some rows, and the sum of their squared distances from it, (parts, 2, C).

    Rows are taken less the mean of the part's first block, or a mean far from zero would drown the variance.
    """
    i_part = tl.program_id(0)
    o_channels, m_channels = _channels(num_channels, BLOCK_CHANNELS)
    count = tl.minimum(rows_each, num_rows - i_part * rows_each).to(tl.float32)
    o_rows = i_part * rows_each + tl.arange(0, BLOCK_ROWS)
    mask = (o_rows < num_rows)[:, None] & m_channels[None, :]
    o_values = o_rows.to(tl.int64)[:, None] * num_channels + o_channels[None, :]
    values = tl.load(p_signal + o_values, mask=mask, other=0.0).to(tl.float32)
    near = tl.sum(values, 0) / tl.minimum(count, BLOCK_ROWS)
    # of shape [BLOCK_ROWS, BLOCK_CHANNELS]
    total = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    square = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, rows_each, BLOCK_ROWS):
        o_rows = i_part * rows_each + start + tl.arange(0, BLOCK_ROWS)
        mask = (o_rows < num_rows)[:, None] & m_channels[None, :]
        o_values = o_rows.to(tl.int64)[:, None] * num_channels + o_channels[None, :]
        values = tl.load(p_signal + o_values, mask=mask, other=0.0).to(tl.float32)
        values = tl.where(mask, values - near[None, :], 0.0)
        total += values
        square += values * values
    summed = tl.sum(total, 0)
    p_partial += i_part * 2 * num_channels + o_channels
    tl.store(p_partial, near + summed / count, mask=m_channels)
    tl.store(p_partial + num_channels, tl.sum(square, 0) - summed * summed / count, mask=m_channels)


@triton.jit
def settle_kernel(
    p_moments,
    p_partial,
    p_weight,
    p_bias,
    p_running_mean,
    p_running_var,
    num_parts,
    num_rows,
    num_channels,
    rows_each,
    momentum,
    eps,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Mean, 1 / deviation, and the scale and offset that normalise, (4, C); moves the running statistics.

    Means and squared distances of parts are joined as Chan et al. do, 1979, less the first part's mean.
    """
    o_channels, m_channels = _channels(num_channels, BLOCK_CHANNELS)
    near = tl.load(p_partial + o_channels, mask=m_channels, other=0.0)
    # of shape [BLOCK_PARTS, BLOCK_CHANNELS]
    shifted = tl.zeros([BLOCK_PARTS, BLOCK_CHANNELS], tl.float32)
    square = tl.zeros([BLOCK_PARTS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, num_parts, BLOCK_PARTS):
        o_parts = start + tl.arange(0, BLOCK_PARTS)
        mask = (o_parts < num_parts)[:, None] & m_channels[None, :]
        count = tl.minimum(rows_each, num_rows - o_parts * rows_each).to(tl.float32)[:, None]
        p_own = p_partial + o_parts[:, None] * 2 * num_channels + o_channels[None, :]
        away = tl.where(mask, tl.load(p_own, mask=mask, other=0.0) - near[None, :], 0.0)
        shifted += count * away
        square += tl.load(p_own + num_channels, mask=mask, other=0.0) + count * away * away
    away = tl.sum(shifted, 0) / num_rows
    variance = tl.sum(square, 0) / num_rows - away * away
    # What is not finite stays so.
    variance = tl.where(variance < 0, 0.0, variance)
    mean = near + away
    inverse = 1 / tl.sqrt(variance + eps)
    scale = inverse * tl.load(p_weight + o_channels, mask=m_channels, other=0.0)
    offset = tl.load(p_bias + o_channels, mask=m_channels, other=0.0) - mean * scale
    p_moments += o_channels
    tl.store(p_moments, mean, mask=m_channels)
    tl.store(p_moments + num_channels, inverse, mask=m_channels)
    tl.store(p_moments + 2 * num_channels, scale, mask=m_channels)
    tl.store(p_moments + 3 * num_channels, offset, mask=m_channels)
    unbiased = variance * (num_rows / (num_rows - 1.0))
    before = tl.load(p_running_mean + o_channels, mask=m_channels, other=0.0)
    tl.store(p_running_mean + o_channels, before + (mean - before) * momentum, mask=m_channels)
    before = tl.load(p_running_var + o_channels, mask=m_channels, other=0.0)
    tl.store(p_running_var + o_channels, before + (unbiased - before) * momentum, mask=m_channels)


@triton.jit
def _moments(p_moments, num_channels, o_channels, m_channels):
    """Mean, 1 / deviation, scale and offset, each of shape [1, BLOCK_CHANNELS]."""
    p_moments += o_channels
    mean = tl.load(p_moments, mask=m_channels, other=0.0)
    inverse = tl.load(p_moments + num_channels, mask=m_channels, other=0.0)
    scale = tl.load(p_moments + 2 * num_channels, mask=m_channels, other=0.0)
    offset = tl.load(p_moments + 3 * num_channels, mask=m_channels, other=0.0)
    return mean[None, :], inverse[None, :], scale[None, :], offset[None, :]


@triton.jit
def apply_kernel(
    p_out,
    p_pooled,
    p_signal,
    p_moments,
    num_rows,
    num_channels,
    width,
    POOL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Normalise and cut off a block of rows, or of pooled rows with their four pixels each."""
    o_channels, m_channels = _channels(num_channels, BLOCK_CHANNELS)
    _, _, scale, offset = _moments(p_moments, num_channels, o_channels, m_channels)
    o_rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (o_rows < num_rows)[:, None] & m_channels[None, :]
    first = _first_pixel(o_rows, width, POOL)
    largest = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    for i_pixel in tl.static_range(4 if POOL else 1):
        o_values = _pixel(first, i_pixel, width)[:, None] * num_channels + o_channels[None, :]
        value = tl.load(p_signal + o_values, mask=mask, other=0.0).to(tl.float32) * scale + offset
        value = tl.where(value <= 0, 0.0, value).to(p_out.dtype.element_ty).to(tl.float32)
        tl.store(p_out + o_values, value, mask=mask)
        if POOL:
            largest = value if i_pixel == 0 else tl.where(value > largest, value, largest)
    if POOL:
        o_pooled = o_rows.to(tl.int64)[:, None] * num_channels + o_channels[None, :]
        tl.store(p_pooled + o_pooled, largest, mask=mask)


@triton.jit
def _largest(p_signal, first, mask, scale, offset, num_channels, o_channels, width):
    """Which of a pooled row's four pixels holds the largest value, the first of equal ones, as they were stored."""
    winner = tl.zeros(mask.shape, tl.int32)
    best = tl.zeros(mask.shape, tl.float32)
    for i_pixel in tl.static_range(4):
        o_values = _pixel(first, i_pixel, width)[:, None] * num_channels + o_channels[None, :]
        value = tl.load(p_signal + o_values, mask=mask, other=0.0).to(tl.float32) * scale + offset
        value = value.to(p_signal.dtype.element_ty).to(tl.float32)
        higher = (value > best) if i_pixel > 0 else mask
        winner = tl.where(higher, i_pixel, winner)
        best = tl.where(higher, value, best)
    return winner


@triton.jit
def _from_pooled(
    p_signal,
    p_grad_pooled,
    o_rows,
    first,
    mask,
    scale,
    offset,
    num_channels,
    o_channels,
    width,
    POOL: tl.constexpr,
):
    """The gradient that pooled rows hand back, and which of their four pixels each number goes to."""
    pooled = tl.zeros(mask.shape, tl.float32)
    winner = tl.zeros(mask.shape, tl.int32)
    if POOL:
        winner = _largest(p_signal, first, mask, scale, offset, num_channels, o_channels, width)
        o_pooled = o_rows.to(tl.int64)[:, None] * num_channels + o_channels[None, :]
        pooled = tl.load(p_grad_pooled + o_pooled, mask=mask, other=0.0).to(tl.float32)
    return pooled, winner


@triton.jit
def _passed(p_signal, p_grad, o_pixels, pooled, mask, scale, offset, num_channels, o_channels, grad_stride):
    """A pixel's signal and the gradient that passes the cut, with what came through the pooled one."""
    signal = tl.load(p_signal + o_pixels * num_channels + o_channels[None, :], mask=mask, other=0.0).to(tl.float32)
    grad = tl.load(p_grad + o_pixels * grad_stride + o_channels[None, :], mask=mask, other=0.0).to(tl.float32)
    return signal, tl.where(signal * scale + offset <= 0, 0.0, grad + pooled)


@triton.jit
def slopes_kernel(
    p_partial,
    p_signal,
    p_grad,
    p_grad_pooled,
    p_moments,
    num_rows,
    num_channels,
    rows_each,
    grad_stride,
    width,
    POOL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Sums of the gradients that pass the cut, plain and times the normalised signal, over some rows."""
    i_part = tl.program_id(0)
    o_channels, m_channels = _channels(num_channels, BLOCK_CHANNELS)
    mean, inverse, scale, offset = _moments(p_moments, num_channels, o_channels, m_channels)
    # of shape [BLOCK_ROWS, BLOCK_CHANNELS]
    total = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    along = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, rows_each, BLOCK_ROWS):
        o_rows = i_part * rows_each + start + tl.arange(0, BLOCK_ROWS)
        mask = (o_rows < num_rows)[:, None] & m_channels[None, :]
        first = _first_pixel(o_rows, width, POOL)
        pooled, winner = _from_pooled(
            p_signal, p_grad_pooled, o_rows, first, mask, scale, offset, num_channels, o_channels, width, POOL
        )
        for i_pixel in tl.static_range(4 if POOL else 1):
            o_pixels = _pixel(first, i_pixel, width)[:, None]
            through = tl.where(winner == i_pixel, pooled, 0.0)
            signal, grad = _passed(
                p_signal, p_grad, o_pixels, through, mask, scale, offset, num_channels, o_channels, grad_stride
            )
            # Rows past the end have gradients of zero.
            total += grad
            along += grad * ((signal - mean) * inverse)
    p_partial += i_part * 2 * num_channels + o_channels
    tl.store(p_partial, tl.sum(total, 0), mask=m_channels)
    tl.store(p_partial + num_channels, tl.sum(along, 0), mask=m_channels)


@triton.jit
def settle_slopes_kernel(
    p_slopes, p_partial, num_parts, num_channels, BLOCK_PARTS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr
):
    """Gradients (2, C) of bias and weight: the sums of all parts."""
    o_channels, m_channels = _channels(num_channels, BLOCK_CHANNELS)
    # of shape [BLOCK_PARTS, BLOCK_CHANNELS]
    total = tl.zeros([BLOCK_PARTS, BLOCK_CHANNELS], tl.float32)
    along = tl.zeros([BLOCK_PARTS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, num_parts, BLOCK_PARTS):
        o_parts = start + tl.arange(0, BLOCK_PARTS)
        mask = (o_parts < num_parts)[:, None] & m_channels[None, :]
        p_own = p_partial + o_parts[:, None] * 2 * num_channels + o_channels[None, :]
        total += tl.load(p_own, mask=mask, other=0.0)
        along += tl.load(p_own + num_channels, mask=mask, other=0.0)
    tl.store(p_slopes + o_channels, tl.sum(total, 0), mask=m_channels)
    tl.store(p_slopes + num_channels + o_channels, tl.sum(along, 0), mask=m_channels)


@triton.jit
def spread_kernel(
    p_grad_signal,
    p_signal,
    p_grad,
    p_grad_pooled,
    p_moments,
    p_slopes,
    num_rows,
    num_values,
    num_channels,
    grad_stride,
    width,
    POOL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """The signal's gradient: what passes the cut, less what the batch's mean and variance take of it."""
    o_channels, m_channels = _channels(num_channels, BLOCK_CHANNELS)
    mean, inverse, scale, offset = _moments(p_moments, num_channels, o_channels, m_channels)
    total = tl.load(p_slopes + o_channels, mask=m_channels, other=0.0)[None, :] / num_values
    along = tl.load(p_slopes + num_channels + o_channels, mask=m_channels, other=0.0)[None, :] / num_values
    o_rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    mask = (o_rows < num_rows)[:, None] & m_channels[None, :]
    first = _first_pixel(o_rows, width, POOL)
    pooled, winner = _from_pooled(
        p_signal, p_grad_pooled, o_rows, first, mask, scale, offset, num_channels, o_channels, width, POOL
    )
    for i_pixel in tl.static_range(4 if POOL else 1):
        o_pixels = _pixel(first, i_pixel, width)[:, None]
        through = tl.where(winner == i_pixel, pooled, 0.0)
        signal, grad = _passed(
            p_signal, p_grad, o_pixels, through, mask, scale, offset, num_channels, o_channels, grad_stride
        )
        taken = scale * (grad - total - (signal - mean) * inverse * along)
        tl.store(
            p_grad_signal + o_pixels * num_channels + o_channels[None, :],
            taken.to(p_grad_signal.dtype.element_ty),
            mask=mask,
        )


def tile(num_channels: int, *, pool: bool) -> dict[str, int]:
    """Return the block sizes for so many channels; four pixels a row are four times the values."""
    return rows.tile(num_channels, TILE // 4 if pool else TILE)


def _shares(num_rows: int, num_channels: int, blocks: dict[str, int], parts: int) -> tuple[int, int, int]:
    """Return how many rows a program sums up, how many programs do so, and the blocks of channels."""
    across = rows.ceil_div(num_channels, blocks["BLOCK_CHANNELS"])
    return *rows.shares(num_rows, blocks["BLOCK_ROWS"], parts // across), across


def _row_stride(grad: Tensor) -> int | None:
    """Return the distance of two pixels of a (B, C, H, W) tensor whose channels lie side by side; None for others.

    A concatenation along the channels hands out its gradient so, as every second half of a row.
    """
    _, _, height, width = grad.shape
    batch_stride, channel_stride, row_stride, stride = grad.stride()
    fits = channel_stride == 1 and row_stride == width * stride and batch_stride == height * row_stride
    return stride if fits else None


class _NormaliseRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        signal: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        pool: bool,
    ) -> tuple[Tensor, Tensor | None]:
        signal = signal.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = signal.shape
        num_rows = batch * height * width
        blocks = tile(channels, pool=False)
        rows_each, parts, across = _shares(num_rows, channels, blocks, MOMENTS_PARTS)
        partial = weight.new_empty(parts, 2, channels)
        moments_kernel[(parts, across)](
            partial, signal, num_rows, channels, rows_each, **blocks, num_warps=WARPS, enable_fp_fusion=True
        )
        moments = weight.new_empty(4, channels)
        settle_kernel[(1, triton.cdiv(channels, SETTLE["BLOCK_CHANNELS"]))](
            moments,
            partial,
            weight.contiguous(),
            bias.contiguous(),
            running_mean,
            running_var,
            parts,
            num_rows,
            channels,
            rows_each,
            momentum,
            eps,
            **SETTLE,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
        out = torch.empty_like(signal)
        pooled = None
        if pool:
            pooled = torch.empty(
                (batch, channels, height // 2, width // 2),
                dtype=signal.dtype,
                device=signal.device,
                memory_format=torch.channels_last,
            )
        blocks = tile(channels, pool=pool)
        programs = num_rows // (4 if pool else 1)
        apply_kernel[(triton.cdiv(programs, blocks["BLOCK_ROWS"]), across)](
            out,
            pooled,
            signal,
            moments,
            programs,
            channels,
            width,
            POOL=pool,
            **blocks,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
        ctx.save_for_backward(signal, moments)
        ctx.pool = pool
        return out, pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_pooled: Tensor | None) -> tuple[Tensor | None, ...]:
        signal, moments = ctx.saved_tensors
        _, channels, _, width = signal.shape
        num_values = signal.numel() // channels
        if (grad_stride := _row_stride(grad)) is None:
            grad = grad.contiguous(memory_format=torch.channels_last)
            grad_stride = channels
        if grad_pooled is not None:
            grad_pooled = grad_pooled.contiguous(memory_format=torch.channels_last)
        blocks = tile(channels, pool=ctx.pool)
        num_rows = num_values // (4 if ctx.pool else 1)
        rows_each, parts, across = _shares(num_rows, channels, blocks, SLOPES_PARTS)
        partial = moments.new_empty(parts, 2, channels)
        options = {"POOL": ctx.pool, **blocks, "num_warps": WARPS, "enable_fp_fusion": True}
        slopes_kernel[(parts, across)](
            partial,
            signal,
            grad,
            grad_pooled,
            moments,
            num_rows,
            channels,
            rows_each,
            grad_stride,
            width,
            **options,
        )
        slopes = moments.new_empty(2, channels)
        settle_slopes_kernel[(1, triton.cdiv(channels, SETTLE["BLOCK_CHANNELS"]))](
            slopes,
            partial,
            parts,
            channels,
            **SETTLE,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
        grad_signal = torch.empty_like(signal)
        spread_kernel[(triton.cdiv(num_rows, blocks["BLOCK_ROWS"]), across)](
            grad_signal,
            signal,
            grad,
            grad_pooled,
            moments,
            slopes,
            num_rows,
            num_values,
            channels,
            grad_stride,
            width,
            **options,
        )
        return grad_signal, slopes[1], slopes[0], None, None, None, None, None


def normalise(
    signal: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    pool: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the normalised signal and, where asked, its pooled form; takes the batch into the running statistics."""
    rows.refuse_double(signal.dtype)
    found: tuple[Tensor, Tensor | None] = _NormaliseRelu.apply(
        signal, weight, bias, running_mean, running_var, momentum, eps, pool
    )
    return found
