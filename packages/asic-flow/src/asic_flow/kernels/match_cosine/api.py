"""Cosine matching of descriptor sets: validation and dispatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation


@dataclass(frozen=True)
class CosineMatches:
    """Mutual nearest neighbours of two sets, sorted by `index_a`.

    Attributes:
        index_a: (K,) int64 rows of the first set, increasing.
        index_b: (K,) int64 rows of the second set, each at most once.
        score: (K,) float32 cosine similarity.
    """

    index_a: Tensor
    index_b: Tensor
    score: Tensor


@dataclass(frozen=True)
class CosineNeighbours:
    """The k best partners of every row of both sets, best first.

    Attributes:
        index_ab: (M, k) int64 rows of the second set for each row of the first.
        score_ab: (M, k) float32 cosine similarity.
        index_ba: (N, k) int64 rows of the first set for each row of the second.
        score_ba: (N, k) float32.
    """

    index_ab: Tensor
    score_ab: Tensor
    index_ba: Tensor
    score_ba: Tensor


@dataclass(frozen=True)
class RaggedMatches:
    """Mutual matches of many pairs of sets, one after the other.

    Attributes:
        offsets: (P+1,) int64; the matches of pair p are `offsets[p]:offsets[p + 1]`.
        index_a: (K,) int64 rows within the pair's first set, increasing within a pair.
        index_b: (K,) int64 rows within the pair's second set.
        score: (K,) float32 cosine similarity.
    """

    offsets: Tensor
    index_a: Tensor
    index_b: Tensor
    score: Tensor


@overload
def match_cosine(
    a: Tensor, b: Tensor, *, mutual: Literal[True] = True, top_k: int = 1, impl: Implementation = "auto"
) -> CosineMatches: ...


@overload
def match_cosine(
    a: Tensor, b: Tensor, *, mutual: Literal[False], top_k: int = 1, impl: Implementation = "auto"
) -> CosineNeighbours: ...


@torch.no_grad()
def match_cosine(
    a: Tensor, b: Tensor, *, mutual: bool = True, top_k: int = 1, impl: Implementation = "auto"
) -> CosineMatches | CosineNeighbours:
    """Match two sets of descriptors by cosine similarity without building their M x N similarity matrix.

    Rows are scaled to unit length first; a zero row has similarity 0 to everything. Products accumulate in float32.
    Among equal similarities the lowest index wins. Not differentiable. Foreground matching is done by passing the
    foreground rows alone.

    Args:
        a: (M, D) descriptors, float16, bfloat16 or float32; need not be contiguous.
        b: (N, D) descriptors on the same device.
        mutual: keep the pairs that are each other's best; otherwise return the best of every row of both sets.
        top_k: how many partners a row keeps; more than 1 needs `mutual=False`.
        impl: `"auto"` takes Triton on CUDA and blocked torch on the CPU; a named one never falls back.

    Returns:
        `CosineMatches` when mutual, else `CosineNeighbours`.

    Raises:
        ValueError: shapes, devices or sizes that do not fit, or descriptors that are not finite.
        TypeError: a dtype that is not a 16- or 32-bit float.

    >>> a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> match_cosine(a, a.flip(0)).index_b.tolist()
    [1, 0]
    """
    _check_descriptors("a", a)
    _check_descriptors("b", b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a and b must hold descriptors of one width, got {a.shape[1]} and {b.shape[1]}; "
            "compare sets of the same backbone and facet"
        )
    if a.device != b.device:
        raise ValueError(f"a and b must be on one device, got {a.device} and {b.device}; move one with .to()")
    _check_finite("a", a)
    _check_finite("b", b)
    module = load_implementation("match_cosine", impl, a.device)
    if mutual:
        if top_k != 1:
            raise ValueError(
                f"top_k must be 1 for mutual matches, got {top_k}; pass mutual=False to rank more partners"
            )
        return CosineMatches(*module.match_mutual(a, b))
    smaller = min(len(a), len(b))
    if not 1 <= top_k <= smaller:
        raise ValueError(
            f"top_k must be between 1 and the smaller set's size {smaller}, got {top_k}; ask for fewer partners"
        )
    return CosineNeighbours(*module.nearest_both_ways(a, b, top_k))


@torch.no_grad()
def match_cosine_pairs(
    descriptors: Tensor, offsets: Tensor, pairs: Tensor, *, impl: Implementation = "auto"
) -> RaggedMatches:
    """Find the mutual matches of many pairs of descriptor sets that lie one after the other in one tensor.

    Each pair is matched as `match_cosine` does it.

    Args:
        descriptors: (S, D) descriptors of all sets, float16, bfloat16 or float32.
        offsets: (N+1,) int64; set n is the rows `offsets[n]:offsets[n + 1]` (its foreground tokens, say).
        pairs: (P, 2) integer set indices.
        impl: `"auto"` takes Triton on CUDA and blocked torch on the CPU; a named one never falls back.

    Returns:
        The matches of all pairs, in the order of `pairs`, with indices that count within each set.

    Raises:
        ValueError: shapes, devices, offsets or pairs that do not fit, or descriptors that are not finite.
        TypeError: a dtype that is not a 16- or 32-bit float, or pairs and offsets that are not integers.
    """
    _check_descriptors("descriptors", descriptors)
    _check_layout(descriptors, offsets, pairs)
    _check_finite("descriptors", descriptors)
    module = load_implementation("match_cosine", impl, descriptors.device)
    sets = [descriptors[start:stop] for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    found = [module.match_mutual(sets[i], sets[j]) for i, j in pairs.tolist()]
    counts = torch.tensor([0] + [len(index_a) for index_a, _, _ in found])
    none = torch.empty(0, dtype=torch.int64, device=descriptors.device)
    empty = (none, none, none.to(torch.float32))
    index_a, index_b, score = (torch.cat(parts) for parts in zip(empty, *found, strict=True))
    return RaggedMatches(counts.cumsum(0).to(descriptors.device), index_a, index_b, score)


def _check_descriptors(name: str, descriptors: Tensor) -> None:
    if descriptors.ndim != 2 or descriptors.shape[1] == 0:
        raise ValueError(
            f"{name} must be (rows, width) with width > 0, got shape {tuple(descriptors.shape)}; flatten the grid"
        )
    if descriptors.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise TypeError(
            f"{name} must be float16, bfloat16 or float32, got {descriptors.dtype}; convert it with .float()"
        )


def _check_finite(name: str, descriptors: Tensor) -> None:
    if not torch.isfinite(torch.linalg.vector_norm(descriptors, dim=1, dtype=torch.float32)).all():
        raise ValueError(
            f"{name} holds a descriptor that is not finite (NaN, infinite or overflowing); remove it before matching"
        )


def _check_layout(descriptors: Tensor, offsets: Tensor, pairs: Tensor) -> None:
    for name, tensor in (("offsets", offsets), ("pairs", pairs)):
        if tensor.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{name} must be int32 or int64, got {tensor.dtype}; convert it with .long()")
    if (
        offsets.ndim != 1
        or len(offsets) < 1
        or offsets[0] != 0
        or offsets[-1] != len(descriptors)
        or (offsets.diff() < 0).any()
    ):
        raise ValueError(
            f"offsets must rise from 0 to the {len(descriptors)} rows of descriptors, got {offsets.tolist()[:8]}...; "
            "build them as a cumulative sum of the set sizes"
        )
    num_sets = len(offsets) - 1
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs must be (P, 2), got shape {tuple(pairs.shape)}; give two set indices a row")
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= num_sets):
        raise ValueError(
            f"pairs must name sets 0 to {num_sets - 1}, got indices from {pairs.min()} to {pairs.max()}; "
            "check the offsets"
        )
