"""How photos glide into canonical space: they turn, grow and bend, and never pass through a line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    mirrored: NDArray[np.bool_]
    start: NDArray[np.float32]
    end: NDArray[np.float32]
    turn: NDArray[np.float32]
    growth: NDArray[np.float32]

    @classmethod
    def fit(cls, tiles: NDArray[np.float32], foreground: NDArray[np.bool_], mirrored: NDArray[np.bool_]) -> Glide:
        """Fits the similarities.

        Args:
            tiles: (N, H, W, 2) where every pixel lies in canonical space, in pixels of the tile.
            foreground: (N, H, W) bool; a photo without any stands still but for its map.
            mirrored: (N,) bool.
        """
        count = len(tiles)
        start, end = np.zeros((2, count, 2), np.float32)
        turn, growth = np.zeros(count, np.float32), np.ones(count, np.float32)
        for photo in range(count):
            rows, columns = np.nonzero(foreground[photo])
            if not len(rows):
                continue
            there = tiles[photo][rows, columns]
            home = np.stack((columns, rows), -1).astype(np.float32)
            start[photo], end[photo] = home.mean(0), there.mean(0)
            away = _complex(_faced(home - start[photo], mirrored[photo]))
            arrived = _complex(there - end[photo])
            similarity = (away.conj() * arrived).sum() / max(np.square(np.abs(away)).sum(), 1e-9)
            if np.abs(similarity) > 1e-6:
                turn[photo], growth[photo] = np.angle(similarity), np.abs(similarity)
        return cls(mirrored, start, end, turn, growth)

    def places(self, tiles: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        """(N, H, W, 2): where every pixel, of the mirror image where there is one, is a share of the way."""
        height, width = tiles.shape[1:3]
        y, x = np.mgrid[:height, :width]
        home = np.stack((x, y), -1).astype(np.float32)
        away = _faced(home - self.start[:, None, None], self.mirrored[:, None, None])
        turn = np.exp(1j * self.turn)
        turned = self.growth**share * turn**share - share * self.growth * turn
        bent = (_complex(away) * turned[:, None, None].astype(np.complex64))[..., None].view(np.float32)
        return np.asarray((1 - share) * self.start[:, None, None] + share * tiles + bent, np.float32)

    @staticmethod
    def crossed(share: float) -> float:
        """How far a mirrored photo has given way to its mirror image, 0 to 1."""
        part = min(share / _CROSSED_BY, 1.0)
        return part * part * (3 - 2 * part)


def _complex(xy: NDArray[np.float32]) -> NDArray[np.complex64]:
    """(...): (..., 2) as complex numbers."""
    return np.ascontiguousarray(xy, np.float32).view(np.complex64)[..., 0]


def _faced(away: NDArray[np.float32], mirrored: NDArray[np.bool_] | np.bool_) -> NDArray[np.float32]:
    """Offsets (..., 2) from the middle, those of mirrored photos turned left to right."""
    return np.where(np.asarray(mirrored)[..., None], away * np.array([-1, 1], np.float32), away)
