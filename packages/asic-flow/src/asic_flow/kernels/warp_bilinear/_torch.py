"""Bilinear warp on the CPU: torch's sampler, over one image and all points at once when the image is shared.

Repeating a shared image for the batch, as is usual, writes a gradient image for every photo: 3.5 times slower.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import grid_sample

from asic_flow.kernels.warp_bilinear.placement import place_points


def warp(
    image: Tensor,
    points: Tensor,
    affine: Tensor | None,
    mask: Tensor | None,
    size_hw: tuple[int, int] | None,
    padding: str,
    deterministic: bool,  # noqa: ARG001 - one thread writes each image here, so it always is
) -> Tensor:
    """Return the samples (B, C, ...) of an image (C, H, W) or (B, C, H, W) at points (B, ..., 2)."""
    points = place_points(points, affine, size_hw)
    batch, inner = points.shape[0], points.shape[1:-1]
    points = points.flatten(1, -2)
    if image.ndim == 3:
        sample = grid_sample(image[None], points[None], padding_mode=padding, align_corners=True)
        sample = sample[0].transpose(0, 1)
    else:
        sample = grid_sample(image, points[:, None], padding_mode=padding, align_corners=True)[:, :, 0]
    if mask is not None:
        sample = sample * mask.flatten(1)[:, None].to(sample.dtype)
    return sample.reshape(batch, image.shape[-3], *inner)
