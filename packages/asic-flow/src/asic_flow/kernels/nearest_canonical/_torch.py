"""Canonical look-up on the CPU: a KD-tree of each image's foreground, built once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asic_flow.foreground_tree import ForegroundTree


@dataclass(frozen=True)
class TreeSearch:
    """KD-trees of one collection, `None` for an image without foreground; `width` of the images in pixels."""

    photos: tuple[ForegroundTree | None, ...]
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
                row, distance[position] = photo.nearest(queries[position])
                pixel[position] = photo.pixels[row]
            else:
                centres, radius = basin[0][position].numpy(), basin[1]
                found = photo.nearest_outside(queries[position], centres, radius, self.width)
                pixel[position], distance[position] = found
        return torch.from_numpy(pixel), torch.from_numpy(distance).float()


def build(maps: Tensor, foreground: Tensor) -> TreeSearch:
    """Return the trees of maps (N, H, W, 2) with foreground (N, H, W)."""
    photos = zip(maps.numpy(), foreground.numpy(), strict=True)
    return TreeSearch(tuple(ForegroundTree.of_map(canonical, mask) for canonical, mask in photos), maps.shape[2])
