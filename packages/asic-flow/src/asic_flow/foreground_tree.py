"""Where canonical points lie on one photo's map: a KD-tree of its foreground and a step between pixels; no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


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


def fill_entries(
    entries: Any,
    coordinates: Any,
    flat: Any,
    row_of: Any,
    size_hw: tuple[int, ...],
    where: Callable[..., Any],
    take: Callable[[Any, Any], Any],
) -> None:
    """Fills what a look-up needs of each of Q foreground pixels, in arrays as in tensors.

    Slopes are central differences, one-sided where only one neighbour is on the foreground, zero where none is.

    Args:
        entries: (6, Q + 1, 2) to fill: each pixel's place xy, its canonical coordinate, the coordinate's change per
            pixel to the right and per pixel down, and the change of place (x, then y) per unit of the first and of the
            second coordinate, zero where the map is flat or folded to a line. The last of the Q + 1 is NaN.
        coordinates: (N * H * W, 2) of all pixels of N images, which follow each other.
        flat: (Q,) the foreground pixels' numbers, rising.
        row_of: (N * H * W,) where each pixel is among the Q; -1 off the foreground.
        size_hw: Height and width of an image.
        where: `numpy.where`, or torch's.
        take: Rows of an array by their numbers.
    """
    height, width = size_hw
    own, coordinate = take(row_of, flat), take(coordinates, flat)
    entries[:, -1] = float("nan")
    column, line = flat % width, flat // width % height
    entries[0, :-1, 0], entries[0, :-1, 1] = column, line
    entries[1, :-1] = coordinate
    for slope, position, last, stride in ((entries[2], column, width - 1, 1), (entries[3], line, height - 1, width)):
        after = take(row_of, flat + (position < last) * stride)
        before = take(row_of, flat - (position > 0) * stride)
        after, before = where(after < 0, own, after), where(before < 0, own, before)
        neighbours = (after != own) * 1 + (before != own)
        slope[:-1] = (take(coordinate, after) - take(coordinate, before)) / neighbours.clip(1)[:, None]
    a, c, b, d = entries[2, :-1, 0], entries[2, :-1, 1], entries[3, :-1, 0], entries[3, :-1, 1]
    determinant = a * d - b * c
    usable = abs(determinant) > 1e-3 * (a * a + b * b + c * c + d * d)
    scale = usable / where(usable, determinant, 1)
    entries[4, :-1, 0], entries[4, :-1, 1] = d * scale, -c * scale
    entries[5, :-1, 0], entries[5, :-1, 1] = -b * scale, a * scale


def newton_step(points: Any, entries: Any) -> tuple[Any, Any]:
    """Return places and squared remaining distances of points (..., 2), of arrays as of tensors.

    Args:
        points: Canonical points.
        entries: (6, ..., 2), those of their nearest pixels; steps go half a pixel an axis at most.
    """
    place, coordinate, right, down, by_first, by_second = entries
    residual = points - coordinate
    step = (by_first * residual[..., :1] + by_second * residual[..., 1:]).clip(-0.5, 0.5)
    residual = residual - right * step[..., :1] - down * step[..., 1:]
    return place + step, (residual * residual).sum(-1)


def _rows(array: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[Any]:
    return array.take(numbers, axis=0)
