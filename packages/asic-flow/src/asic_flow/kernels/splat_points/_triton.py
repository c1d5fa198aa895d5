# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Gaussian splats in Triton: a program owns a tile of one channel and takes the points in their order."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from asic_flow.kernels.splat_points.coverage import reach

BLOCK_H = 16
BLOCK_W = 64
WARPS = 4


@triton.jit
def _coverage(o_pixels, centre, sigma, radius):
    """Mean of the Gaussian over each pixel of an axis, zero out of reach."""
    offset = o_pixels.to(tl.float32) - centre
    scale = 0.7071067811865476 / sigma
    mean = (tl.erf((offset + 0.5) * scale) - tl.erf((offset - 0.5) * scale)) * (sigma * 1.2533141373155003)
    return tl.where(tl.abs(offset) <= radius, mean, 0.0)


@triton.jit
def splat_kernel(
    p_drawn,
    p_images,
    p_points,
    p_values,
    num_points,
    num_channels,
    height,
    width,
    sigma,
    radius,
    OVER: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Draw all points (P, 2) of an image on one tile of one of its channels."""
    tiles_across = tl.cdiv(width, BLOCK_W)
    i_tile = tl.program_id(0) % (tiles_across * tl.cdiv(height, BLOCK_H))
    i_plane = (tl.program_id(0) // (tiles_across * tl.cdiv(height, BLOCK_H))).to(tl.int64)
    i_image = i_plane // num_channels
    i_channel = i_plane % num_channels
    top = (i_tile // tiles_across) * BLOCK_H
    left = (i_tile % tiles_across) * BLOCK_W
    o_rows = top + tl.arange(0, BLOCK_H)
    o_columns = left + tl.arange(0, BLOCK_W)
    # of shape [BLOCK_H, BLOCK_W]
    o_pixels = i_plane * height * width + o_rows[:, None] * width + o_columns[None, :]
    m_pixels = (o_rows < height)[:, None] & (o_columns < width)[None, :]
    drawn = tl.load(p_images + o_pixels, mask=m_pixels, other=0.0)
    for i_point in range(num_points):
        o_point = i_image * num_points + i_point
        x = tl.load(p_points + o_point * 2)
        y = tl.load(p_points + o_point * 2 + 1)
        # A coordinate that is not finite fails these comparisons.
        near_x = (x >= left - radius) & (x <= left + BLOCK_W - 1 + radius)
        near_y = (y >= top - radius) & (y <= top + BLOCK_H - 1 + radius)
        if near_x & near_y:
            value = tl.load(p_values + o_point * num_channels + i_channel)
            weight = _coverage(o_rows, y, sigma, radius)[:, None] * _coverage(o_columns, x, sigma, radius)[None, :]
            if OVER:
                drawn += weight * (value - drawn)
            else:
                drawn += weight * value
    tl.store(p_drawn + o_pixels, drawn, mask=m_pixels)


def splat(images: Tensor, points: Tensor, values: Tensor, sigma: float, over: bool) -> Tensor:
    """Return images (B, C, H, W) with the points (B, P, 2) drawn on them in values (B, P, C)."""
    images, points, values = images.contiguous(), points.contiguous(), values.contiguous()
    drawn = images.new_empty(images.shape)
    batch, channels, height, width = images.shape
    if batch:
        grid = (batch * channels * triton.cdiv(height, BLOCK_H) * triton.cdiv(width, BLOCK_W),)
        splat_kernel[grid](
            drawn,
            images,
            points,
            values,
            points.shape[1],
            channels,
            height,
            width,
            sigma,
            reach(sigma),
            OVER=over,
            BLOCK_H=BLOCK_H,
            BLOCK_W=BLOCK_W,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
    return drawn
