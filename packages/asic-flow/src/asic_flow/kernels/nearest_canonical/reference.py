"""Oracle of the canonical look-up: every point against every foreground pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PixelSearch:
    """Exhaustive search of one collection; `maps` (N, H, W, 2) and `foreground` (N, H, W) bool."""

    maps: Tensor
    foreground: Tensor

    def search(
        self, points: Tensor, images: list[int], basin: tuple[Tensor, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return pixel and distance of the nearest foreground pixel, as `Search` says."""
        width = self.maps.shape[2]
        squared = (points[:, :, None] - self.maps[images].flatten(1, 2)[:, None]).square().sum(-1)
        squared = squared.masked_fill(~self.foreground[images].flatten(1)[:, None], torch.inf)
        if basin is not None:
            centre, radius = basin
            place = torch.arange(squared.shape[2], device=points.device)
            down = place // width - (centre // width)[:, :, None]
            across = place % width - (centre % width)[:, :, None]
            squared = squared.masked_fill(down.square() + across.square() <= radius**2, torch.inf)
        best, pixel = squared.min(2)
        return torch.where(best.isfinite(), pixel, -1), best.sqrt()


def build(maps: Tensor, foreground: Tensor) -> PixelSearch:
    """Return the search over the maps; there is nothing to prepare."""
    return PixelSearch(maps, foreground)
