"""Where canonical points lie on one photo's map: a KD-tree of its foreground and a step between pixels; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from asic_flow.tangents import fill_entries, newton_step


@dataclass(frozen=True, eq=False)
class ForegroundTree:
    """One photo's foreground by its canonical coordinates.

    Attributes:
        pixels: (Q,) int64, rising: the numbers of the foreground's pixels, row by row.
        coordinates: (Q, 2) float64.
        tree: Of the coordinates.
    """

    pixels: NDArray[np.int64]
    coordinates: NDArray[np.float64]
    tree: cKDTree

    @classmethod
    def of_map(cls, canonical: NDArray[np.float32], foreground: NDArray[np.bool_]) -> ForegroundTree | None:
        """The tree of a map (H, W, 2) on its foreground (H, W); None where there is none."""
        pixels = np.flatnonzero(foreground)
        if not len(pixels):
            return None
        inside = canonical.reshape(-1, 2)[pixels].astype(np.float64)
        # Splitting at the middle of the box instead of the median builds twice as fast and answers as fast here.
        return cls(pixels, inside, cKDTree(inside, balanced_tree=False, compact_nodes=False, leafsize=32))

    def nearest(self, points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the row of the nearest pixel of each point (P, 2), the lowest among equals, and its distance."""
        distance, row = self.tree.query(points, k=2)
        best = row[:, 0]
        # The tree promises no order among equals; they are rare, and searched in full for the lowest pixel.
        for point in np.flatnonzero(distance[:, 0] == distance[:, 1]):
            best[point] = np.square(self.coordinates - points[point]).sum(1).argmin()
        return best, distance[:, 0]

    def nearest_outside(
        self, points: NDArray[np.float64], centres: NDArray[np.int64], radius: float, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the nearest pixel that lies further than `radius` pixels from each point's centre pixel; -1 if none.

        Args:
            points: (P, 2) canonical points.
            centres: (P,) numbers of pixels.
            radius: in pixels.
            width: of the photo, in pixels.
        """
        rows, columns = np.divmod(self.pixels, width)
        pixel = np.full(len(points), -1, dtype=np.int64)
        distance = np.full(len(points), np.inf)
        for index, (point, centre) in enumerate(zip(points, centres, strict=True)):
            row, column = divmod(int(centre), width)
            squared = np.square(self.coordinates - point).sum(1)
            squared[np.square(rows - row) + np.square(columns - column) <= radius**2] = np.inf
            best = squared.argmin()
            if np.isfinite(squared[best]):
                pixel[index], distance[index] = self.pixels[best], np.sqrt(squared[best])
        return pixel, distance


@dataclass(frozen=True, eq=False)
class Places:
    """Where canonical points lie on one map.

    Attributes:
        points_px: (P, 2) float32 xy in the photo's model pixels; NaN without foreground.
        distance: (P,) float32 canonical distance that remains there; infinite without foreground.
    """

    points_px: NDArray[np.float32]
    distance: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MapIndex:
    """One canonical map prepared for look-ups.

    Attributes:
        tree: Of its foreground; None without any.
        entries: See `fill_entries`.
    """

    tree: ForegroundTree | None
    entries: NDArray[np.float32]

    @classmethod
    def of_map(cls, canonical: NDArray[np.float32], foreground: NDArray[np.bool_]) -> MapIndex:
        """Prepares a map (H, W, 2) with foreground (H, W), finite there."""
        flat = np.flatnonzero(foreground)
        row_of = np.full(foreground.size, -1)
        row_of[flat] = np.arange(len(flat))
        entries = np.empty((6, len(flat) + 1, 2), np.float32)
        fill_entries(entries, canonical.reshape(-1, 2), flat, row_of, foreground.shape, np.where, _rows)
        return cls(ForegroundTree.of_map(canonical, foreground), entries)

    def look_up(self, points: NDArray[np.float32]) -> Places:
        """The nearest foreground pixel of canonical points (P, 2), then one Newton step between pixels."""
        if self.tree is None:
            return Places(np.full(points.shape, np.nan, np.float32), np.full(len(points), np.inf, np.float32))
        row, _ = self.tree.nearest(points.astype(np.float64))
        place, squared = newton_step(points, self.entries[:, row])
        return Places(place, np.sqrt(squared))


def _rows(array: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[Any]:
    return array.take(numbers, axis=0)
