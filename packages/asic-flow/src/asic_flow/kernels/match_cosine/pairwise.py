"""Ragged matching one pair after the other, for the implementations that match one pair at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asic_flow.kernels.match_cosine.operands import Guide

MatchMutual = Callable[[Tensor, Tensor, Guide | None, bool], tuple[Tensor, Tensor, Tensor]]


def match_each(
    match_mutual: MatchMutual, descriptors: Tensor, offsets: Tensor, pairs: Tensor, guide: Guide | None, half: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (offsets, index_a, index_b, score) of the mutual matches of all pairs."""
    bounds = offsets.tolist()
    found = []
    for i, j in pairs.tolist():
        rows, columns = slice(bounds[i], bounds[i + 1]), slice(bounds[j], bounds[j + 1])
        own = None if guide is None else Guide(torch.cat((guide.points[rows], guide.points[columns])), guide.weight)
        found.append(match_mutual(descriptors[rows], descriptors[columns], own, half))
    counts = torch.tensor([0] + [len(index_a) for index_a, _, _ in found], device=descriptors.device)
    none = torch.empty(0, dtype=torch.int64, device=descriptors.device)
    index_a, index_b, score = (torch.cat(parts) for parts in zip((none, none, none.float()), *found, strict=True))
    return counts.cumsum(0), index_a, index_b, score
