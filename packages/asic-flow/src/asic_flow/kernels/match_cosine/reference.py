"""Dense oracle of cosine matching: builds the whole similarity matrix, in the precision of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.kernels.match_cosine.operands import Guide
from asic_flow.kernels.match_cosine.pairwise import match_each


def _unit_rows(descriptors: Tensor) -> Tensor:
    descriptors = descriptors.to(torch.promote_types(descriptors.dtype, torch.float32))
    norms = torch.linalg.vector_norm(descriptors, dim=1, keepdim=True)
    return descriptors / torch.where(norms > 0, norms, torch.ones_like(norms))


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine similarities (M, N) of the rows of a (M, D) and b (N, D); 16-bit input counts in float32."""
    return _unit_rows(a) @ _unit_rows(b).T


def guided(scores: Tensor, guide: Guide | None) -> Tensor:
    """Return the scores (M, N) with the guide's bias; its points are those of the M rows, then of the N columns."""
    if guide is None:
        return scores
    points = guide.points.to(scores.dtype)
    u, v = points[: len(scores)], points[len(scores) :]
    return scores - guide.weight * (u[:, None] - v[None]).square().sum(-1)


def match_mutual(a: Tensor, b: Tensor, guide: Guide | None, half: bool) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    """Return (index_a, index_b, cosine) of the pairs that are each other's best, the lowest index among equals."""
    cosines = similarity(a, b)
    scores = guided(cosines, guide)
    if scores.numel() == 0:
        none = torch.empty(0, dtype=torch.int64, device=scores.device)
        return none, none, scores.new_empty(0)
    best_b = scores.argmax(1)
    best_a = scores.argmax(0)
    index_a = torch.nonzero(best_a[best_b] == torch.arange(len(scores), device=scores.device)).squeeze(1)
    index_b = best_b[index_a]
    return index_a, index_b, cosines[index_a, index_b]


def rank_both_ways(a: Tensor, b: Tensor, top_k: int, guide: Guide | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (index_ab, cosine_ab, index_ba, cosine_ba): the k best partners of every row and column, best first."""
    cosines = similarity(a, b)
    scores = guided(cosines, guide)
    index_ab = scores.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    index_ba = scores.T.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    return index_ab, cosines.gather(1, index_ab), index_ba, cosines.T.gather(1, index_ba)


def match_pairs(
    descriptors: Tensor, offsets: Tensor, pairs: Tensor, guide: Guide | None, half: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (offsets, index_a, index_b, score) of the mutual matches of all pairs."""
    return match_each(match_mutual, descriptors, offsets, pairs, guide, half, at_once=False)
