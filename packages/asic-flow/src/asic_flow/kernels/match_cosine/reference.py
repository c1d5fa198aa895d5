"""Dense oracle of cosine matching: builds the whole similarity matrix, in the precision of its input."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_rows(descriptors: Tensor) -> Tensor:
    """Return the rows (M, D) scaled to unit length; a zero row stays zero, so its similarity to anything is 0."""
    norms = torch.linalg.vector_norm(descriptors, dim=1, keepdim=True)
    return descriptors / torch.where(norms > 0, norms, torch.ones_like(norms))


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine similarities (M, N) of the rows of a (M, D) and b (N, D); 16-bit input counts in float32."""
    wide = torch.promote_types(a.dtype, torch.float32)
    return unit_rows(a.to(wide)) @ unit_rows(b.to(wide)).T


def match_mutual(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (index_a, index_b, score) of the pairs that are each other's best, the lowest index among equals."""
    scores = similarity(a, b)
    if scores.numel() == 0:
        none = torch.empty(0, dtype=torch.int64, device=scores.device)
        return none, none, scores.new_empty(0)
    best_b = scores.argmax(1)
    best_a = scores.argmax(0)
    index_a = torch.nonzero(best_a[best_b] == torch.arange(len(scores), device=scores.device)).squeeze(1)
    index_b = best_b[index_a]
    return index_a, index_b, scores[index_a, index_b]


def nearest_both_ways(a: Tensor, b: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (index_ab, score_ab, index_ba, score_ba): the k best partners of every row and column, best first."""
    scores = similarity(a, b)
    forth = scores.sort(dim=1, descending=True, stable=True)
    back = scores.T.sort(dim=1, descending=True, stable=True)
    return forth.indices[:, :top_k], forth.values[:, :top_k], back.indices[:, :top_k], back.values[:, :top_k]
