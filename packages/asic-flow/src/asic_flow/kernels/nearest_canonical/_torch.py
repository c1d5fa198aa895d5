"""Canonical look-up on the CPU: a KD-tree of each image's foreground, built once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor


@dataclass(frozen=True)
class _Photo:
    """Foreground of one image: pixel numbers (Q,) int64 increasing, their coordinates (Q, 2) float64, and the tree."""

    pixels: NDArray[np.int64]
    coordinates: NDArray[np.float64]
    tree: cKDTree

    def nearest(self, points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return pixel and distance of the nearest pixel of each point (P, 2)."""
        distance, position = self.tree.query(points, k=2)
        best = position[:, 0]
        # The tree promises no order among equals; they are rare, and searched in full for the lowest pixel.
        for point in np.flatnonzero(distance[:, 0] == distance[:, 1]):
            best[point] = np.square(self.coordinates - points[point]).sum(1).argmin()
        return self.pixels[best], distance[:, 0]

    def nearest_outside(
        self, points: NDArray[np.float64], centres: NDArray[np.int64], radius: float, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the nearest pixel that lies further than `radius` pixels from each point's centre pixel."""
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


@dataclass(frozen=True)
class TreeSearch:
    """KD-trees of one collection, `None` for an image without foreground; `width` of the images in pixels."""

    photos: tuple[_Photo | None, ...]
    width: int

    def search(
        self, points: Tensor, images: list[int], basin: tuple[Tensor, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return pixel and distance of the nearest foreground pixel, as `Search` says."""
        queries = points.numpy().astype(np.float64)
        pixel = np.full(queries.shape[:2], -1, dtype=np.int64)
        distance = np.full(queries.shape[:2], np.inf)
        for position, image in enumerate(images):
            photo = self.photos[image]
            if photo is None:
                continue
            if basin is None:
                pixel[position], distance[position] = photo.nearest(queries[position])
            else:
                centres, radius = basin[0][position].numpy(), basin[1]
                found = photo.nearest_outside(queries[position], centres, radius, self.width)
                pixel[position], distance[position] = found
        return torch.from_numpy(pixel), torch.from_numpy(distance).float()


def build(maps: Tensor, foreground: Tensor) -> TreeSearch:
    """Return the trees of maps (N, H, W, 2) with foreground (N, H, W)."""
    photos = []
    for coordinates, mask in zip(maps.flatten(1, 2).numpy(), foreground.flatten(1).numpy(), strict=True):
        pixels = np.flatnonzero(mask)
        inside = coordinates[pixels].astype(np.float64)
        # Splitting at the middle of the box instead of the median builds twice as fast and answers as fast here.
        options = {"balanced_tree": False, "compact_nodes": False, "leafsize": 32}
        photos.append(_Photo(pixels, inside, cKDTree(inside, **options)) if len(pixels) else None)
    return TreeSearch(tuple(photos), maps.shape[2])
