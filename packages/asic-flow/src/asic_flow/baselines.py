"""What an alignment has to beat: answers that need no alignment.

Each baseline is a function of (M, 2) points in the source photos' own pixels, (M,) source photos and (M,) target
photos, and returns (M, 2) points in the target photos' own pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from asic_flow.collection import ImageCollection, Photo
from asic_flow.groups import rows_of_each

Baseline = Callable[[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]

_QUERIES_AT_ONCE = 2048


def box_copy(collection: ImageCollection) -> Baseline:
    """Copies a point's relative position in the object's box, or in the whole photo where there is no box."""
    boxes = np.array([_box(photo) for photo in collection.photos])
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]

    def answer(
        points: NDArray[np.float64], source: NDArray[np.int64], target: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        relative = (np.asarray(points, np.float64) - corner[source]) / extent[source]
        copied: NDArray[np.float64] = corner[target] + relative * extent[target]
        return copied

    return answer


def nearest_neighbour(collection: ImageCollection) -> Baseline:
    """Sends a point to the target token most similar to the source's descriptor there.

    The descriptor is a bilinear sample of the source's grid; all tokens of the target compete, background included;
    the answer is the winning token's centre.
    """
    grid = collection.grid
    centres = grid.centres_px().astype(np.float64)
    scale = np.array([photo.scale_xy for photo in collection.photos])
    offset = np.array([photo.offset_xy for photo in collection.photos])

    def answer(
        points: NDArray[np.float64], source: NDArray[np.int64], target: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        position = (np.asarray(points, np.float64) * scale[source] + offset[source] - grid.first) / grid.stride
        position = np.clip(position, 0, [grid.cols - 1, grid.rows - 1])
        low = np.floor(position).astype(np.int64)
        fraction = torch.from_numpy(position - low).float()
        best = np.zeros(len(position), np.int64)
        for image, asked in rows_of_each(target):
            theirs = collection.descriptors[image].float()
            for start in range(0, len(asked), _QUERIES_AT_ONCE):
                mine = asked[start : start + _QUERIES_AT_ONCE]
                query = torch.zeros(len(mine), theirs.shape[1])
                for down in (0, 1):
                    for right in (0, 1):
                        x, y = fraction[mine].unbind(-1)
                        weight = (y if down else 1 - y) * (x if right else 1 - x)
                        row = np.minimum(low[mine, 1] + down, grid.rows - 1)
                        column = np.minimum(low[mine, 0] + right, grid.cols - 1)
                        query += (
                            weight[:, None] * collection.descriptors[source[mine], row * grid.cols + column].float()
                        )
                best[mine] = (query @ theirs.T).max(1).indices.numpy()  # faster than argmax
        found: NDArray[np.float64] = (centres[best] - offset[target]) / scale[target]
        return found

    return answer


def _box(photo: Photo) -> tuple[float, float, float, float]:
    """The edges of what the box covers, columns x0 to x1 - 1; a pixel's centre is its integer coordinate."""
    height, width = photo.size_hw
    left, top, right, bottom = photo.box_xyxy or (0, 0, width, height)
    return left - 0.5, top - 0.5, right - 0.5, bottom - 0.5
