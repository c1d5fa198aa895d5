"""The resize and the affine map that bring points to where the image is sampled."""

from __future__ import annotations

import torch
from torch import Tensor


def resize_matrix(size_in: int, size_out: int, like: Tensor) -> Tensor:
    """Return the (size_out, size_in) matrix of linear interpolation with corners aligned."""
    if size_in == 1 or size_out == 1:
        return torch.eye(size_out, size_in, dtype=like.dtype, device=like.device)[:1].expand(size_out, -1)
    # Whole numbers are divided last, so that an output pixel on an input pixel takes exactly that one.
    place = torch.arange(size_out, dtype=like.dtype, device=like.device) * (size_in - 1) / (size_out - 1)
    return (1 - (place[:, None] - torch.arange(size_in, dtype=like.dtype, device=like.device)).abs()).clamp(min=0)


def resize_points(points: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return a field of points (B, h, w, 2) resized bilinearly with corners aligned."""
    down = resize_matrix(points.shape[1], size_hw[0], points)
    across = resize_matrix(points.shape[2], size_hw[1], points)
    return _along_both_axes(down, across, points)


def resize_gradient(grad: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return the gradient of a field of points of this size from that (B, h, w, 2) of the resized one."""
    down = resize_matrix(size_hw[0], grad.shape[1], grad)
    across = resize_matrix(size_hw[1], grad.shape[2], grad)
    return _along_both_axes(down.T, across.T, grad)


def _along_both_axes(down: Tensor, across: Tensor, field: Tensor) -> Tensor:
    # One axis after the other: all three at once would first join the matrices, (size_out * size_in)^2 numbers.
    return torch.einsum("xj,byjc->byxc", across, torch.einsum("yi,bijc->byjc", down, field))


def place_points(points: Tensor, affine: Tensor | None, size_hw: tuple[int, int] | None) -> Tensor:
    """Return the points (B, ..., 2) after the resize and the affine map that come before the sampling."""
    if size_hw is not None:
        points = resize_points(points, size_hw)
    if affine is not None:
        points = torch.einsum("bij,b...j->b...i", affine[:, :, :2], points)
        points = points + affine[:, :, 2].view(-1, *[1] * (points.ndim - 2), 2)
    return points
