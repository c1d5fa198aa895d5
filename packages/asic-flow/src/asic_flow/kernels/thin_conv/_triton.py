# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Thin convolutions in Triton.

Signals are rows of channels, one row a pixel. Of the first layer, each pixel's C x 3 x 3 neighbours are gathered as a
column of a small matrix and multiplied where they lie. Of a thin signal, three neighbours in a line are 3 C numbers
side by side, so a tile whose rows overlap holds what the weight's gradient needs of the line.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from asic_flow.kernels import rows

STEM_BYTES = 256  # of a channel of a block of pixels
# The same and how many warps, where products are summed up in registers, by the bytes of a number.
STEM_SUMS = {2: (128, 2), 4: (64, 4)}
# Left to itself the assembler spills a few registers of these to have room for more programs.
STEM_REGISTERS = 255
THIN_PIXELS = 64
HEAD_VALUES = 2048
THIN_WARPS = 8
WARPS = 4
# Programs that sum up a weight's gradient side by side, and lines of one of a thin signal's.
STEM_PARTS = 1056
HEAD_PARTS = 1056
THIN_ROWS = 64


@triton.jit
def _neighbours(p_images, i_row, o_x, num_channels, height, width, BLOCK_INNER: tl.constexpr):
    """Of pixels of one of all photos' rows, (BLOCK_INNER, BLOCK_PIXELS) float32; zero outside."""
    # of shape [BLOCK_INNER, 1]
    o_inner = tl.arange(0, BLOCK_INNER)[:, None]
    i_channel = o_inner // 9
    y = i_row % height + o_inner % 9 // 3 - 1
    x = o_x[None, :] + o_inner % 3 - 1
    inside = (i_channel < num_channels) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    p_photo = p_images + (tl.zeros([1, 1], tl.int64) + i_row // height) * num_channels * height * width
    return tl.load(p_photo + (i_channel * height + y) * width + x, mask=inside, other=0.0)


@triton.jit
def stem_kernel(
    p_out,
    p_images,
    p_weight,
    num_out,
    num_channels,
    height,
    width,
    BLOCK_OUT: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
):
    """Convolve a block of a row's pixels."""
    kind = p_out.dtype.element_ty
    i_row = tl.program_id(0)
    o_x = tl.program_id(1) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    o_out = tl.program_id(2) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    o_inner = tl.arange(0, BLOCK_INNER)
    seen = _neighbours(p_images, i_row, o_x, num_channels, height, width, BLOCK_INNER)
    num_inner = num_channels * 9
    m_weight = (o_out < num_out)[:, None] & (o_inner < num_inner)[None, :]
    weight = tl.load(p_weight + o_out[:, None] * num_inner + o_inner[None, :], mask=m_weight, other=0.0)
    out = tl.trans(tl.dot(weight.to(kind), seen.to(kind), input_precision="ieee"))
    o_pixels = i_row.to(tl.int64) * width + o_x
    mask = (o_x < width)[:, None] & (o_out < num_out)[None, :]
    tl.store(p_out + o_pixels[:, None] * num_out + o_out[None, :], out.to(kind), mask=mask)


@triton.jit
def stem_backward_kernel(
    p_partial,
    p_grad,
    p_images,
    num_rows,
    num_out,
    num_channels,
    height,
    width,
    rows_each,
    BLOCK_OUT: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
):
    """The weight's gradient from some rows; `p_partial` is (parts, O, C x 3 x 3)."""
    kind = p_grad.dtype.element_ty
    i_part = tl.program_id(0)
    o_out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    o_inner = tl.arange(0, BLOCK_INNER)
    total = tl.zeros([BLOCK_INNER, BLOCK_OUT], tl.float32)
    for i_row in range(i_part * rows_each, tl.minimum((i_part + 1) * rows_each, num_rows)):
        for start in range(0, width, BLOCK_PIXELS):
            o_x = start + tl.arange(0, BLOCK_PIXELS)
            seen = _neighbours(p_images, i_row, o_x, num_channels, height, width, BLOCK_INNER)
            o_pixels = (tl.zeros_like(o_x).to(tl.int64) + i_row) * width + o_x
            mask = (o_x < width)[:, None] & (o_out < num_out)[None, :]
            grad = tl.load(p_grad + o_pixels[:, None] * num_out + o_out[None, :], mask=mask, other=0.0)
            total = tl.dot(seen.to(kind), grad, total, input_precision="ieee")
    num_inner = num_channels * 9
    p_partial += (i_part * num_out + o_out[None, :]) * num_inner + o_inner[:, None]
    tl.store(p_partial, total, mask=(o_out < num_out)[None, :] & (o_inner < num_inner)[:, None])


@triton.jit
def _line(p_signal, i_photo, y, low, high, height, width, o_x, o_channels, num_channels, mask):
    """Channels at pixels of a photo's line; zero where it is not one of those from `low` to before `high`."""
    o_y = tl.zeros_like(o_x) + y
    inside = ((o_y >= low) & (o_y < high))[:, None] & mask
    o_pixels = ((i_photo * height + o_y) * width + o_x).to(tl.int64)
    return tl.load(p_signal + o_pixels[:, None] * num_channels + o_channels[None, :], mask=inside, other=0.0)


@triton.jit
def thin_backward_kernel(
    p_partial,
    p_grad,
    p_signal,
    num_out,
    num_channels,
    height,
    width,
    BLOCK_OUT: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The weight's gradient from some lines of a block of columns; `p_partial` is (parts, 3, 3 x C, O)."""
    num_blocks = tl.cdiv(height, ROWS)
    i_lines = tl.program_id(0) % num_blocks
    i_photo = tl.program_id(0) // num_blocks
    i_columns = tl.program_id(1)
    o_x = i_columns * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    o_out = tl.arange(0, BLOCK_OUT)
    # Left, own and right neighbour, one after the other.
    o_inner = tl.arange(0, BLOCK_INNER)
    x = o_x[:, None] + o_inner[None, :] // num_channels - 1
    m_signal = (o_x < width)[:, None] & (x >= 0) & (x < width) & (o_inner < 3 * num_channels)[None, :]
    m_grad = (o_x < width)[:, None] & (o_out < num_out)[None, :]
    above = tl.zeros([BLOCK_INNER, BLOCK_OUT], tl.float32)
    level = tl.zeros([BLOCK_INNER, BLOCK_OUT], tl.float32)
    below = tl.zeros([BLOCK_INNER, BLOCK_OUT], tl.float32)
    first = i_lines * ROWS
    last = tl.minimum(first + ROWS, height)
    for y in range(first - 1, last + 1):
        line = _line(
            p_signal, i_photo, y, 0, height, height, width, o_x, o_inner - num_channels, num_channels, m_signal
        )
        signal = tl.trans(line)
        # A line of the signal lies above the next line's gradient, and below the one's before.
        following = _line(p_grad, i_photo, y + 1, first, last, height, width, o_x, o_out, num_out, m_grad)
        above = tl.dot(signal, following, above)
        own = _line(p_grad, i_photo, y, first, last, height, width, o_x, o_out, num_out, m_grad)
        level = tl.dot(signal, own, level)
        before = _line(p_grad, i_photo, y - 1, first, last, height, width, o_x, o_out, num_out, m_grad)
        below = tl.dot(signal, before, below)
    i_part = (tl.program_id(0) * tl.num_programs(1) + i_columns).to(tl.int64)
    num_inner = 3 * num_channels
    o_partial = (i_part * 3 * num_inner + o_inner)[:, None] * num_out + o_out[None, :]
    mask = (o_inner < num_inner)[:, None] & (o_out < num_out)[None, :]
    tl.store(p_partial + o_partial, above, mask=mask)
    tl.store(p_partial + o_partial + num_inner * num_out, level, mask=mask)
    tl.store(p_partial + o_partial + 2 * num_inner * num_out, below, mask=mask)


@triton.jit
def head_kernel(
    p_field,
    p_signal,
    p_weight,
    p_bias,
    num_rows,
    num_channels,
    num_pixels,
    OUTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """The field at a block of pixels; of each photo, channel after channel."""
    o_rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    m_rows = o_rows < num_rows
    o_channels = tl.arange(0, BLOCK_CHANNELS)
    m_channels = o_channels < num_channels
    place = o_rows.to(tl.int64)[:, None] * num_channels + o_channels[None, :]
    signal = tl.load(p_signal + place, mask=m_rows[:, None] & m_channels[None, :], other=0.0).to(tl.float32)
    p_own = p_field + (o_rows // num_pixels).to(tl.int64) * OUTS * num_pixels + o_rows % num_pixels
    for i_out in tl.static_range(OUTS):
        weight = tl.load(p_weight + i_out * num_channels + o_channels, mask=m_channels, other=0.0)
        value = tl.sum(signal * weight[None, :], 1) + tl.load(p_bias + i_out)
        tl.store(p_own + i_out * num_pixels, value, mask=m_rows)


@triton.jit
def head_backward_kernel(
    p_grad_signal,
    p_partial,
    p_grad,
    p_signal,
    p_weight,
    num_rows,
    num_channels,
    num_pixels,
    num_out,
    rows_each,
    BLOCK_OUT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """The signal's gradient at some pixels, and their sums for weight and bias; `p_partial` is (parts, O, C + 1)."""
    i_part = tl.program_id(0)
    o_channels = tl.arange(0, BLOCK_CHANNELS)
    m_channels = o_channels < num_channels
    o_outs = tl.arange(0, BLOCK_OUT)
    m_outs = o_outs < num_out
    m_weight = m_outs[:, None] & m_channels[None, :]
    weight = tl.load(p_weight + o_outs[:, None] * num_channels + o_channels[None, :], mask=m_weight, other=0.0)
    total = tl.zeros([BLOCK_OUT, BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    alone = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    for start in range(0, rows_each, BLOCK_ROWS):
        o_rows = i_part * rows_each + start + tl.arange(0, BLOCK_ROWS)
        m_rows = o_rows < num_rows
        mask = m_rows[:, None] & m_channels[None, :]
        place = o_rows.to(tl.int64)[:, None] * num_channels + o_channels[None, :]
        signal = tl.load(p_signal + place, mask=mask, other=0.0).to(tl.float32)
        p_own = p_grad + (o_rows // num_pixels).to(tl.int64) * num_out * num_pixels + o_rows % num_pixels
        grad = tl.load(p_own[None, :] + o_outs[:, None] * num_pixels, mask=m_outs[:, None] & m_rows[None, :], other=0.0)
        total += grad[:, :, None] * signal[None, :, :]
        alone += grad
        spread = tl.sum(grad[:, :, None] * weight[:, None, :], 0)
        tl.store(p_grad_signal + place, spread.to(p_grad_signal.dtype.element_ty), mask=mask)
    p_partial += (i_part * num_out + o_outs) * (num_channels + 1)
    tl.store(p_partial[:, None] + o_channels[None, :], tl.sum(total, 1), mask=m_weight)
    tl.store(p_partial + num_channels, tl.sum(alone, 1), mask=m_outs)


def stem_tile(num_channels: int, num_out: int, pixels: int) -> dict[str, int]:
    """Return the first layer's block sizes, 16 or more a side as a matrix product wants them."""
    return {
        "BLOCK_OUT": min(64, max(16, triton.next_power_of_2(num_out))),
        "BLOCK_PIXELS": pixels,
        "BLOCK_INNER": max(16, triton.next_power_of_2(9 * num_channels)),
    }


def thin_tile(num_channels: int, num_out: int) -> dict[str, int]:
    """Return a thin signal's block sizes, likewise."""
    return {
        "BLOCK_OUT": max(16, triton.next_power_of_2(num_out)),
        "BLOCK_PIXELS": THIN_PIXELS,
        "BLOCK_INNER": max(16, triton.next_power_of_2(3 * num_channels)),
        "ROWS": THIN_ROWS,
    }


def head_tile(num_channels: int) -> dict[str, int]:
    """Return the last layer's block sizes; a row of channels is read whole."""
    return rows.tile(num_channels, HEAD_VALUES, num_channels * 2)


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        images = images.contiguous()
        batch, channels, height, width = images.shape
        num_out = len(weight)
        blocks = stem_tile(channels, num_out, STEM_BYTES // dtype.itemsize)
        out = torch.empty(
            (batch, num_out, height, width),
            dtype=dtype,
            device=images.device,
            memory_format=torch.channels_last,
        )
        grid = (
            batch * height,
            triton.cdiv(width, blocks["BLOCK_PIXELS"]),
            triton.cdiv(num_out, blocks["BLOCK_OUT"]),
        )
        stem_kernel[grid](
            out,
            images,
            weight.contiguous(),
            num_out,
            channels,
            height,
            width,
            **blocks,
            num_warps=WARPS,
            maxnreg=STEM_REGISTERS,
        )
        ctx.save_for_backward(images)
        ctx.shape = weight.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        (images,) = ctx.saved_tensors
        batch, channels, height, width = images.shape
        num_out = grad.shape[1]
        grad = grad.contiguous(memory_format=torch.channels_last)
        size, warps = STEM_SUMS[grad.itemsize]
        blocks = stem_tile(channels, num_out, size // grad.itemsize)
        rows_each = triton.cdiv(batch * height, STEM_PARTS)
        parts = triton.cdiv(batch * height, rows_each)
        partial = torch.empty(parts, num_out, channels * 9, dtype=torch.float32, device=grad.device)
        stem_backward_kernel[(parts, triton.cdiv(num_out, blocks["BLOCK_OUT"]))](
            partial,
            grad,
            images,
            batch * height,
            num_out,
            channels,
            height,
            width,
            rows_each,
            **blocks,
            num_warps=warps,
            maxnreg=STEM_REGISTERS,
        )
        return None, partial.sum(0).view(ctx.shape), None


class _Thin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Tensor) -> Tensor:
        signal = signal.contiguous(memory_format=torch.channels_last)
        rounded = weight.to(signal.dtype, memory_format=torch.channels_last)
        ctx.save_for_backward(signal, rounded)
        ctx.kind = weight.dtype
        return torch.nn.functional.conv2d(signal, rounded, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        signal, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = signal.shape
        num_out = len(weight)
        grad_signal = None
        if ctx.needs_input_grad[0]:
            grad_signal = torch.ops.aten.convolution_backward(
                grad, signal, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, False, False)
            )[0]
        blocks = thin_tile(channels, num_out)
        grid = (triton.cdiv(height, blocks["ROWS"]) * batch, triton.cdiv(width, blocks["BLOCK_PIXELS"]))
        partial = torch.empty(grid[0] * grid[1], 3, 3, channels, num_out, dtype=torch.float32, device=grad.device)
        thin_backward_kernel[grid](
            partial, grad, signal, num_out, channels, height, width, **blocks, num_warps=THIN_WARPS
        )
        return grad_signal, partial.sum(0).permute(3, 2, 0, 1).to(ctx.kind)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        signal, weight = signal.contiguous(memory_format=torch.channels_last), weight.contiguous()
        batch, channels, height, width = signal.shape
        num_rows, outs = batch * height * width, len(bias)
        field = torch.empty(batch, outs, height, width, dtype=torch.float32, device=signal.device)
        blocks = head_tile(channels)
        head_kernel[(triton.cdiv(num_rows, blocks["BLOCK_ROWS"]),)](
            field,
            signal,
            weight,
            bias.contiguous(),
            num_rows,
            channels,
            height * width,
            OUTS=outs,
            **blocks,
            num_warps=WARPS,
        )
        ctx.save_for_backward(signal, weight)
        return field

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        signal, weight = ctx.saved_tensors
        batch, channels, height, width = signal.shape
        num_rows, outs = batch * height * width, len(weight)
        blocks = head_tile(channels)
        rows_each, parts = rows.shares(num_rows, blocks["BLOCK_ROWS"], HEAD_PARTS)
        grad_signal = torch.empty_like(signal)
        partial = torch.empty(parts, outs, channels + 1, dtype=torch.float32, device=grad.device)
        head_backward_kernel[(parts,)](
            grad_signal,
            partial,
            grad.contiguous(),
            signal,
            weight,
            num_rows,
            channels,
            height * width,
            outs,
            rows_each,
            BLOCK_OUT=triton.next_power_of_2(outs),
            **blocks,
            num_warps=WARPS,
        )
        sums = partial.sum(0)
        return grad_signal, sums[:, :-1].reshape(weight.shape), sums[:, -1].contiguous()


def stem(images: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, O, H, W) of a dtype, channels last."""
    rows.refuse_double(images.dtype, dtype)
    out: Tensor = _Stem.apply(images, weight, dtype)
    return out


def thin(signal: Tensor, weight: Tensor) -> Tensor:
    """Return (B, O, H, W) of the signal's dtype, channels last."""
    if signal.dtype not in (torch.bfloat16, torch.float16):
        raise TypeError(f"the Triton kernel is of half precision, got {signal.dtype}; use torch's conv2d")
    out: Tensor = _Thin.apply(signal, weight)
    return out


def head(signal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (B, O, H, W) float32, contiguous."""
    rows.refuse_double(signal.dtype)
    field: Tensor = _Head.apply(signal, weight, bias)
    return field
