"""From the nearest pixel to the place between pixels where the canonical map takes a value: one Newton step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asic_flow.tangents import fill_entries, newton_step

# Up to so many points NumPy's operations cost less than torch's: half for the keypoints of one pair.
FEW = 8192


@dataclass(frozen=True)
class Tangents:
    """What a look-up needs of each foreground pixel of a collection.

    Attributes:
        entries: (6, Q + 1, 2) float32, see `fill_entries`.
        rows: (N, H * W + 1) int64 where a pixel's entry is; -1, the NaN, off the foreground and in the last column,
            which pixel -1 reads (of the image before).
    """

    entries: Tensor
    rows: Tensor

    @property
    def coordinates(self) -> Tensor:
        """(Q, 2) canonical coordinates of the foreground."""
        return self.entries[1, :-1]

    def refine(self, points: Tensor, images: list[int], pixel: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places (I, P, 2) in pixels and the canonical distance (I, P) that remains there; NaN of no pixel.

        Args:
            points: (I, P, 2) canonical points.
            images: the I images they are sought in.
            pixel: (I, P) int64 their nearest pixels, -1 for none.
        """
        starts = np.array(images, dtype=np.int64)[:, None] * self.rows.shape[1]
        if points.is_cpu and pixel.numel() <= FEW:
            entries = self.entries.numpy().take(self.rows.numpy().take(pixel.numpy() + starts), axis=1)
            with np.errstate(over="ignore", invalid="ignore"):
                place, squared = newton_step(points.numpy(), entries)
            return torch.from_numpy(place), torch.from_numpy(squared).sqrt_()
        rows = self.rows.take(pixel + torch.from_numpy(starts).to(pixel.device))
        place, squared = newton_step(points, self.entries[:, rows])
        return place, squared.sqrt_()


def tangents(maps: Tensor, foreground: Tensor) -> Tangents:
    """Return the tangents of maps (N, H, W, 2) on their foreground (N, H, W)."""
    num_images, height, width, _ = maps.shape
    flat = foreground.flatten().nonzero().squeeze(1)
    row_of = torch.full((foreground.numel(),), -1, device=maps.device)
    row_of[flat] = torch.arange(len(flat), device=maps.device)
    entries = maps.new_empty(6, len(flat) + 1, 2)
    fill_entries(entries, maps.reshape(-1, 2), flat, row_of, (height, width), torch.where, _rows)
    rows = row_of.new_full((num_images, height * width + 1), -1)
    rows[:, :-1] = row_of.view(num_images, height * width)
    return Tangents(entries, rows)


def _rows(tensor: Tensor, numbers: Tensor) -> Tensor:
    return tensor.index_select(0, numbers)
