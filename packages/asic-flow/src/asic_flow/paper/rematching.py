"""Matches made again under the guide of the present maps, as the rounds of `asic_flow.train` make them."""

from __future__ import annotations

from torch import Tensor

from asic_flow.coarse import NormalisedMatches
from asic_flow.collection import ImageCollection
from asic_flow.config import AlignmentConfig
from asic_flow.partners import as_normalised, consensus, find_partners, mutual_matches
from asic_flow.tokens import ForegroundTokens, at_tokens, held_out_tokens, thinning
from asic_flow.train import centred_descriptors


def rematch(collection: ImageCollection, maps: Tensor, pairs: Tensor, config: AlignmentConfig) -> NormalisedMatches:
    """Mutual best partners by consensus descriptors, canonical distance weighing against similarity.

    Args:
        collection: The photos.
        maps: (N, H, W, 2) float32 canonical xy, corners aligned, in the canonical gauge; any resolution.
        pairs: (P, 2) int64, first below second.
        config: Settings of re-matching.

    Returns:
        Matches of the tokens that may be fitted, in the order of `pairs`.
    """
    tokens = ForegroundTokens.of(
        collection, thinning(collection, config.tokens_per_image), without=held_out_tokens(collection)
    )
    raw = centred_descriptors(collection, tokens)
    canonical = at_tokens(collection, maps)[tokens.image, tokens.token]
    described = consensus(raw, find_partners(raw, canonical, tokens, pairs, config.guide), config.consensus_power)
    found = find_partners(described, canonical, tokens, pairs, config.guide)
    return as_normalised(tokens, *mutual_matches(described, found, config.agreement_power))
