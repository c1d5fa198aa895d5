"""Oracle of Gaussian splats: every point over every pixel, in the order of the points."""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.kernels.splat_points.coverage import coverage


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
