"""Oracle of the bilinear warp, in plain differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.kernels.warp_bilinear.placement import place_points


def warp(
    image: Tensor,
    points: Tensor,
    affine: Tensor | None,
    mask: Tensor | None,
    size_hw: tuple[int, int] | None,
    padding: str,
    deterministic: bool,  # noqa: ARG001 - torch's own gather decides here
) -> Tensor:
    """Return the samples (B, C, ...) of an image (C, H, W) or (B, C, H, W) at points (B, ..., 2)."""
    points = place_points(points, affine, size_hw)
    inner = points.shape[1:-1]
    points = points.flatten(1, -2)
    shared = image.ndim == 3
    height, width = image.shape[-2:]
    left, right, right_weight = _cell(points[..., 0], width, padding)
    top, bottom, bottom_weight = _cell(points[..., 1], height, padding)
    flat = image.flatten(-2)
    sample = image.new_zeros(())
    for row, row_weight in ((top, 1 - bottom_weight), (bottom, bottom_weight)):
        for column, column_weight in ((left, 1 - right_weight), (right, right_weight)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            if shared:
                corner = flat[:, place].transpose(0, 1)
            else:
                corner = flat.gather(2, place[:, None].expand(-1, flat.shape[1], -1))
            sample = sample + corner * (row_weight * column_weight * inside)[:, None]
    if mask is not None:
        sample = sample * mask.flatten(1)[:, None].to(sample.dtype)
    return sample.reshape(*sample.shape[:2], *inner)


def _cell(coordinate: Tensor, size: int, padding: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels on both sides of a coordinate, and the weight of the further one."""
    pixel = (coordinate + 1) * ((size - 1) / 2)
    if padding == "border":
        # At the border and beyond it the sample no longer depends on the coordinate.
        within = (pixel > 0) & (pixel < size - 1)
        pixel = torch.where(within, pixel, pixel.detach().clamp(0, size - 1))
    low = pixel.detach().floor()
    return low.long(), low.long() + 1, pixel - low
