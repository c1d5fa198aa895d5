"""Best partners of tokens in other photos, under the guide of canonical maps, and the descriptors they share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from asic_flow.coarse import NormalisedMatches
from asic_flow.cores import all_cores
from asic_flow.kernels.match_cosine.operands import Guide
from asic_flow.tokens import ForegroundTokens

# Descriptors gathered at once stay in the cache.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Partners:
    """For every token its best partner in every photo it is paired with, as rows of the flat tokens.

    `mutual` tells the rows whose partner's best partner is the row itself, each such pair once.
    """

    row: Tensor
    partner: Tensor
    mutual: Tensor


def find_partners(
    descriptors: Tensor, canonical: Tensor, tokens: ForegroundTokens, pairs: Tensor, guide: float
) -> Partners:
    """The partner of highest cosine similarity less `guide` times the squared canonical distance."""
    guided = Guide(canonical, guide)
    biases = guided.as_rows(), guided.as_columns()
    nothing = torch.zeros(0, dtype=torch.int64)
    offsets = tokens.offsets.tolist()

    @cache
    def operand(image: int, side: int) -> Tensor:
        mine = slice(offsets[image], offsets[image + 1])
        return torch.cat((descriptors[mine], biases[side][mine]), 1)

    def compare(pair: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        a, b = (slice(offsets[image], offsets[image + 1]) for image in pair)
        if a.start == a.stop or b.start == b.stop:
            return nothing, nothing, nothing.bool()
        score = operand(pair[0], 0) @ operand(pair[1], 1).T
        best_b, best_a = score.max(1).indices, score.max(0).indices  # faster than argmax
        row_a, row_b = torch.arange(a.start, a.stop), torch.arange(b.start, b.stop)
        mutual = torch.cat((best_a[best_b] + a.start == row_a, torch.zeros(len(row_b), dtype=torch.bool)))
        return torch.cat((row_a, row_b)), torch.cat((best_b + b.start, best_a + a.start)), mutual

    with all_cores() as cores:
        compared = [(nothing, nothing, nothing.bool()), *cores.map(compare, pairs.tolist())]
    return Partners(*(torch.cat(parts) for parts in zip(*compared, strict=True)))


def mutual_matches(descriptors: Tensor, found: Partners, power: float) -> tuple[Tensor, Tensor]:
    """The mutual partners, (M, 2) rows of tokens, and (M,) weights: their similarity, 0 or more, raised to `power`."""
    ends = torch.stack((found.row[found.mutual], found.partner[found.mutual]), 1)
    first, second = ends.unbind(1)
    return ends, (descriptors[first] * descriptors[second]).sum(1).clamp_min(0) ** power


def as_normalised(tokens: ForegroundTokens, ends: Tensor, weight: Tensor) -> NormalisedMatches:
    """Matches between tokens, (M, 2) rows, as matches between points."""
    first, second = ends.unbind(1)
    image, points = tokens.image, tokens.points_norm
    return NormalisedMatches(image[first], image[second], points[first], points[second], weight)


def consensus(descriptors: Tensor, found: Partners, power: float) -> Tensor:
    """Each token's descriptor joined by those of its partners in other photos, unit length.

    Averaging over photos cancels what one photo's light and background put into a descriptor, as query expansion does
    in retrieval (Chum et al., "Total recall", 2007); here the canonical maps verify the partners.
    """
    joined = descriptors.clone()
    for row, partner in zip(torch.split(found.row, _AT_ONCE), torch.split(found.partner, _AT_ONCE), strict=True):
        theirs = descriptors[partner]
        weight = (descriptors[row] * theirs).sum(1, keepdim=True).clamp_min(0) ** power
        joined.index_add_(0, row, weight * theirs)
    return torch.nn.functional.normalize(joined, dim=1)
