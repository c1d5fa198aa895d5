"""The tokens that alignment works with: foreground ones, less those held out to score it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.collection import ImageCollection
from asic_flow.grid import pixel_to_norm
from asic_flow.kernels import warp_bilinear

_HELD_OUT_EVERY = 10


@dataclass(frozen=True, eq=False)
class ForegroundTokens:
    """The foreground tokens of all photos, one after the other.

    Attributes:
        image: (F,) int64.
        token: (F,) int64, index into the photo's token grid.
        points_norm: (F, 2) float32 xy in [-1, 1].
        offsets: (N + 1,) int64.
    """

    image: Tensor
    token: Tensor
    points_norm: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, collection: ImageCollection, step: int = 1, without: Tensor | None = None) -> ForegroundTokens:
        """Every `step`-th row and column of the grid, where it is foreground and not in `without`, (N, T) bool."""
        grid = collection.grid
        kept = torch.zeros(grid.rows, grid.cols, dtype=torch.bool)
        kept[(grid.rows - 1) % step // 2 :: step, (grid.cols - 1) % step // 2 :: step] = True
        chosen = collection.foreground_tokens() & kept.flatten()
        image, token = torch.nonzero(chosen if without is None else chosen & ~without, as_tuple=True)
        centres = centres_norm(collection)
        counts = torch.bincount(image, minlength=len(collection))
        offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
        return cls(image, token, centres[token], offsets)


def held_out_tokens(collection: ImageCollection) -> Tensor:
    """(N, T) bool: the tenth of each photo's tokens that maps are never fitted to, so that they can be scored there.

    A fixed lattice, moved from photo to photo: no random numbers, the same in every process.
    """
    grid = collection.grid
    row, column = torch.arange(grid.rows)[:, None], torch.arange(grid.cols)[None]
    lattice = (3 * row + column).flatten()[None] + 7 * torch.arange(len(collection))[:, None]
    return lattice % _HELD_OUT_EVERY == 0


def centres_norm(collection: ImageCollection) -> Tensor:
    """(T, 2): the tokens' centres in [-1, 1]."""
    return pixel_to_norm(torch.from_numpy(collection.grid.centres_px()), collection.size_hw)


def at_tokens(collection: ImageCollection, maps: Tensor) -> Tensor:
    """(N, T, 2): where maps (N, H, W, 2) of photos of a collection, of any resolution, take all tokens."""
    points = centres_norm(collection).expand(len(maps), -1, -1)
    return warp_bilinear(maps.permute(0, 3, 1, 2), points).transpose(1, 2)


def thinning(collection: ImageCollection, tokens_per_image: int) -> int:
    """The step along rows and columns that keeps at least so many tokens of a photo's grid."""
    return max(1, int((len(collection.grid.centres_px()) / tokens_per_image) ** 0.5))
