"""Colour and gradients of photos, and the Gaussian window everything dense is pooled with."""

from __future__ import annotations

import torch
from torch.nn import functional

_SRGB_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_WHITE_XYZ = (0.9505, 1.0, 1.089)


def to_lab(images: torch.Tensor) -> torch.Tensor:
    """SRGB to CIE L*a*b* (D65).

    Args:
        images: (B, H, W, 3) uint8.

    Returns:
        (B, 3, H, W) float32: L* in [0, 100], a* and b* about in [-110, 110].
    """
    rgb = images.float() / 255
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ torch.tensor(_SRGB_TO_XYZ, device=images.device).T / torch.tensor(_WHITE_XYZ, device=images.device)
    f = torch.where(xyz > 216 / 24389, xyz.clamp_min(1e-6) ** (1 / 3), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def light_gradient(lab: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences of lightness after a blur of one pixel.

    Args:
        lab: (B, 3, H, W) from ``to_lab``.

    Returns:
        Length per pixel (B, 1, H, W) and direction in radians, clockwise from +x as the image is seen.
    """
    light = functional.pad(blur(lab[:, :1], 1.0), (1, 1, 1, 1), mode="replicate")
    dx = (light[:, :, 1:-1, 2:] - light[:, :, 1:-1, :-2]) / 2
    dy = (light[:, :, 2:, 1:-1] - light[:, :, :-2, 1:-1]) / 2
    return torch.hypot(dx, dy), torch.atan2(dy, dx)


def blur(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian window of ``sigma`` pixels on (B, C, H, W) maps; borders continue."""
    radius = max(1, int(3 * sigma + 0.5))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=maps.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    planes = maps.flatten(0, 1)[:, None]
    planes = functional.conv2d(
        functional.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1)
    )
    planes = functional.conv2d(
        functional.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1)
    )
    return planes.view_as(maps)
