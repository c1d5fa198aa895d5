"""Cosine matching of descriptor sets: validation and dispatch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation
from asic_flow.kernels.match_cosine.operands import Guide

Precision = Literal["auto", "half", "float32"]
_CHECKED_AT_ONCE = 16384
# The most that a guide may take from a cosine.
STRONGEST = 1000.0


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
    a: Tensor,
    b: Tensor,
    *,
    mutual: Literal[True] = True,
    top_k: int = 1,
    foreground_a: Tensor | None = None,
    foreground_b: Tensor | None = None,
    canonical_a: Tensor | None = None,
    canonical_b: Tensor | None = None,
    distance_weight: float = 0.0,
    precision: Precision = "auto",
    impl: Implementation = "auto",
) -> CosineMatches: ...


@overload
def match_cosine(
    a: Tensor,
    b: Tensor,
    *,
    mutual: Literal[False],
    top_k: int = 1,
    canonical_a: Tensor | None = None,
    canonical_b: Tensor | None = None,
    distance_weight: float = 0.0,
    impl: Implementation = "auto",
) -> CosineNeighbours: ...


@torch.no_grad()
def match_cosine(
    a: Tensor,
    b: Tensor,
    *,
    mutual: bool = True,
    top_k: int = 1,
    foreground_a: Tensor | None = None,
    foreground_b: Tensor | None = None,
    canonical_a: Tensor | None = None,
    canonical_b: Tensor | None = None,
    distance_weight: float = 0.0,
    precision: Precision = "auto",
    impl: Implementation = "auto",
) -> CosineMatches | CosineNeighbours:
    """Match two sets of descriptors by cosine similarity without building their M x N similarity matrix.

    Rows are scaled to unit length first; a zero row has similarity 0 to everything. Products accumulate in float32.
    Among equal similarities the lowest index wins. Bit-stable from run to run. Not differentiable. Scores are float32
    cosines, whatever decided.

    Args:
        a: (M, D) descriptors, float16, bfloat16 or float32; need not be contiguous.
        b: (N, D) descriptors on the same device.
        mutual: keep the pairs that are each other's best; otherwise return the best of every row of both sets.
        top_k: how many partners a row keeps; more than 1 needs `mutual=False`.
        foreground_a: (M,) bool, for mutual matches: the rows of a to match. The others are dropped before anything is
            computed and may hold anything; indices still count all rows.
        foreground_b: (N,) bool, the rows of b to match.
        canonical_a: (M, 2) float32 canonical points of a, for guided matching.
        canonical_b: (N, 2) float32 canonical points of b.
        distance_weight: best is then the highest cosine less this weight times the squared canonical distance.
        precision: of the mutual search. `"float32"` (auto on the CPU) decides by float32 products. `"half"` finds
            candidates by 16-bit products and decides between them in float32: on CUDA (auto there) by float16 ones and
            up to four a row, which keeps about 99.7 % of the pairs; on a CPU by bfloat16 ones and all that are near,
            which is faster where the CPU has instructions for it.
        impl: `"auto"` takes Triton on CUDA and blocked torch on the CPU; a named one never falls back.

    Returns:
        `CosineMatches` when mutual, else `CosineNeighbours`, always ranked in float32.

    Raises:
        ValueError: shapes, devices, sizes or settings that do not fit, or input that is not finite.
        TypeError: a dtype that does not fit.

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
    _check_canonical("canonical_a", canonical_a, a)
    _check_canonical("canonical_b", canonical_b, b)
    kept_a = _foreground_rows("foreground_a", foreground_a, a)
    kept_b = _foreground_rows("foreground_b", foreground_b, b)
    if kept_a is not None:
        a, canonical_a = a[kept_a], None if canonical_a is None else canonical_a[kept_a]
    if kept_b is not None:
        b, canonical_b = b[kept_b], None if canonical_b is None else canonical_b[kept_b]
    _check_finite("a", a)
    _check_finite("b", b)
    half = _takes_half(precision, a.device)
    guide = None
    if canonical_a is not None and canonical_b is not None:
        guide = _guide(torch.cat((canonical_a, canonical_b)), distance_weight)
    elif canonical_a is not None or canonical_b is not None or distance_weight:
        raise ValueError(
            "guided matching needs canonical_a and canonical_b and a distance_weight, got only some of them"
        )
    module = load_implementation("match_cosine", impl, a.device)
    if mutual:
        if top_k != 1:
            raise ValueError(
                f"top_k must be 1 for mutual matches, got {top_k}; pass mutual=False to rank more partners"
            )
        index_a, index_b, score = module.match_mutual(a, b, guide, half)
        index_a = index_a if kept_a is None else kept_a[index_a]
        index_b = index_b if kept_b is None else kept_b[index_b]
        return CosineMatches(index_a, index_b, score)
    if kept_a is not None or kept_b is not None or precision == "half":
        raise ValueError(
            "rankings are of all rows and in float32, got a foreground or half precision; pass the foreground's rows"
        )
    smaller = min(len(a), len(b))
    if not 1 <= top_k <= smaller:
        raise ValueError(
            f"top_k must be between 1 and the smaller set's size {smaller}, got {top_k}; ask for fewer partners"
        )
    return CosineNeighbours(*module.rank_both_ways(a, b, top_k, guide))


