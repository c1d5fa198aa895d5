"""The one convention between pixels and [-1, 1]: pixel centres at integers, the corner pixels' centres at -1 and +1.

On a grid of tokens it is the corner tokens' centres that are at -1 and +1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.collection_folder import TokenGrid


def pixel_to_norm(points_px: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Takes (..., 2) xy pixels of an image of `size_hw` to [-1, 1].

    >>> pixel_to_norm(torch.tensor([[0.0, 0.0], [255.0, 127.5]]), (256, 256)).tolist()
    [[-1.0, -1.0], [1.0, 0.0]]
    """
    return points_px * (2 / _extent(points_px, size_hw)) - 1


def norm_to_pixel(points_norm: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Takes (..., 2) xy in [-1, 1] to pixels of an image of `size_hw`; the inverse of `pixel_to_norm`."""
    return (points_norm + 1) * (_extent(points_norm, size_hw) / 2)


def pixel_to_token_norm(points_px: Tensor, grid: TokenGrid) -> Tensor:
    """Takes (..., 2) xy pixels to [-1, 1] of what lies on a grid of tokens, at which to sample it with aligned corners.

    >>> pixel_to_token_norm(torch.tensor([[2.0, 2.0], [14.0, 4.0]]), TokenGrid(2, 4, stride=4.0, first=2.0)).tolist()
    [[-1.0, -1.0], [1.0, 0.0]]
    """
    last = torch.tensor([grid.cols - 1, grid.rows - 1], device=points_px.device).clamp_min(1)
    return (points_px - grid.first) / grid.stride / last * 2 - 1


def _extent(like: Tensor, size_hw: tuple[int, int]) -> Tensor:
    if min(size_hw) < 2:
        raise ValueError(f"size_hw must be at least 2 x 2 for corners to differ, got {size_hw}")
    return torch.tensor([size_hw[1] - 1, size_hw[0] - 1], dtype=like.dtype, device=like.device)
