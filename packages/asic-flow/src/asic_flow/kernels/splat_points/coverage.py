"""How much of a pixel a Gaussian of height 1 fills, and how far it reaches."""

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
