"""From the nearest pixel to the place between pixels where the canonical map takes a value: one Newton step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Up to so many points NumPy's operations cost less than torch's: half for the keypoints of one pair.
FEW = 8192


@dataclass(frozen=True)
class Tangents:
    """What a look-up needs of each foreground pixel of a collection.

    Attributes:
        entries: (6, Q + 1, 2) float32, for each of the Q foreground pixels its place xy, its canonical coordinate, the
            coordinate's change per pixel to the right and per pixel down, and the change of place (x, then y) per unit
            of the first and of the second coordinate, zero where the map is flat or folded to a line. The last is NaN.
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
            pixel: (I, P) int64 their nearest pixels, -1 for none; steps go half a pixel an axis at most.
        """
        starts = np.array(images, dtype=np.int64)[:, None] * self.rows.shape[1]
        if points.is_cpu and pixel.numel() <= FEW:
            entries = self.entries.numpy().take(self.rows.numpy().take(pixel.numpy() + starts), axis=1)
            with np.errstate(over="ignore", invalid="ignore"):
                place, squared = _newton_step(points.numpy(), entries)
            return torch.from_numpy(place), torch.from_numpy(squared).sqrt_()
        rows = self.rows.take(pixel + torch.from_numpy(starts).to(pixel.device))
        place, squared = _newton_step(points, self.entries[:, rows])
        return place, squared.sqrt_()


def _newton_step(points: Any, entries: Any) -> tuple[Any, Any]:
    """Return places and squared distances, of arrays as of tensors."""
    place, coordinate, right, down, by_first, by_second = entries
    residual = points - coordinate
    step = (by_first * residual[..., :1] + by_second * residual[..., 1:]).clip(-0.5, 0.5)
    residual = residual - right * step[..., :1] - down * step[..., 1:]
    return place + step, (residual * residual).sum(-1)


def tangents(maps: Tensor, foreground: Tensor) -> Tangents:
    """Return the tangents of maps (N, H, W, 2) on their foreground (N, H, W).

    Slopes are central differences, one-sided where only one neighbour is on the foreground, zero where none is.
    """
    num_images, height, width, _ = maps.shape
    flat = foreground.flatten().nonzero().squeeze(1)
    own = torch.arange(len(flat), device=maps.device)
    row_of = torch.full((foreground.numel(),), -1, device=maps.device)
    row_of[flat] = own
    coordinate = maps.reshape(-1, 2).index_select(0, flat)
    entries = maps.new_empty(6, len(flat) + 1, 2)
    entries[:, -1] = torch.nan
    column, line = flat % width, flat // width % height
    entries[0, :-1] = torch.stack((column, line), 1)
    entries[1, :-1] = coordinate
    for slope, position, last, stride in ((entries[2], column, width - 1, 1), (entries[3], line, height - 1, width)):
        after = row_of.index_select(0, flat + (position < last) * stride)
        before = row_of.index_select(0, flat - (position > 0) * stride)
        after, before = torch.where(after < 0, own, after), torch.where(before < 0, own, before)
        neighbours = (after != own).to(maps.dtype) + (before != own)
        change = coordinate.index_select(0, after) - coordinate.index_select(0, before)
        slope[:-1] = change / neighbours.clamp_(min=1)[:, None]
    (a, c), (b, d) = entries[2, :-1].unbind(1), entries[3, :-1].unbind(1)
    determinant = a * d - b * c
    usable = determinant.abs() > 1e-3 * (a * a + b * b + c * c + d * d)
    scale = usable / torch.where(usable, determinant, 1)
    entries[4, :-1] = torch.stack((d, -c), 1) * scale[:, None]
    entries[5, :-1] = torch.stack((-b, a), 1) * scale[:, None]
    rows = row_of.new_full((num_images, height * width + 1), -1)
    rows[:, :-1] = row_of.view(num_images, height * width)
    return Tangents(entries, rows)
