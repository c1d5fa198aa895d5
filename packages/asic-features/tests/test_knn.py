from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from asic_features.knn import match_photos
from asic_flow.collection import TokenGrid

GRID = TokenGrid(rows=3, cols=4, stride=8.0, first=3.5)


def literal(
    descriptors: torch.Tensor, foreground: torch.Tensor, a: int, b: int, *, everywhere: bool
) -> set[tuple[int, int]]:
    similarity = descriptors[a] @ descriptors[b].T
    if not everywhere:
        similarity = similarity.masked_fill(~(foreground[a][:, None] & foreground[b][None]), -2)
    found = set()
    for i in range(len(similarity)):
        j = int(similarity[i].argmax())
        if int(similarity[:, j].argmax()) == i and bool(foreground[a, i] & foreground[b, j]):
            found.add((i, j))
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.3, 0.7, 1.0]), everywhere=st.booleans())
def test_matches_equal_a_literal_loop(seed: int, share: float, everywhere: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    descriptors = functional.normalize(torch.randn(3, 12, 5, generator=generator), dim=-1)
    saliency = torch.rand(3, 12, generator=generator)
    foreground = torch.rand(3, 12, generator=generator) < share
    matches = match_photos(
        descriptors,
        saliency,
        foreground,
        GRID,
        [(0, 1), (0, 2), (1, 2)],
        candidates="all" if everywhere else "foreground",
    )
    centres = GRID.centres_px()
    token = {tuple(xy): index for index, xy in enumerate(centres.tolist())}
    assert matches.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    for row, (a, b) in enumerate(matches.pairs.tolist()):
        part = slice(matches.offsets[row], matches.offsets[row + 1])
        ends = [
            (token[tuple(p)], token[tuple(q)])
            for p, q in zip(matches.xy_a[part].tolist(), matches.xy_b[part].tolist(), strict=True)
        ]
        assert set(ends) == literal(descriptors, foreground, a, b, everywhere=everywhere)
        assert ends == sorted(ends)
        for (i, j), score, mean in zip(ends, matches.score[part], matches.saliency[part], strict=True):
            assert score == pytest.approx(float(descriptors[a, i] @ descriptors[b, j]), abs=1e-5)
            assert mean == pytest.approx(float(saliency[a, i] + saliency[b, j]) / 2, abs=1e-6)


def test_foreground_matches_contain_those_of_all() -> None:
    counts = np.zeros(2)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        descriptors = functional.normalize(torch.randn(2, 12, 4, generator=generator), dim=-1)
        foreground = torch.rand(2, 12, generator=generator) < 0.6
        everywhere, among_foreground = (
            match_photos(descriptors, torch.ones(2, 12), foreground, GRID, [(0, 1)], candidates=candidates)
            for candidates in ("all", "foreground")
        )
        rows = [{tuple(row) for row in np.hstack([m.xy_a, m.xy_b]).tolist()} for m in (everywhere, among_foreground)]
        assert rows[0] <= rows[1]
        counts += [len(everywhere), len(among_foreground)]
    assert counts[0] < counts[1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.3, 1.0]), top_k=st.sampled_from([2, 5, 50]))
def test_among_each_others_best_equals_a_literal_loop(seed: int, share: float, top_k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    descriptors = functional.normalize(torch.randn(3, 12, 5, generator=generator), dim=-1)
    foreground = torch.rand(3, 12, generator=generator) < share
    pairs = [(0, 1), (0, 2), (1, 2)]
    matches = match_photos(descriptors, torch.ones(3, 12), foreground, GRID, pairs, top_k=top_k)
    token = {tuple(xy): index for index, xy in enumerate(GRID.centres_px().tolist())}
    for row, (a, b) in enumerate(pairs):
        similarity = (descriptors[a] @ descriptors[b].T).masked_fill(~(foreground[a][:, None] & foreground[b]), -2)
        rank_b = similarity.argsort(dim=1, descending=True).argsort(dim=1)
        rank_a = similarity.argsort(dim=0, descending=True).argsort(dim=0)
        most = min(top_k, int(foreground[a].sum()), int(foreground[b].sum()))
        wanted = ((rank_a < most) & (rank_b < most) & (similarity > -2)).nonzero().tolist()
        part = slice(matches.offsets[row], matches.offsets[row + 1])
        first, second = ([token[tuple(xy)] for xy in ends[part].tolist()] for ends in (matches.xy_a, matches.xy_b))
        assert first == sorted(first)
        assert sorted(zip(first, second, strict=True)) == [tuple(pair) for pair in wanted]
        expected = [float(similarity[p, q]) for p, q in zip(first, second, strict=True)]
        np.testing.assert_allclose(matches.score[part], expected, atol=1e-5)


def test_no_pairs_are_no_matches() -> None:
    for top_k in (1, 2):
        everything = torch.ones(1, 12, dtype=torch.bool)
        matches = match_photos(torch.zeros(1, 12, 2), torch.zeros(1, 12), everything, GRID, [], top_k=top_k)
        assert len(matches) == 0
        assert matches.offsets.tolist() == [0]
