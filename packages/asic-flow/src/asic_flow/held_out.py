"""How well maps agree with matches they were never fitted to: the score that chooses between maps without any truth."""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.coarse import NormalisedMatches
from asic_flow.collection import ImageCollection
from asic_flow.matches import MatchSet
from asic_flow.train import held_out_matches, normalised_matches

WITHIN = 0.1
"""Canonical distance up to which the two ends of a match agree."""


def match_distances(maps: Tensor, matches: NormalisedMatches) -> Tensor:
    """(M,) canonical distances between the ends of matches, under (N, H, W, 2) maps read at the nearest pixel."""
    ends = []
    for image, points in ((matches.image_a, matches.points_a), (matches.image_b, matches.points_b)):
        height, width = maps.shape[1:3]
        extent = points.new_tensor([width - 1, height - 1])
        column, row = ((points + 1) / 2 * extent).round().long().unbind(-1)
        ends.append(maps[image, row.clamp(0, height - 1), column.clamp(0, width - 1)])
    distances: Tensor = torch.linalg.vector_norm(ends[0] - ends[1], dim=-1)
    return distances


def agreeing_share(distances: Tensor, matches: NormalisedMatches) -> float:
    """The share of matches, by weight, whose ends lie within 0.1 canonical distance; 0 where there is no match."""
    near = distances < WITHIN
    return float((near * matches.weight).sum() / matches.weight.sum().clamp_min(1e-12))


def held_out_share(collection: ImageCollection, matches: MatchSet, maps: Tensor) -> float:
    """`agreeing_share` of the held-out matches on the foreground, under (N, H, W, 2) maps in the canonical gauge."""
    held = normalised_matches(collection, matches, held_out_matches(collection, matches))
    return agreeing_share(match_distances(maps, held), held)
