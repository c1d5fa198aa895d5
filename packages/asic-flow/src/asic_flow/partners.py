"""Best partners of tokens in other photos, under the guide of canonical maps, and the descriptors they share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.tokens import ForegroundTokens


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
    nothing = torch.zeros(0, dtype=torch.int64)
    rows, partners, mutual = [nothing], [nothing], [nothing.bool()]
    for first, second in pairs.tolist():
        a, b = (torch.arange(*tokens.offsets[image : image + 2].tolist()) for image in (first, second))
        if not len(a) or not len(b):
            continue
        score = descriptors[a] @ descriptors[b].T
        score -= guide * torch.cdist(canonical[a], canonical[b]).square()
        best_b, best_a = score.argmax(1), score.argmax(0)
        rows += [a, b]
        partners += [b[best_b], a[best_a]]
        mutual += [best_a[best_b] == torch.arange(len(a)), torch.zeros(len(b), dtype=torch.bool)]
    return Partners(torch.cat(rows), torch.cat(partners), torch.cat(mutual))


def consensus(descriptors: Tensor, found: Partners, power: float) -> Tensor:
    """Each token's descriptor joined by those of its partners in other photos, unit length.

    Averaging over photos cancels what one photo's light and background put into a descriptor, as query expansion does
    in retrieval (Chum et al., "Total recall", 2007); here the canonical maps verify the partners.
    """
    theirs = descriptors[found.partner]
    weight = (descriptors[found.row] * theirs).sum(1, keepdim=True).clamp_min(0) ** power
    return torch.nn.functional.normalize(descriptors.index_add(0, found.row, weight * theirs), dim=1)