@torch.no_grad()
def match_cosine_pairs(
    descriptors: Tensor,
    offsets: Tensor,
    pairs: Tensor,
    *,
    foreground: Tensor | None = None,
    canonical: Tensor | None = None,
    distance_weight: float = 0.0,
    precision: Precision = "auto",
    impl: Implementation = "auto",
) -> RaggedMatches:
    """Find the mutual matches of many pairs of descriptor sets that lie one after the other in one tensor.

    Each pair is matched as `match_cosine` does it; on a GPU, all of them in one launch.

    Args:
        descriptors: (S, D) descriptors of all sets, float16, bfloat16 or float32.
        offsets: (N+1,) integer; set n is the rows `offsets[n]:offsets[n + 1]`.
        pairs: (P, 2) integer set indices.
        foreground: (S,) bool, the descriptors to match, as for `match_cosine`.
        canonical: (S, 2) float32 canonical points of all descriptors, for guided matching.
        distance_weight: best is then the highest cosine less this weight times the squared canonical distance.
        precision: as for `match_cosine`.
        impl: `"auto"` takes Triton on CUDA and blocked torch on the CPU; a named one never falls back.

    Returns:
        The matches of all pairs, in the order of `pairs`, with indices that count within each set.

    Raises:
        ValueError: shapes, devices, offsets, pairs or settings that do not fit, or input that is not finite.
        TypeError: a dtype that does not fit.
    """
    _check_descriptors("descriptors", descriptors)
    offsets, pairs = _checked_layout(descriptors, offsets, pairs)
    _check_canonical("canonical", canonical, descriptors)
    kept = _foreground_rows("foreground", foreground, descriptors)
    starts = offsets
    if kept is not None:
        descriptors, canonical = descriptors[kept], None if canonical is None else canonical[kept]
        offsets = torch.searchsorted(kept, offsets.to(kept.device)).cpu()
    _check_finite("descriptors", descriptors)
    half = _takes_half(precision, descriptors.device)
    guide = None
    if canonical is not None:
        guide = _guide(canonical, distance_weight)
    elif distance_weight:
        raise ValueError("guided matching needs canonical points and a distance_weight, got only a distance_weight")
    module = load_implementation("match_cosine", impl, descriptors.device)
    ends, index_a, index_b, score = module.match_pairs(descriptors, offsets, pairs, guide, half)
    if kept is not None:
        starts, offsets, pairs = (layout.to(kept.device) for layout in (starts, offsets, pairs))
        set_a, set_b = pairs.repeat_interleave(ends.diff(), 0).unbind(1)
        index_a = kept[offsets[set_a] + index_a] - starts[set_a]
        index_b = kept[offsets[set_b] + index_b] - starts[set_b]
    return RaggedMatches(ends, index_a, index_b, score)


def _takes_half(precision: str, device: torch.device) -> bool:
    if precision not in ("auto", "half", "float32"):
        raise ValueError(f"precision must be auto, half or float32, got {precision!r}; auto chooses by device")
    return precision == "half" or (precision == "auto" and device.type == "cuda")


def _guide(points: Tensor, weight: float) -> Guide | None:
    if not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"distance_weight must be 0 or more and finite, got {weight}; 0 turns the guide off")
    guide = Guide(points, weight)
    if len(points) and not guide.extent() <= STRONGEST:
        raise ValueError(
            f"distance_weight {weight} takes up to {guide.extent():.3g} from a cosine, more than {STRONGEST}, "
            "which rounding would drown; lower it or bring the points to [-1, 1]"
        )
    return guide if weight > 0 else None


def _foreground_rows(name: str, foreground: Tensor | None, descriptors: Tensor) -> Tensor | None:
    """Return which rows of the descriptors are foreground, `None` where no foreground is given."""
    if foreground is None:
        return None
    if foreground.shape != (len(descriptors),):
        raise ValueError(
            f"{name} must be ({len(descriptors)},), got shape {tuple(foreground.shape)}; one flag a descriptor"
        )
    if foreground.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, got {foreground.dtype}; threshold the mask first")
    if foreground.device != descriptors.device:
        raise ValueError(
            f"{name} must be on {descriptors.device} with its descriptors, got {foreground.device}; use .to()"
        )
    return foreground.nonzero().squeeze(1)


def _check_canonical(name: str, points: Tensor | None, descriptors: Tensor) -> None:
    if points is None:
        return
    if points.shape != (len(descriptors), 2):
        raise ValueError(
            f"{name} must be ({len(descriptors)}, 2), got shape {tuple(points.shape)}; one point a descriptor"
        )
    if points.dtype != torch.float32:
        raise TypeError(f"{name} must be float32, got {points.dtype}; convert it with .float()")
    if points.device != descriptors.device:
        raise ValueError(f"{name} must be on {descriptors.device} with its descriptors, got {points.device}; use .to()")
    if not points.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinite points; drop those descriptors first")


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
    # Some rows at a time: torch converts what it takes the norm of, which is twice the size of half-precision rows.
    chunks = torch.split(descriptors, _CHECKED_AT_ONCE)
    norms = [torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32) for rows in chunks]
    if not torch.isfinite(torch.cat(norms)).all():
        raise ValueError(
            f"{name} holds a descriptor that is not finite (NaN, infinite or overflowing); remove it before matching"
        )


def _checked_layout(descriptors: Tensor, offsets: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return offsets and pairs in int64 on the host, where launches are planned."""
    for name, tensor in (("offsets", offsets), ("pairs", pairs)):
        if tensor.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{name} must be int32 or int64, got {tensor.dtype}; convert it with .long()")
    offsets, pairs = offsets.to("cpu", torch.int64), pairs.to("cpu", torch.int64)
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
    return offsets, pairs
