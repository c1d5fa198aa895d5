"""Seeded k-means on the device the data is on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

_CHUNK = 65_536  # rows compared with all centres at once
_STARTS = 4
_ROUNDS = 100
_TOLERANCE = 1e-5  # relative fall of the inertia below which a run ends


@dataclass(frozen=True)
class Clusters:
    """A clustering of points.

    Attributes:
        centres: (K, D) float32.
        label: (M,) int64, the nearest centre of each point; the lowest index among equals.
        inertia: Sum of squared distances to the nearest centres.
    """

    centres: torch.Tensor
    label: torch.Tensor
    inertia: float


def cluster(points: torch.Tensor, count: int, *, seed: int = 0) -> Clusters:
    """k-means (Lloyd) from k-means++ starts (Arthur and Vassilvitskii, 2007); the best of four runs.

    Args:
        points: (M, D) floats.
        count: Number of clusters K.
        seed: The same seed, points and device give the same clusters.

    Raises:
        ValueError: Fewer points than clusters, or no cluster asked for.
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"expected 1 to {len(points)} clusters of {len(points)} points, got {count}")
    points = points.float()
    square = points.square().sum(dim=1)
    generator = torch.Generator().manual_seed(seed)
    runs = [_run(points, square, _first_centres(points, square, count, generator)) for _ in range(_STARTS)]
    return min(runs, key=lambda run: run.inertia)


def assign(
    points: torch.Tensor, centres: torch.Tensor, square: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest centre (M,) of each point, and the squared distance (M,) to it.

    Args:
        points: (M, D) float32.
        centres: (K, D) float32.
        square: (M,) squared lengths of the points, where they are at hand.
    """
    square = points.square().sum(dim=1) if square is None else square
    labels, distances = [], []
    lengths = centres.square().sum(dim=1)
    for chunk in torch.split(points, _CHUNK):
        partial, label = torch.addmm(lengths, chunk, centres.T, alpha=-2).min(dim=1)
        labels.append(label)
        distances.append(partial)
    return torch.cat(labels), (torch.cat(distances) + square).clamp_min(0)


def cluster_by_elbow(points: torch.Tensor, *, most: int = 14, ratio: float = 0.975, seed: int = 0) -> Clusters:
    """k-means with the smallest number of clusters that hardly helps, compared with one fewer.

    k grows from 1 and stops at the first one whose inertia is above ``ratio`` times that of one cluster fewer, as in
    Amir et al., "Deep ViT features as dense visual descriptors" (2021).

    Args:
        points: (M, D).
        most: Largest k that is tried.
        ratio: See above.
        seed: As in ``cluster``.
    """
    best = cluster(points, 1, seed=seed)
    for count in range(2, min(most, len(points)) + 1):
        found = cluster(points, count, seed=seed)
        if found.inertia > ratio * best.inertia:
            return found
        best = found
    return best


def _first_centres(points: torch.Tensor, square: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    def distance(index: int) -> torch.Tensor:
        return (square + square[index] - 2 * (points @ points[index])).clamp_min(0)

    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = distance(chosen[0])
    for _ in range(count - 1):
        share = nearest.double().cumsum(0)
        at = torch.rand(1, generator=generator, dtype=torch.float64).to(share.device) * share[-1]
        chosen.append(min(int(torch.searchsorted(share, at)), len(points) - 1))
        nearest = torch.minimum(nearest, distance(chosen[-1]))
    return points[chosen]


def _run(points: torch.Tensor, square: torch.Tensor, centres: torch.Tensor) -> Clusters:
    inertia = float("inf")
    label, distance = assign(points, centres, square)
    for _ in range(_ROUNDS):
        total = float(distance.double().sum())
        if total >= inertia * (1 - _TOLERANCE):
            break
        inertia = total
        # A product is several times faster than adding row by row.
        member = functional.one_hot(label, len(centres)).float()
        size = member.sum(dim=0).unsqueeze(1)
        # A centre that lost all its points moves to the point that is served worst.
        centres = torch.where(size > 0, member.T @ points / size.clamp_min(1), points[distance.argmax()])
        label, distance = assign(points, centres, square)
    return Clusters(centres, label, float(distance.double().sum()))
