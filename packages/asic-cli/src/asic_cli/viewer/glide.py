"""How photos glide into canonical space: they turn, grow and bend, and never pass through a line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CROSSED_BY = 0.35


@dataclass(frozen=True, eq=False)
class Glide:
    """Ways of N photos from where they are to canonical space, in pixels of their tiles.

    The similarity closest to a photo's map is run through by angle and logarithm of scale; what remains of the map is
    added evenly. A mirrored photo cannot be moved into place within its plane, so it dissolves into its mirror
    image, which makes the way instead.

    Attributes:
        mirrored: (N,) bool.
        start: (N, 2) the middle of the object in the photo.
        end: (N, 2) its middle in canonical space.
        turn: (N,) angle of the similarity, of the mirror image's where the photo is mirrored.
        growth: (N,) its scale.
    """

    mirrored: Tensor
    start: Tensor
    end: Tensor
    turn: Tensor
    growth: Tensor

    @classmethod
    def fit(cls, tiles: Tensor, foreground: Tensor, mirrored: Tensor) -> Glide:
        """Fits the similarities.

        Args:
            tiles: (N, H, W, 2) where every pixel lies in canonical space, in pixels of the tile.
            foreground: (N, H, W) bool; a photo without any stands still but for its map.
            mirrored: (N,) bool.
        """
        count = len(tiles)
        start, end = torch.zeros(2, count, 2)
        turn, growth = torch.zeros(count), torch.ones(count)
        for photo in range(count):
            here = torch.nonzero(foreground[photo])
            if not len(here):
                continue
            there = tiles[photo][here[:, 0], here[:, 1]]
            home = here.flip(1).float()
            start[photo], end[photo] = home.mean(0), there.mean(0)
            away = torch.view_as_complex(_faced(home - start[photo], mirrored[photo]).contiguous())
            arrived = torch.view_as_complex((there - end[photo]).contiguous())
            similarity = (away.conj() * arrived).sum() / away.abs().square().sum().clamp_min(1e-9)
            if float(similarity.abs()) > 1e-6:
                turn[photo], growth[photo] = similarity.angle(), similarity.abs()
        return cls(mirrored, start, end, turn, growth)

    def places(self, tiles: Tensor, share: float) -> Tensor:
        """(N, H, W, 2): where every pixel, of the mirror image where there is one, is a share of the way."""
        height, width = tiles.shape[1:3]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        home = torch.stack((x, y), -1).float()
        away = _faced(home - self.start[:, None, None], self.mirrored[:, None, None])
        turned = torch.polar(self.growth**share, self.turn * share) - share * torch.polar(self.growth, self.turn)
        bent = torch.view_as_real(torch.view_as_complex(away.contiguous()) * turned[:, None, None])
        return (1 - share) * self.start[:, None, None] + share * tiles + bent

    @staticmethod
    def crossed(share: float) -> float:
        """How far a mirrored photo has given way to its mirror image, 0 to 1."""
        part = min(share / _CROSSED_BY, 1.0)
        return part * part * (3 - 2 * part)


def _faced(away: Tensor, mirrored: Tensor) -> Tensor:
    """Offsets (..., 2) from the middle, those of mirrored photos turned left to right."""
    return torch.where(mirrored[..., None], away * torch.tensor([-1.0, 1.0]), away)
