"""Pairs of photos matched, all or those of new photos: mirrored too where asked, found again where shards matched."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from asic_features.cache import DescriptionCache
from asic_features.config import FeatureConfig
from asic_features.consistency import count_support, select, suppress
from asic_features.knn import match_photos
from asic_features.mirror import better_of, unmirror
from asic_features.pairs import choose_pairs, summarise
from asic_flow.collection import TokenGrid
from asic_flow.matches import OF_MATCHES, MatchSet

Pair = tuple[int, int]


@dataclass(frozen=True)
class Tokens:
    """What the photos of a collection are matched by.

    Attributes:
        descriptors: (N, T, D) float16.
        mirrored: (M, T, D) float16 of the last M photos mirrored, by their own tokens: of those that are second in a
            pair, all of a collection or the new ones; None without the mirror test.
        saliency: (N, T) float32.
        foreground: (N, T) bool.
        grid: Where the tokens are.
    """

    descriptors: torch.Tensor
    mirrored: torch.Tensor | None
    saliency: torch.Tensor
    foreground: torch.Tensor
    grid: TokenGrid


def match_collection(tokens: Tokens, config: FeatureConfig, cache: Path | None = None) -> MatchSet:
    """The matches of all chosen pairs, with their support, as far as ``config`` keeps them.

    Args:
        tokens: Of all photos.
        config: Which pairs, candidates and matches.
        cache: A folder in which ``match_share`` may have kept the matches of some pairs, or None.
    """
    by_first = _choose(tokens, config)
    kept: dict[int, MatchSet] = {}
    if cache is not None:
        matched = _MatchedPairs(tokens, config, cache)
        kept = {first: found for first, pairs in by_first.items() if (found := matched.load(pairs)) is not None}
    made = _match(tokens, config, [pair for first, pairs in by_first.items() if first not in kept for pair in pairs])
    matches = made
    if kept:
        pieces = iter(_split(made, [pairs for first, pairs in by_first.items() if first not in kept]))
        matches = MatchSet.concatenate([kept[first] if first in kept else next(pieces) for first in by_first])
    matches = count_support(matches, tokens.grid, config.size)
    return _keep(matches, config, matches.confidence())


def match_added(tokens: Tokens, config: FeatureConfig, matches: MatchSet, count: int) -> MatchSet:
    """A collection's matches, and those of every new photo with all photos before it, as far as ``config`` keeps them.

    Args:
        tokens: Of all photos, the new ones last.
        config: Which candidates and matches.
        matches: Of the collection, all of which stay.
        count: How many photos are new.
    """
    total = len(tokens.descriptors)
    made = _match(tokens, config, [(other, new) for new in range(total - count, total) for other in range(new)])
    joined = count_support(MatchSet.concatenate([matches, made]), tokens.grid, config.size)
    known, more = joined.of_pairs(0, len(matches.pairs)), joined.of_pairs(len(matches.pairs), len(joined.pairs))
    return MatchSet.concatenate([known, _keep(more, config, joined.confidence()[len(known) :])])


def match_share(tokens: Tokens, config: FeatureConfig, cache: Path, index: int, count: int) -> int:
    """Match some of the pairs, so that ``match_collection`` finds them: those whose first photo is in the share.

    Args:
        tokens: Of all photos.
        config: As for all pairs.
        cache: The folder that all shares fill.
        index: Every ``count``-th photo from this one on, counted from 0, is in the share.
        count: How many shares there are.

    Returns:
        How many pairs are in the share.
    """
    matched = _MatchedPairs(tokens, config, cache)
    mine = [pairs for first, pairs in _choose(tokens, config).items() if first % count == index]
    missing = [pairs for pairs in mine if matched.load(pairs) is None]
    made = _match(tokens, config, [pair for pairs in missing for pair in pairs])
    for pairs, piece in zip(missing, _split(made, missing), strict=True):
        matched.save(pairs, piece)
    return sum(map(len, mine))


class _MatchedPairs:
    """The matches of one photo with those after it, kept under the name of all that decides them."""

    def __init__(self, tokens: Tokens, config: FeatureConfig, folder: Path) -> None:
        settings = {
            "matches": [config.candidates, config.top_k],
            "grid": [tokens.grid.stride, tokens.grid.first, config.size],
            "torch": torch.__version__,
            "versions": [version("asic-features"), version("asic-flow")],
        }
        self._cache = DescriptionCache(folder, settings)
        every = (tokens.descriptors, tokens.saliency, tokens.foreground, tokens.mirrored)
        given = [tensor for tensor in every if tensor is not None]
        self._photos = [self._cache.key("tokens", *of_one) for of_one in zip(*given, strict=True)]

    def _key(self, pairs: list[Pair]) -> str:
        return self._cache.key([self._photos[pairs[0][0]], *(self._photos[second] for _, second in pairs)])

    def load(self, pairs: list[Pair]) -> MatchSet | None:
        found = self._cache.load(self._key(pairs))
        if found is None:
            return None
        return MatchSet(np.array(pairs, np.int32), **{name: tensor.numpy() for name, tensor in found.items()})

    def save(self, pairs: list[Pair], matches: MatchSet) -> None:
        fields = {name: torch.from_numpy(getattr(matches, name)) for name in ("offsets", *OF_MATCHES)}
        self._cache.save(self._key(pairs), fields)


def _choose(tokens: Tokens, config: FeatureConfig) -> dict[int, list[Pair]]:
    """The pairs to match by their first photo; both in order."""
    pairs = choose_pairs(summarise(tokens.descriptors, tokens.foreground), neighbours=config.neighbours)
    return {first: list(found) for first, found in groupby(pairs, key=lambda pair: pair[0])}


def _split(matches: MatchSet, groups: list[list[Pair]]) -> list[MatchSet]:
    """The matches of consecutive groups of pairs."""
    ends = np.cumsum([0, *map(len, groups)]).tolist()
    return [matches.of_pairs(*between) for between in pairwise(ends)]


def _keep(matches: MatchSet, config: FeatureConfig, confidence: npt.NDArray[np.float32]) -> MatchSet:
    kept = matches.support >= config.least_support
    matches = select(matches, kept)
    if not config.suppress_px:
        return matches
    return suppress(matches, radius_px=config.suppress_px, confidence=confidence[kept])


def _match(tokens: Tokens, config: FeatureConfig, pairs: list[Pair]) -> MatchSet:
    descriptors, saliency, foreground = (
        tensor.to(config.device) for tensor in (tokens.descriptors, tokens.saliency, tokens.foreground)
    )
    matches = match_photos(
        descriptors, saliency, foreground, tokens.grid, pairs, candidates=config.candidates, top_k=config.top_k
    )
    if tokens.mirrored is None:
        return matches
    turned, found = unmirror(tokens.mirrored, tokens.grid, config.size)
    count = len(turned)  # of the last photos, which come once more behind themselves
    other = match_photos(
        torch.cat([descriptors, turned.to(config.device)]),
        torch.cat([saliency, saliency[-count:]]),
        torch.cat([foreground, foreground[-count:] & found.to(config.device)]),
        tokens.grid,
        [(a, b + count) for a, b in pairs],
        candidates=config.candidates,
        top_k=config.top_k,
    )
    return better_of(matches, other)
