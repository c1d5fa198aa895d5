"""Oracle of Gaussian splats: every point over every pixel, in the order of the points."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reach(sigma: float) -> float:
    """Return how far from a point, per axis and in pixels, its splat is drawn: four sigma and a pixel."""
    return 4 * sigma + 1


def coverage(centres: Tensor, size: int, sigma: float) -> Tensor:
    """Return (..., size) how much of each pixel of an axis a Gaussian of height 1 fills: its mean over the pixel."""
    offset = torch.arange(size, dtype=centres.dtype, device=centres.device) - centres[..., None]
    scale = 1 / (sigma * math.sqrt(2))
    mean = (torch.erf((offset + 0.5) * scale) - torch.erf((offset - 0.5) * scale)) * (sigma * math.sqrt(math.pi / 2))
    return torch.where(offset.abs() <= reach(sigma), mean, 0)


def splat(images: Tensor, points: Tensor, values: Tensor, sigma: float, over: bool) -> Tensor:
    """Return images (B, C, H, W) with the points (B, P, 2) drawn on them in values (B, P, C)."""
    drawn = images.clone()
    values = torch.where(points.isfinite().all(-1, keepdim=True), values, 0)
    for index in range(points.shape[1]):
        down = coverage(points[:, index, 1], images.shape[2], sigma)
        across = coverage(points[:, index, 0], images.shape[3], sigma)
        weight = (down[:, :, None] * across[:, None])[:, None]
        value = values[:, index, :, None, None]
        drawn = drawn + weight * ((value - drawn) if over else value)
    return drawn
