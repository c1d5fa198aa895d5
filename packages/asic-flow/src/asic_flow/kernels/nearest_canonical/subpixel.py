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


def refine(residual: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step (..., 2) in pixels, at most half a pixel an axis, and the residual's length (...) after it.

    Where the map is locally flat or folded to a line, there is no step.

    Args:
        residual: (..., 2) canonical point minus the canonical coordinate of its nearest pixel.
        slope: (..., 2, 2) the map's change per pixel there.
    """
    (a, b), (c, d) = ((row[..., 0], row[..., 1]) for row in slope.unbind(-2))
    determinant = a * d - b * c
    usable = determinant.abs() > 1e-3 * slope.square().sum((-2, -1))
    scale = usable / torch.where(usable, determinant, 1)
    u, v = residual.unbind(-1)
    step = torch.stack(((d * u - b * v) * scale, (a * v - c * u) * scale), -1).clamp_(-0.5, 0.5)
    remaining = residual - (slope * step[..., None, :]).sum(-1)
    return step, torch.linalg.vector_norm(remaining, dim=-1)
