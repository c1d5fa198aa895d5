"""Ragged matching pair by pair, for the implementations that match one pair at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from asic_flow.cores import all_cores
from asic_flow.kernels.match_cosine.operands import Guide

MatchMutual = Callable[[Tensor, Tensor, Guide | None, bool], tuple[Tensor, Tensor, Tensor]]


def match_each(
    match_mutual: MatchMutual,
    descriptors: Tensor,
    offsets: Tensor,
    pairs: Tensor,
    guide: Guide | None,
    half: bool,
    *,
    at_once: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (offsets, index_a, index_b, score) of the mutual matches of all pairs; `at_once` by all cores."""
    bounds = offsets.tolist()

    def match(pair: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = (slice(bounds[image], bounds[image + 1]) for image in pair)
        own = None if guide is None else Guide(torch.cat((guide.points[rows], guide.points[columns])), guide.weight)
        return match_mutual(descriptors[rows], descriptors[columns], own, half)

    # With one pair alone, torch's own threads are all there is to share it.
    with all_cores() if at_once and len(pairs) > 1 else nullcontext() as cores:
        found = list((cores.map if cores else map)(match, pairs.tolist()))
    counts = torch.tensor([0] + [len(index_a) for index_a, _, _ in found], device=descriptors.device)
    none = torch.empty(0, dtype=torch.int64, device=descriptors.device)
    index_a, index_b, score = (torch.cat(parts) for parts in zip((none, none, none.float()), *found, strict=True))
    return counts.cumsum(0), index_a, index_b, score
