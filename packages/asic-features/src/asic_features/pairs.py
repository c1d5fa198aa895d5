"""Which pairs of photos to match: all of a small collection, the promising ones of a large one."""

from __future__ import annotations

from itertools import combinations

import torch
from torch.nn import functional

from asic_features.config import NEIGHBOURS

_ALL_PAIRS_UP_TO = 60
_CHUNK = 1024


def choose_pairs(summaries: torch.Tensor, *, neighbours: int = NEIGHBOURS) -> list[tuple[int, int]]:
    """Pairs that tie a collection together.

    Up to 60 photos all pairs; past that each photo with its ``neighbours`` most similar ones, and what is
    still apart is joined along the most similar pairs between the parts (Boruvka, 1926), so that every photo can be
    reached from every other. The number of pairs grows as N times k.

    Args:
        summaries: (N, D) one global descriptor for each photo.
        neighbours: Neighbours k of each photo.

    Returns:
        Sorted pairs, the lower index first.

    Raises:
        ValueError: ``neighbours`` below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours: expected at least 1, got {neighbours}")
    count = len(summaries)
    if count <= _ALL_PAIRS_UP_TO or neighbours >= count - 1:
        return list(combinations(range(count), 2))
    unit = functional.normalize(summaries.float(), dim=-1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, count, _CHUNK):
        similarity = unit[start : start + _CHUNK] @ unit.T
        rows = torch.arange(len(similarity))
        similarity[rows, rows + start] = -torch.inf
        for row, found in enumerate(similarity.topk(neighbours, dim=1).indices.tolist(), start):
            pairs.update((min(row, other), max(row, other)) for other in found)
    while True:
        part = _parts(count, pairs)
        if int(part.max()) == 0:
            return sorted(pairs)
        pairs |= _bridges(unit, part)


def summarise(descriptors: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Global descriptor of each photo: the mean of its foreground tokens, or of all tokens where there is none.

    Args:
        descriptors: (N, T, D).
        foreground: (N, T) bool.

    Returns:
        (N, D) float32 of unit length, the mean over the collection taken off.
    """
    weight = foreground.float()
    weight = torch.where(weight.sum(dim=1, keepdim=True) > 0, weight, torch.ones_like(weight))
    means = torch.zeros(len(descriptors), descriptors.shape[-1], device=descriptors.device)
    # Some tokens at a time: large single-precision copies, one a photo, fragment the heap by as much as they take.
    for tokens, share in zip(torch.split(descriptors, _CHUNK, 1), torch.split(weight, _CHUNK, 1), strict=True):
        for row, (one, part) in enumerate(zip(tokens, share, strict=True)):
            means[row] += part @ one.float()
    means /= weight.sum(dim=1, keepdim=True)
    return functional.normalize(means - means.mean(dim=0), dim=-1)


def _parts(count: int, pairs: set[tuple[int, int]]) -> torch.Tensor:
    """(N,) index of the connected part of each photo, counted from 0."""
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for a, b in pairs:
        leader[find(a)] = find(b)
    leaders = [find(index) for index in range(count)]
    number = {found: index for index, found in enumerate(dict.fromkeys(leaders))}
    return torch.tensor([number[found] for found in leaders])


def _bridges(unit: torch.Tensor, part: torch.Tensor) -> set[tuple[int, int]]:
    """The most similar pair between each part and the rest."""
    bridges = set()
    for index in range(int(part.max()) + 1):
        inside, outside = (part == index).nonzero()[:, 0], (part != index).nonzero()[:, 0]
        similarity = unit[inside] @ unit[outside].T
        row, column = divmod(int(similarity.argmax()), len(outside))
        a, b = int(inside[row]), int(outside[column])
        bridges.add((min(a, b), max(a, b)))
    return bridges
