"""Photos seen in canonical space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.alignment import Alignment
from asic_flow.kernels import CanonicalIndex

_EXTENT = 1.2  # half the side of the square shown; objects lie mostly within [-1, 1]


@dataclass(frozen=True, eq=False)
class CanonicalViews:
    """All photos resampled in canonical space.

    Attributes:
        points_px: (N, S, S, 2) float32, the model pixel of photo n that each canonical pixel shows.
        visible: (N, S, S) bool, whether photo n shows that canonical pixel.
        extent: the views cover [-extent, extent]^2 of canonical space.
    """

    points_px: Tensor
    visible: Tensor
    extent: float

    def resample(self, images: Tensor) -> Tensor:
        """(N, S, S, C) float32: (N, H, W, C) images bilinearly sampled at the views' points; zero where not visible."""
        height, width = images.shape[1:3]
        scale = torch.tensor([2 / (width - 1), 2 / (height - 1)])
        sampled = torch.nn.functional.grid_sample(
            images.float().permute(0, 3, 1, 2), self.points_px * scale - 1, padding_mode="border", align_corners=True
        )
        return sampled.permute(0, 2, 3, 1) * self.visible[..., None]


def canonical_views(alignment: Alignment, size: int = 128) -> CanonicalViews:
    """Inverts every map on a square grid: each canonical pixel finds the photo's nearest foreground pixel.

    Args:
        alignment: The maps.
        size: S, pixels along one side of a view.

    Returns:
        The views. A photo shows a canonical pixel when its nearest foreground lies within 1.5 canonical pixels.
    """
    axis = torch.linspace(-_EXTENT, _EXTENT, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack((x, y), -1).reshape(-1, 2)
    found = CanonicalIndex(alignment.maps, alignment.foreground).nearest(points, max_distance=3 * _EXTENT / (size - 1))
    shape = (len(alignment), size, size)
    return CanonicalViews(found.points_px.nan_to_num().reshape(*shape, 2), found.visible.reshape(shape), _EXTENT)
