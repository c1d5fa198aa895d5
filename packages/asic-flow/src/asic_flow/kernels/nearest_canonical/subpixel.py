"""From the nearest pixel to the place between pixels where the canonical map takes a value: one Newton step."""

from __future__ import annotations

import torch
from torch import Tensor


def slopes(maps: Tensor, foreground: Tensor) -> Tensor:
    """Return (N, H, W, 2, 2) the change of the map (row: coordinate) per pixel (column: x, y).

    Central differences, one-sided where only one neighbour is on the foreground, zero where none is.
    """
    columns = [_difference(maps, foreground, axis) for axis in (2, 1)]
    return torch.stack(columns, -1)


def _difference(maps: Tensor, foreground: Tensor, axis: int) -> Tensor:
    length = maps.shape[axis] - 1
    both = foreground.narrow(axis, 0, length) & foreground.narrow(axis, 1, length)
    step = (maps.narrow(axis, 1, length) - maps.narrow(axis, 0, length)).masked_fill_(~both[..., None], 0)
    total = torch.zeros_like(maps)
    count = torch.zeros(foreground.shape, dtype=maps.dtype, device=maps.device)
    for start in (0, 1):
        total.narrow(axis, start, length).add_(step)
        count.narrow(axis, start, length).add_(both)
    return total.div_(count.clamp_(min=1)[..., None])


def prepare(maps: Tensor, foreground: Tensor) -> Tensor:
    """Return (N, H * W + 1, 12) all that a look-up needs of each pixel, side by side.

    In order: its place xy, its canonical coordinate, the slope and the slope's inverse (zero where the map is flat or
    folded to a line). The last row, which index -1 reads, is NaN: no pixel.
    """
    num_images, height, width, _ = maps.shape
    slope = slopes(maps, foreground).flatten(1, 2).flatten(2)
    a, b, c, d = slope.unbind(2)
    determinant = a * d - b * c
    usable = determinant.abs() > 1e-3 * slope.square().sum(2)
    scale = usable / torch.where(usable, determinant, 1)
    table = maps.new_full((num_images, height * width + 1, 12), torch.nan)
    pixel = torch.arange(height * width, device=maps.device)
    table[:, :-1, 0] = pixel % width
    table[:, :-1, 1] = pixel // width
    table[:, :-1, 2:4] = maps.flatten(1, 2)
    table[:, :-1, 4:8] = slope
    table[:, :-1, 8:] = torch.stack((d, -b, -c, a), 2) * scale[..., None]
    return table


def refine(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places (..., 2) in pixels and the canonical distance (...) that remains there; NaN of no pixel.

    Args:
        points: (..., 2) canonical points.
        entries: (..., 12) rows of `prepare` of their nearest pixels; steps go half a pixel an axis at most.
    """
    place, coordinate, slope, inverse = entries[..., :2], entries[..., 2:4], entries[..., 4:8], entries[..., 8:]
    residual = points - coordinate
    step = (inverse.view(*points.shape, 2) * residual[..., None, :]).sum(-1).clamp_(-0.5, 0.5)
    residual -= (slope.view(*points.shape, 2) * step[..., None, :]).sum(-1)
    return place + step, torch.linalg.vector_norm(residual, dim=-1)
