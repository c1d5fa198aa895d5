"""Gaussian splats of points: validation and dispatch."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation


@torch.no_grad()
def splat_points(
    images: Tensor,
    points_px: Tensor,
    values: Tensor,
    *,
    sigma_px: float,
    mode: Literal["add", "over"] = "add",
    impl: Implementation = "auto",
) -> Tensor:
    """Draw points onto images as Gaussians of height 1, each averaged over the area of every pixel it meets.

    The average is exact, so dots thinner than a pixel fade instead of flickering. A splat ends four sigma and one
    pixel from its point. Not differentiable. Deterministic: every pixel takes its points in their order.

    Args:
        images: (B, C, H, W) float32 to draw on (zeros for a heat map); left as they are.
        points_px: (B, P, 2) float32 xy in pixels; a point that is not finite is not drawn.
        values: (B, P, C) float32 colours or amounts.
        sigma_px: standard deviation in pixels, above 0.
        mode: `"add"` sums the points (heat maps); `"over"` paints each over the earlier ones (pictures).
        impl: `"auto"` takes Triton on CUDA and torch on the CPU; a named one never falls back.

    Returns:
        (B, C, H, W) float32.

    Raises:
        ValueError: shapes, devices or settings that do not fit.
        TypeError: a dtype other than float32.

    >>> heat = splat_points(torch.zeros(1, 1, 5, 5), torch.tensor([[[2.0, 2.0]]]), torch.ones(1, 1, 1), sigma_px=1.0)
    >>> round(heat[0, 0, 2, 2].item(), 3)
    0.921
    """
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"images must be (B, C, H, W) with pixels, got shape {tuple(images.shape)}; unsqueeze a single one"
        )
    if points_px.ndim != 3 or points_px.shape[-1] != 2 or len(points_px) != len(images):
        raise ValueError(f"points_px must be ({len(images)}, P, 2), got shape {tuple(points_px.shape)}; pad with NaN")
    if values.shape != (*points_px.shape[:2], images.shape[1]):
        expected = (*points_px.shape[:2], images.shape[1])
        raise ValueError(f"values must be {expected}, got shape {tuple(values.shape)}; give one value a channel")
    for name, tensor in (("images", images), ("points_px", points_px), ("values", values)):
        if tensor.dtype != torch.float32:
            raise TypeError(f"{name} must be float32, got {tensor.dtype}; convert it with .float()")
        if tensor.device != images.device:
            raise ValueError(
                f"{name} must be on {images.device} with the images, got {tensor.device}; move it with .to()"
            )
    if not (sigma_px > 0 and math.isfinite(sigma_px)):
        raise ValueError(f"sigma_px must be above 0 and finite, got {sigma_px}; 0.5 draws a dot of about a pixel")
    if mode not in ("add", "over"):
        raise ValueError(f"mode must be add or over, got {mode!r}; choose one")
    module = load_implementation("splat_points", impl, images.device)
    drawn: Tensor = module.splat(images, points_px, values, sigma_px, mode == "over")
    return drawn
