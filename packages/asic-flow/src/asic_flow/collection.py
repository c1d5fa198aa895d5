"""A collection of photos prepared for alignment; `asic_flow.collection_folder` is its folder on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asic_flow.atomic import Staging
from asic_flow.collection_folder import (
    FOREGROUND_THRESHOLD,
    INDEX_FILE,
    CollectionArrays,
    CollectionError,
    Photo,
    TokenGrid,
    check_fields,
    identity,
    read_collection,
    read_index,
    write_collection,
)
from asic_flow.matches import MatchSet

__all__ = [
    "FOREGROUND_THRESHOLD",
    "INDEX_FILE",
    "CollectionError",
    "ImageCollection",
    "Photo",
    "TokenGrid",
    "foreground_tokens",
    "identity",
    "join_collections",
    "load_collection",
    "read_index",
    "save_collection",
    "take_photos",
]


@dataclass(frozen=True, eq=False)
class ImageCollection:
    """Photos in the model's frame with their masks and descriptors.

    Attributes:
        photos: N records.
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8, probability of foreground times 255.
        descriptors: (N, T, D) float16, unit length, T = rows * cols of `grid`.
        saliency: (N, T) float32, 0 to 1.
        grid: Where the T tokens sit.
        settings: Every setting the collection was made with, JSON values only.
        parts: (N, H, W) uint8, 0 for background and 1 to K for parts that all photos share; None where none were
            asked for.
    """

    photos: tuple[Photo, ...]
    images: torch.Tensor
    masks: torch.Tensor
    descriptors: torch.Tensor
    saliency: torch.Tensor
    grid: TokenGrid
    settings: dict[str, Any]
    parts: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the model's frame, in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    @classmethod
    def of_arrays(cls, arrays: CollectionArrays) -> ImageCollection:
        """The same as torch's tensors, in the same memory."""
        tensors = {
            name: torch.from_numpy(value) for name, value in vars(arrays).items() if isinstance(value, np.ndarray)
        }
        return cls(photos=arrays.photos, grid=arrays.grid, settings=arrays.settings, **tensors)

    def arrays(self) -> CollectionArrays:
        """The same as NumPy's arrays, sharing memory where that is the CPU's."""
        pictures = {name: value.cpu().numpy() for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return CollectionArrays(photos=self.photos, grid=self.grid, settings=self.settings, **pictures)

    def foreground(self) -> torch.Tensor:
        """(N, H, W) bool: the pixels that belong to the object."""
        return self.masks >= FOREGROUND_THRESHOLD

    def foreground_tokens(self) -> torch.Tensor:
        """(N, T) bool: whether the pixel at a token's centre belongs to the object."""
        return foreground_tokens(self.masks, self.grid)


def foreground_tokens(masks: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Reads masks at token centres.

    Args:
        masks: (N, H, W) uint8, probability of foreground times 255.
        grid: The tokens.

    Returns:
        (N, T) bool, true where the pixel nearest to the centre is foreground.
    """
    height, width = masks.shape[1:]
    xy = torch.from_numpy(grid.centres_px()).round().long()
    return masks[:, xy[:, 1].clamp(0, height - 1), xy[:, 0].clamp(0, width - 1)] >= FOREGROUND_THRESHOLD


def join_collections(collection: ImageCollection, added: ImageCollection) -> ImageCollection:
    """Two collections of one kind as one, with the first one's settings; parts are left out.

    Raises:
        ValueError: They differ in the model's size, the token grid or the descriptors' width, or share a photo's path.
    """
    for what, ours, theirs in (
        ("model size", collection.size_hw, added.size_hw),
        ("token grid", collection.grid, added.grid),
        ("descriptors' width", collection.descriptors.shape[2], added.descriptors.shape[2]),
    ):
        if ours != theirs:
            raise ValueError(f"{what}: expected {ours} as in the collection, got {theirs}; use the same settings")
    if known := {photo.path for photo in collection.photos} & {photo.path for photo in added.photos}:
        raise ValueError(f"the collection has a photo {min(known)!r} already; give the new one another name")
    return ImageCollection(
        photos=collection.photos + added.photos,
        images=torch.cat((collection.images, added.images)),
        masks=torch.cat((collection.masks, added.masks)),
        descriptors=torch.cat((collection.descriptors, added.descriptors)),
        saliency=torch.cat((collection.saliency, added.saliency)),
        grid=collection.grid,
        settings=collection.settings,
    )


def take_photos(collection: ImageCollection, photos: slice) -> ImageCollection:
    """Some photos of a collection, without parts."""
    return replace(
        collection,
        photos=collection.photos[photos],
        images=collection.images[photos],
        masks=collection.masks[photos],
        descriptors=collection.descriptors[photos],
        saliency=collection.saliency[photos],
        parts=None,
    )


def save_collection(
    folder: Path,
    collection: ImageCollection,
    matches: MatchSet,
    beside: Mapping[str, bytes] | None = None,
    staging: Staging | None = None,
) -> str:
    """Writes a collection folder; see `asic_flow.collection_folder.write_collection`."""
    return write_collection(folder, collection.arrays(), matches, beside, staging)


def load_collection(folder: Path) -> tuple[ImageCollection, MatchSet]:
    """Reads a collection folder; see `asic_flow.collection_folder.read_collection`."""
    stored, matches = read_collection(folder)
    return ImageCollection.of_arrays(stored), matches
