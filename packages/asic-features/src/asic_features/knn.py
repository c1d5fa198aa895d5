"""Mutual nearest neighbours between the photos of a collection, and tokens among each other's several nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from asic_features.config import Candidates
from asic_flow.collection import TokenGrid
from asic_flow.kernels import RaggedMatches, match_cosine, match_cosine_pairs
from asic_flow.matches import MatchSet


def match_photos(
    descriptors: torch.Tensor,
    saliency: torch.Tensor,
    foreground: torch.Tensor,
    grid: TokenGrid,
    pairs: Sequence[tuple[int, int]],
    *,
    candidates: Candidates = "foreground",
    top_k: int = 1,
) -> MatchSet:
    """Match tokens of photos that are each other's most similar, or each among the other's ``top_k`` most similar.

    Memory grows with the tokens, never with the tokens of one photo times those of another.

    Args:
        descriptors: (N, T, D) of unit length.
        saliency: (N, T) in [0, 1].
        foreground: (N, T) bool.
        grid: Where the tokens are.
        pairs: Photos to match, the lower index first.
        candidates: ``foreground`` looks for neighbours among foreground tokens alone: cheaper, and every match of
            ``all`` is among them. ``all`` looks among all tokens and keeps matches with both ends on the foreground
            (as ASIC, ICCV 2023).
        top_k: A token is in up to so many matches of a pair; no more than either photo has candidates.

    Returns:
        The matches of each pair, sorted by the token of its first photo, then the best first; their support is not
        counted yet.
    """
    count, tokens = foreground.shape
    allowed = foreground if candidates == "foreground" else torch.ones_like(foreground)
    token_of_row = allowed.nonzero()[:, 1]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64, device=allowed.device), allowed.sum(dim=1).cumsum(0)])
    pair_index = torch.tensor(pairs, dtype=torch.int64, device=allowed.device).view(-1, 2)
    rows = descriptors.reshape(count * tokens, -1)
    if not bool(allowed.all()):  # a copy of all would be as large as what it is of
        rows = rows[allowed.flatten()]
    # bfloat16 would halve the time on some CPUs, but oneDNN keeps code for every pair's shape: 0.5 GB at stride 2.
    found = match_cosine_pairs(rows, offsets, pair_index) if top_k == 1 else _rank(rows, offsets, pair_index, top_k)

    pair_of = torch.repeat_interleave(torch.arange(len(pair_index), device=allowed.device), found.offsets.diff())
    photo_a, photo_b = pair_index[pair_of].unbind(1)
    token_a = token_of_row[offsets[photo_a] + found.index_a]
    token_b = token_of_row[offsets[photo_b] + found.index_b]
    keep = foreground[photo_a, token_a] & foreground[photo_b, token_b]
    pair_of, photo_a, photo_b, token_a, token_b = (x[keep] for x in (pair_of, photo_a, photo_b, token_a, token_b))
    centres = grid.centres_px()
    per_pair = np.bincount(pair_of.cpu().numpy(), minlength=len(pair_index))
    return MatchSet(
        pairs=pair_index.cpu().numpy().astype(np.int32),
        offsets=np.concatenate([[0], per_pair.cumsum()]).astype(np.int64),
        xy_a=centres[token_a.cpu().numpy()],
        xy_b=centres[token_b.cpu().numpy()],
        score=found.score[keep].float().cpu().numpy(),
        saliency=((saliency[photo_a, token_a] + saliency[photo_b, token_b]) / 2).float().cpu().numpy(),
        support=np.zeros(len(pair_of), np.int32),
    )


def _rank(rows: torch.Tensor, offsets: torch.Tensor, pairs: torch.Tensor, top_k: int) -> RaggedMatches:
    """As ``match_cosine_pairs``, of tokens that are each among the other's ``top_k`` most similar."""
    index_a, index_b, score = [offsets.new_empty(0)], [offsets.new_empty(0)], [torch.empty(0, device=rows.device)]
    counts = [0]
    for a, b in pairs.tolist():
        of_a, of_b = rows[offsets[a] : offsets[a + 1]], rows[offsets[b] : offsets[b + 1]]
        partners = min(top_k, len(of_a), len(of_b))
        counts.append(0)
        if partners:
            ranked = match_cosine(of_a, of_b, mutual=False, top_k=partners)
            forth = torch.arange(len(of_a), device=rows.device)[:, None] * len(of_b) + ranked.index_ab
            back = ranked.index_ba * len(of_b) + torch.arange(len(of_b), device=rows.device)[:, None]
            both = torch.isin(forth, back)
            index_a.append(both.nonzero()[:, 0])
            index_b.append(ranked.index_ab[both])
            score.append(ranked.score_ab[both])
            counts[-1] = len(score[-1])
    ends = torch.tensor(counts, device=rows.device).cumsum(0)
    return RaggedMatches(ends, torch.cat(index_a), torch.cat(index_b), torch.cat(score))
