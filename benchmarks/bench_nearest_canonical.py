"""Look-up of canonical points: a pair's keypoints, and a grid of points in all photos at once."""

from __future__ import annotations

import torch
from harness import Case, Provider, main

from asic_flow.kernels import CanonicalIndex

SIDE = 256
SHORT = 51  # repeats of what takes milliseconds: seconds in all, so that a moment of the machine does not decide


def maps_of(num_photos: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth canonical maps and discs of 30 % foreground."""
    steps = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    grid = torch.stack((columns, rows), -1)
    shifts = torch.arange(num_photos).view(-1, 1, 1, 1) / 10
    maps = grid + 0.05 * torch.sin(3 * grid.flip(-1) + shifts)
    inside = (grid.square().sum(-1) < 1.2 / torch.pi).expand(num_photos, -1, -1)
    return maps.to(device), inside.contiguous().to(device)


def published(points: torch.Tensor, maps: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Return the nearest pixels by a table of all distances, the background pushed away."""
    distance: torch.Tensor = torch.linalg.vector_norm(maps.flatten(1, 2)[:, None] - points[None, :, None], dim=-1)
    return (distance + 1e6 * ~foreground.flatten(1)[:, None]).argmin(2)


def foreground_alone(points: torch.Tensor, maps: torch.Tensor, foreground: torch.Tensor) -> list[torch.Tensor]:
    """Return the nearest foreground pixels by `cdist`, photo by photo."""
    return [torch.cdist(points, own[inside]).argmin(1) for own, inside in zip(maps, foreground, strict=True)]


def cases(device: torch.device) -> list[Case]:
    """Return the pair, its preparation and the whole collection."""
    generator = torch.Generator().manual_seed(0)
    maps, foreground = maps_of(30, device)
    one = maps[:1], foreground[:1]
    keypoints = (torch.rand(30, 2, generator=generator) - 0.5).to(device)
    many = (torch.rand(4096, 2, generator=generator) - 0.5).to(device)
    index, collection = CanonicalIndex(*one), CanonicalIndex(maps, foreground)
    # FLOP: two differences, two squares and a sum for every point and pixel of the full search.
    pair = Case(
        "30 points in one photo of 65,536 pixels, prepared",
        5.0 * 30 * SIDE * SIDE,
        "FLOP/s",
        "published formula",
        [
            Provider("published formula", lambda: published(keypoints, *one)),
            Provider("cdist to the foreground", lambda: foreground_alone(keypoints, *one)),
            Provider("CanonicalIndex.nearest", lambda: index.nearest(keypoints), True),
        ],
        repeats=SHORT,
    )
    preparation = Case(
        "preparing one photo",
        4.0 * SIDE * SIDE * 3,
        "B/s",
        "floor: a copy of the map",
        [
            Provider("floor: a copy of the map", lambda: one[0].clone()),
            Provider("CanonicalIndex", lambda: CanonicalIndex(*one), True),
        ],
        repeats=SHORT,
    )
    whole = Case(
        "4,096 points in 30 photos of 65,536 pixels, prepared",
        5.0 * 30 * 4096 * SIDE * SIDE,
        "FLOP/s",
        "cdist to the foreground",
        [
            Provider("cdist to the foreground", lambda: foreground_alone(many, maps, foreground)),
            Provider("CanonicalIndex.nearest", lambda: collection.nearest(many), True),
        ],
        repeats=3,
    )
    return [pair, preparation, whole]


if __name__ == "__main__":
    main("nearest_canonical", cases)
