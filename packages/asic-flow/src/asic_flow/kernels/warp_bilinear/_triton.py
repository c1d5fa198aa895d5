# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Bilinear warp in Triton: resize of the points, affine map, sampling and mask in one pass, and both gradients.

The gradient of a shared image is where all photos of a batch meet. Floating-point atomics add in any order; here the
default adds whole numbers, which no order changes, so the gradient has the same bits on every run.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from asic_flow.kernels.warp_bilinear.placement import resize_gradient, resize_points

BLOCK = 256
WARPS = 4


@triton.jit
def _weights(across, down):
    """Weights of a cell's upper left, upper right, lower left and lower right corner."""
    return (1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across


@triton.jit
def _resized(p_points, o_points, width_in, height_in, width_out, height_out):
    """Interpolate the field of points (height_in, width_in, 2) at output pixels, corners aligned."""
    row = o_points // width_out
    column = o_points % width_out
    y = row.to(tl.float32) * (height_in - 1) / tl.maximum(height_out - 1, 1).to(tl.float32)
    x = column.to(tl.float32) * (width_in - 1) / tl.maximum(width_out - 1, 1).to(tl.float32)
    top = tl.minimum(y.to(tl.int32), height_in - 1)
    left = tl.minimum(x.to(tl.int32), width_in - 1)
    below = tl.minimum(top + 1, height_in - 1)
    right = tl.minimum(left + 1, width_in - 1)
    down = y - top.to(tl.float32)
    across = x - left.to(tl.float32)
    weight_a, weight_b, weight_c, weight_d = _weights(across, down)
    p_a = p_points + (top * width_in + left) * 2
    p_b = p_points + (top * width_in + right) * 2
    p_c = p_points + (below * width_in + left) * 2
    p_d = p_points + (below * width_in + right) * 2
    u = tl.load(p_a) * weight_a + tl.load(p_b) * weight_b + tl.load(p_c) * weight_c + tl.load(p_d) * weight_d
    v = tl.load(p_a + 1) * weight_a + tl.load(p_b + 1) * weight_b
    v += tl.load(p_c + 1) * weight_c + tl.load(p_d + 1) * weight_d
    return u, v


@triton.jit
def _placed(
    p_points,
    p_affine,
    i_sample,
    o_points,
    width_in,
    height_in,
    width_out,
    height_out,
    RESIZE: tl.constexpr,
    AFFINE: tl.constexpr,
):
    """Coordinates at which output points sample the image."""
    p_own = p_points + i_sample * height_in * width_in * 2
    if RESIZE:
        u, v = _resized(p_own, o_points, width_in, height_in, width_out, height_out)
    else:
        u = tl.load(p_own + o_points * 2)
        v = tl.load(p_own + o_points * 2 + 1)
    if AFFINE:
        p_map = p_affine + i_sample * 6
        moved = tl.load(p_map) * u + tl.load(p_map + 1) * v + tl.load(p_map + 2)
        v = tl.load(p_map + 3) * u + tl.load(p_map + 4) * v + tl.load(p_map + 5)
        u = moved
    return u, v


@triton.jit
def _cell(coordinate, size, ZEROS: tl.constexpr):
    """Lower pixel of the cell, weight of the upper one, whether each lies inside, and the cell's slope.

    A coordinate that is not finite lies in no cell, with a weight of NaN.
    """
    poison = coordinate - coordinate
    half = (size - 1) / 2.0
    pixel = (coordinate + 1) * half
    if ZEROS:
        slope = tl.zeros_like(pixel) + half
        # Far outside, any cell without a pixel inside will do, and its number must fit an integer.
        pixel = tl.minimum(tl.maximum(pixel, -2.0), size + 1.0)
    else:
        slope = tl.where((pixel > 0) & (pixel < size - 1), half, 0.0)
        pixel = tl.minimum(tl.maximum(pixel, 0.0), size - 1.0)
    floor = tl.floor(pixel)
    low = floor.to(tl.int32)
    m_low = (low >= 0) & (low < size) & (poison == 0)
    m_high = (low + 1 >= 0) & (low + 1 < size) & (poison == 0)
    return low, pixel - floor + poison, m_low, m_high, slope


@triton.jit
def _corners(
    p_points,
    p_affine,
    p_mask,
    i_sample,
    height,
    width,
    height_in,
    width_in,
    height_out,
    width_out,
    ZEROS: tl.constexpr,
    RESIZE: tl.constexpr,
    AFFINE: tl.constexpr,
    MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Where a block of one sample's points lies in the image, and what the mask leaves of each.

    Points and which of them are there; then, for x and for y, the lower pixel of the cell, the weight of the upper one,
    whether each lies inside and the cell's slope; and the factor.
    """
    num_points = height_out * width_out
    # of shape [BLOCK]; lanes past the end repeat the last point and are not stored.
    o_lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    o_points = tl.minimum(o_lanes, num_points - 1)
    u, v = _placed(p_points, p_affine, i_sample, o_points, width_in, height_in, width_out, height_out, RESIZE, AFFINE)
    factor = tl.full([BLOCK], 1.0, tl.float32)
    if MASK:
        factor = tl.load(p_mask + i_sample * num_points + o_points)
    return o_points, o_lanes < num_points, _cell(u, width, ZEROS), _cell(v, height, ZEROS), factor


@triton.jit
def warp_kernel(
    p_sample,
    p_image,
    p_points,
    p_affine,
    p_mask,
    num_channels,
    height,
    width,
    height_in,
    width_in,
    height_out,
    width_out,
    SHARED: tl.constexpr,
    ZEROS: tl.constexpr,
    RESIZE: tl.constexpr,
    AFFINE: tl.constexpr,
    MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sample all channels at a block of one sample's points."""
    num_points = height_out * width_out
    i_sample = tl.program_id(1).to(tl.int64)
    sizes = (height, width, height_in, width_in, height_out, width_out)
    o_points, m_points, cell_x, cell_y, factor = _corners(
        p_points, p_affine, p_mask, i_sample, *sizes, ZEROS, RESIZE, AFFINE, MASK, BLOCK
    )
    left, across, m_left, m_right, _ = cell_x
    top, down, m_top, m_bottom, _ = cell_y
    o_corner = top * width + left
    weight_a, weight_b, weight_c, weight_d = _weights(across, down)
    for i_channel in range(num_channels):
        p_plane = p_image + i_channel * height * width
        if not SHARED:
            p_plane += i_sample * num_channels * height * width
        p_corner = p_plane + o_corner
        value = (
            tl.load(p_corner, mask=m_top & m_left, other=0.0) * weight_a
            + tl.load(p_corner + 1, mask=m_top & m_right, other=0.0) * weight_b
            + tl.load(p_corner + width, mask=m_bottom & m_left, other=0.0) * weight_c
            + tl.load(p_corner + width + 1, mask=m_bottom & m_right, other=0.0) * weight_d
        )
        tl.store(
            p_sample + (i_sample * num_channels + i_channel) * num_points + o_points, value * factor, mask=m_points
        )


@triton.jit
def _power(exponent):
    """Two to the power of a whole number from -126 to 127, exactly."""
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _unit_exponent(peak, BITS: tl.constexpr):
    """Exponent of the power of two that brings a largest size to 2^BITS at most; one that is not finite has any."""
    limited = tl.minimum(tl.maximum(peak, 2.0**-80), 2.0**126)
    return BITS - ((limited.to(tl.int32, bitcast=True) >> 23) - 126)


@triton.jit
def _accumulate(p_gradient, value, mask, unit, FIXED: tl.constexpr):
    """Add to the image's gradient, as whole multiples of `1 / unit` or as they are."""
    if FIXED:
        tl.atomic_add(p_gradient, (value * unit).to(tl.int64), mask=mask, sem="relaxed")
    else:
        tl.atomic_add(p_gradient, value, mask=mask, sem="relaxed")


@triton.jit
def warp_backward_kernel(
    p_grad_image,
    p_grad_points,
    p_grad,
    p_peak,
    p_scale,
    p_image,
    p_points,
    p_affine,
    p_mask,
    num_channels,
    height,
    width,
    height_in,
    width_in,
    height_out,
    width_out,
    SHARED: tl.constexpr,
    ZEROS: tl.constexpr,
    RESIZE: tl.constexpr,
    AFFINE: tl.constexpr,
    MASK: tl.constexpr,
    FIXED: tl.constexpr,
    BITS: tl.constexpr,
    GRAD_IMAGE: tl.constexpr,
    GRAD_POINTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of the image (summed in place) and of the placed points for a block of one sample's points.

    In fixed point the image's gradient is in whole multiples of `p_scale`, which is told, and NaN where the largest
    size `p_peak` is not finite.
    """
    num_points = height_out * width_out
    i_sample = tl.program_id(1).to(tl.int64)
    sizes = (height, width, height_in, width_in, height_out, width_out)
    o_points, m_points, cell_x, cell_y, factor = _corners(
        p_points, p_affine, p_mask, i_sample, *sizes, ZEROS, RESIZE, AFFINE, MASK, BLOCK
    )
    left, across, m_left, m_right, slope_x = cell_x
    top, down, m_top, m_bottom, slope_y = cell_y
    m_a = m_top & m_left
    m_b = m_top & m_right
    m_c = m_bottom & m_left
    m_d = m_bottom & m_right
    o_corner = top * width + left
    unit = 1.0
    if FIXED:
        peak = tl.load(p_peak)
        exponent = _unit_exponent(peak, BITS)
        unit = _power(exponent)
        if (tl.program_id(0) == 0) & (i_sample == 0):
            tl.store(p_scale, tl.where(peak < float("inf"), _power(-exponent), float("nan")).to(tl.float64))
    pull_x = tl.zeros([BLOCK], tl.float32)
    pull_y = tl.zeros([BLOCK], tl.float32)
    for i_channel in range(num_channels):
        o_grad = (i_sample * num_channels + i_channel) * num_points + o_points
        grad = tl.load(p_grad + o_grad, mask=m_points, other=0.0) * factor
        o_plane = i_channel * height * width + o_corner
        if not SHARED:
            o_plane += i_sample * num_channels * height * width
        if GRAD_POINTS:
            p_corner = p_image + o_plane
            a = tl.load(p_corner, mask=m_a, other=0.0)
            b = tl.load(p_corner + 1, mask=m_b, other=0.0)
            c = tl.load(p_corner + width, mask=m_c, other=0.0)
            d = tl.load(p_corner + width + 1, mask=m_d, other=0.0)
            pull_x += grad * ((b - a) * (1 - down) + (d - c) * down)
            pull_y += grad * ((c - a) * (1 - across) + (d - b) * across)
        if GRAD_IMAGE:
            p_target = p_grad_image + o_plane
            _accumulate(p_target, grad * (1 - down) * (1 - across), m_a & m_points, unit, FIXED)
            _accumulate(p_target + 1, grad * (1 - down) * across, m_b & m_points, unit, FIXED)
            _accumulate(p_target + width, grad * down * (1 - across), m_c & m_points, unit, FIXED)
            _accumulate(p_target + width + 1, grad * down * across, m_d & m_points, unit, FIXED)
    if GRAD_POINTS:
        p_own = p_grad_points + (i_sample * num_points + o_points) * 2
        tl.store(p_own, pull_x * slope_x, mask=m_points)
        tl.store(p_own + 1, pull_y * slope_y, mask=m_points)


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        points: Tensor,
        affine: Tensor | None,
        mask: Tensor | None,
        size_hw: tuple[int, int] | None,
        padding: str,
        deterministic: bool,
    ) -> Tensor:
        image, points = image.contiguous(), points.contiguous()
        affine = affine if affine is None else affine.contiguous()
        mask = mask if mask is None else mask.to(image.dtype).contiguous()
        field = points if points.ndim == 4 else points[:, None]
        ctx.sizes = (*image.shape[-3:], *field.shape[1:3], *(size_hw or field.shape[1:3]))
        ctx.flags = {
            "SHARED": image.ndim == 3,
            "ZEROS": padding == "zeros",
            "RESIZE": size_hw is not None,
            "AFFINE": affine is not None,
            "MASK": mask is not None,
        }
        ctx.deterministic = deterministic
        ctx.save_for_backward(image, points, affine, mask)
        channels, *_, height_out, width_out = ctx.sizes
        sample = image.new_empty(len(points), channels, height_out, width_out)
        if sample.numel():
            grid = (triton.cdiv(height_out * width_out, BLOCK), len(points))
            optional = (affine, mask)
            warp_kernel[grid](
                sample,
                image,
                points,
                *optional,
                *ctx.sizes,
                **ctx.flags,
                BLOCK=BLOCK,
                num_warps=WARPS,
                enable_fp_fusion=True,
            )
        return sample if points.ndim == 4 else sample[:, :, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, points, affine, mask = ctx.saved_tensors
        *_, height_out, width_out = ctx.sizes
        num_points = height_out * width_out
        grad = grad.contiguous()
        wants_image, wants_points = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        fixed = ctx.deterministic and wants_image and grad.numel() > 0
        grad_image = grad_points = peak = scale = None
        if wants_image:
            grad_image = torch.zeros(image.shape, dtype=torch.int64 if fixed else image.dtype, device=image.device)
        if wants_points:
            grad_points = image.new_empty(len(points), height_out, width_out, 2)
            # Without channels nothing pulls at the points.
            grad_points = grad_points if grad.numel() else grad_points.zero_()
        if fixed:
            peak, scale = torch.linalg.vector_norm(grad, torch.inf), image.new_empty(1, dtype=torch.float64)
        if grad.numel() and (wants_image or wants_points):
            grid = (triton.cdiv(num_points, BLOCK), len(points))
            warp_backward_kernel[grid](
                grad_image,
                grad_points,
                grad,
                peak,
                scale,
                image,
                points,
                affine,
                mask,
                *ctx.sizes,
                **ctx.flags,
                FIXED=fixed,
                BITS=_fixed_point_bits(num_points * len(points)) if fixed else 0,
                GRAD_IMAGE=wants_image,
                GRAD_POINTS=wants_points,
                BLOCK=BLOCK,
                num_warps=WARPS,
                enable_fp_fusion=True,
            )
        if grad_image is not None and scale is not None:
            grad_image = (grad_image * scale).to(image.dtype)
        grad_field, grad_affine = (None, None) if grad_points is None else _unplace(grad_points, points, affine, ctx)
        return grad_image, grad_field, grad_affine, None, None, None, None


def _fixed_point_bits(num_points: int) -> int:
    """Return how many bits the largest size may have: 40, or as many as 63 hold that sum, one size a point."""
    return min(40, 61 - math.ceil(math.log2(num_points + 1)))


def _unplace(grad: Tensor, points: Tensor, affine: Tensor | None, ctx: Any) -> tuple[Tensor | None, Tensor | None]:
    """Carry the gradient (B, h, w, 2) of placed points back to the given points and the affine map."""
    *_, height_in, width_in, height_out, width_out = ctx.sizes
    grad_affine = None
    if affine is not None:
        if ctx.needs_input_grad[2]:
            field = points.view(len(points), height_in, width_in, 2)
            field = resize_points(field, (height_out, width_out)) if ctx.flags["RESIZE"] else field
            ones = torch.ones_like(field[..., :1])
            grad_affine = torch.einsum("bhwi,bhwj->bij", grad, torch.cat((field, ones), -1))
        grad = torch.einsum("bij,bhwi->bhwj", affine[:, :, :2], grad)
    if not ctx.needs_input_grad[1]:
        return None, grad_affine
    if ctx.flags["RESIZE"]:
        grad = resize_gradient(grad, (height_in, width_in))
    return grad.reshape(points.shape), grad_affine


def warp(
    image: Tensor,
    points: Tensor,
    affine: Tensor | None,
    mask: Tensor | None,
    size_hw: tuple[int, int] | None,
    padding: str,
    deterministic: bool,
) -> Tensor:
    """Return the samples (B, C, ...) of an image (C, H, W) or (B, C, H, W) at points (B, ..., 2); float32 only."""
    if image.dtype != torch.float32:
        raise TypeError(f"the Triton warp needs a float32 image, got {image.dtype}; use impl='reference' for float64")
    sample: Tensor = _Warp.apply(image, points, affine, mask, size_hw, padding, deterministic)
    return sample
