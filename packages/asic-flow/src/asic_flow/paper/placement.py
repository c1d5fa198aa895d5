"""Where each photo lies in the frame that the flow network sees: as it is, or placed by the coarse stage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.coarse import NormalisedMatches, align_coarsely
from asic_flow.collection import ImageCollection
from asic_flow.paper.network import identity_grid
from asic_flow.tokens import ForegroundTokens

# Half the frame's side, canonical distance; the objects' root-mean-square radius is 0.5.
_EXTENT = 1.25


@dataclass(frozen=True, eq=False)
class Placement:
    """Affine maps of photos into the network's frame.

    Attributes:
        affine: (N, 2, 3) float32, from [-1, 1] of a photo to the frame, which shows [-1, 1].
        inverse: (N, 2, 3) float32, back.
    """

    affine: Tensor
    inverse: Tensor

    @classmethod
    def identity(cls, count: int) -> Placement:
        """Every photo as it is, the published way."""
        same = torch.eye(2, 3).repeat(count, 1, 1)
        return cls(same, same)

    @classmethod
    def coarse(cls, collection: ImageCollection, matches: NormalisedMatches, scales: tuple[float, ...]) -> Placement:
        """Every photo turned, moved, scaled and mirrored as the coarse stage says, so that the objects lie together."""
        tokens = ForegroundTokens.of(collection)
        found = align_coarsely(matches, len(collection), tokens.image, tokens.points_norm, scales)
        affine = found.affine / _EXTENT
        linear = torch.linalg.inv(affine[:, :, :2])
        inverse = torch.cat((linear, -linear @ affine[:, :, 2:]), 2)
        return cls(affine.float(), inverse.float())

    def apply(self, points: Tensor, photo: Tensor) -> Tensor:
        """Takes (M, 2) points in [-1, 1] of the photos (M,) to the frame."""
        affine = self.affine[photo]
        placed: Tensor = (affine[:, :, :2] @ points[:, :, None])[:, :, 0] + affine[:, :, 2]
        return placed

    def places_of_pixels(self, size_hw: tuple[int, int]) -> Tensor:
        """(N, h, w, 2): where in the frame each pixel of each photo lies."""
        return _mapped(self.affine, size_hw)

    def pixels_seen(self, size_hw: tuple[int, int]) -> Tensor:
        """(N, h, w, 2): what place of the photo, in [-1, 1], each pixel of the frame shows."""
        return _mapped(self.inverse, size_hw)


def _mapped(affine: Tensor, size_hw: tuple[int, int]) -> Tensor:
    grid = identity_grid(size_hw, affine.device).reshape(1, -1, 2)
    mapped = grid @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    return mapped.reshape(len(affine), *size_hw, 2)
