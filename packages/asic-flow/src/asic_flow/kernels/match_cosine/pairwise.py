"""Ragged matching pair by pair, for the implementations that match one pair at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from asic_flow.cores import MOST_TOKENS_A_CORE, mapping
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

    largest = max((end - start for start, end in itertools.pairwise(bounds)), default=0)
    # A pair alone, or of many rows, is shared out by torch's own threads.
    apart = at_once and len(pairs) > 1 and largest <= MOST_TOKENS_A_CORE
    with mapping(apart=apart) as each:
        found = list(each(match, pairs.tolist()))
    counts = torch.tensor([0] + [len(index_a) for index_a, _, _ in found], device=descriptors.device)
    none = torch.empty(0, dtype=torch.int64, device=descriptors.device)
    index_a, index_b, score = (torch.cat(parts) for parts in zip((none, none, none.float()), *found, strict=True))
    return counts.cumsum(0), index_a, index_b, score
