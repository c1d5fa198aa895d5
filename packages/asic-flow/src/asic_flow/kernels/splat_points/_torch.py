"""Gaussian splats on the CPU: sums are two small matrix products, pictures touch only the pixels within reach."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asic_flow.kernels.splat_points.coverage import coverage, reach


def splat(images: Tensor, points: Tensor, values: Tensor, sigma: float, over: bool) -> Tensor:
    """Return images (B, C, H, W) with the points (B, P, 2) drawn on them in values (B, P, C)."""
    height, width = images.shape[2:]
    down = coverage(points[..., 1], height, sigma)
    across = coverage(points[..., 0], width, sigma)
    if not over:
        shown = torch.where(points.isfinite().all(-1, keepdim=True), values, 0)
        weighted = shown.transpose(1, 2)[..., None] * down[:, None]
        return images + weighted.transpose(2, 3) @ across[:, None]
    drawn = images.clone()
    radius = reach(sigma)
    for image, places, colours, rows, columns in zip(drawn, points.tolist(), values, down, across, strict=True):
        for index, (x, y) in enumerate(places):
            if not (math.isfinite(x) and math.isfinite(y)):
                continue
            top, bottom = max(0, math.floor(y - radius)), min(height, math.ceil(y + radius) + 1)
            left, right = max(0, math.floor(x - radius)), min(width, math.ceil(x + radius) + 1)
            if top >= bottom or left >= right:
                continue
            window = image[:, top:bottom, left:right]
            weight = rows[index, top:bottom, None] * columns[index, left:right]
            window += weight * (colours[index, :, None, None] - window)
    return drawn
