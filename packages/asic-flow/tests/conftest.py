"""Drawn collections shared by the tests of alignment: exact truth, no weights, no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from asic_flow.collection import ImageCollection, Photo, TokenGrid
from asic_flow.kernels import match_cosine_pairs
from asic_flow.matches import MatchSet


@dataclass(frozen=True)
class DrawnCollection:
    """A collection whose photos show one flat pattern under known similarities.

    `to_object[i]` takes homogeneous pixels of photo i to the pattern's plane, where it fills the unit disc.
    """

    collection: ImageCollection
    matches: MatchSet
    to_object: NDArray[np.float64]

    def truth(self, points: NDArray[np.float64], source: int, target: int) -> NDArray[np.float64]:
        homogeneous = np.concatenate((points, np.ones((len(points), 1))), 1)
        carried = homogeneous @ (np.linalg.inv(self.to_object[target]) @ self.to_object[source]).T
        return carried[:, :2]


def draw(
    num_photos: int = 6, *, seed: int = 0, size: int = 96, stride: int = 4, noise: float = 0.5, intruder: bool = False
) -> DrawnCollection:
    """Draws descriptors straight from the pattern's plane: smooth functions of the material point, plus noise."""
    rng = np.random.default_rng(seed)
    grid = TokenGrid(size // stride, size // stride, float(stride), (stride - 1) / 2)
    width = 32
    frequency = rng.normal(0, 2.5, (2, width))
    phase = rng.uniform(0, 2 * np.pi, width)
    centres = grid.centres_px().astype(np.float64)
    rows, columns = np.mgrid[:size, :size]
    pixels = np.stack((columns, rows, np.ones_like(rows)), -1).astype(np.float64)
    to_object, masks, descriptors = [], [], []
    for index in range(num_photos):
        angle = rng.uniform(-0.6, 0.6)
        radius = size * rng.uniform(0.28, 0.4)
        mirror = -1.0 if index % 3 == 1 else 1.0
        centre = size / 2 + rng.uniform(-1, 1, 2) * (size / 2 - radius)
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / radius
        linear[0] *= mirror
        transform = np.eye(3)
        transform[:2, :2], transform[:2, 2] = linear, -linear @ centre
        to_object.append(transform)
        inside = np.linalg.norm((pixels @ transform.T)[..., :2], axis=-1) <= 1
        masks.append(inside.astype(np.uint8) * 255)
        material = np.concatenate((centres, np.ones((len(centres), 1))), 1) @ transform[:2].T
        described = np.cos(material @ frequency + phase)
        if intruder and index == num_photos - 1:
            described = rng.normal(size=described.shape)
        described = described + noise * rng.normal(size=described.shape)
        descriptors.append(described / np.linalg.norm(described, axis=1, keepdims=True))
    mask = torch.from_numpy(np.stack(masks))
    images = torch.from_numpy(rng.integers(0, 255, (num_photos, size, size, 3), dtype=np.uint8))
    collection = ImageCollection(
        photos=tuple(
            Photo(f"{index}.png", "0" * 64, (2 * size, 2 * size), (0.5, 0.5), (-0.25, -0.25), None)
            for index in range(num_photos)
        ),
        images=images,
        masks=mask,
        descriptors=torch.from_numpy(np.stack(descriptors)).half(),
        saliency=torch.zeros(num_photos, len(centres)),
        grid=grid,
        settings={"backbone": "drawn"},
    )
    return DrawnCollection(collection, match_all(collection), np.stack(to_object))


def match_all(collection: ImageCollection) -> MatchSet:
    """Mutual nearest neighbours among the foreground tokens of all pairs."""
    image, token = torch.nonzero(collection.foreground_tokens(), as_tuple=True)
    counts = torch.bincount(image, minlength=len(collection))
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    pairs = torch.combinations(torch.arange(len(collection)))
    found = match_cosine_pairs(collection.descriptors[image, token].float(), offsets, pairs)
    pair = torch.repeat_interleave(torch.arange(len(pairs)), found.offsets.diff())
    centres = torch.from_numpy(collection.grid.centres_px())
    return MatchSet(
        pairs=pairs.numpy().astype(np.int32),
        offsets=found.offsets.numpy(),
        xy_a=centres[token[offsets[pairs[pair, 0]] + found.index_a]].numpy(),
        xy_b=centres[token[offsets[pairs[pair, 1]] + found.index_b]].numpy(),
        score=found.score.numpy(),
        saliency=np.zeros(len(found.score), np.float32),
        support=np.zeros(len(found.score), np.int32),
    )


@pytest.fixture(scope="session")
def drawn() -> DrawnCollection:
    return draw()


@pytest.fixture(name="draw", scope="session")
def draw_fixture() -> Callable[..., DrawnCollection]:
    return draw


@pytest.fixture(name="match_all", scope="session")
def match_all_fixture() -> Callable[[ImageCollection], MatchSet]:
    return match_all
