from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np

from asic_features.consistency import count_support, cycle_support, select, suppress
from asic_flow.collection import TokenGrid
from asic_flow.matches import MatchSet

GRID = TokenGrid(rows=4, cols=4, stride=10.0, first=5.0)


def match_set(pairs: dict[tuple[int, int], list[tuple[int, int]]]) -> MatchSet:
    """Matches between token numbers, for each pair of photos."""
    centres = GRID.centres_px()
    ends = np.array([end for found in pairs.values() for end in found], dtype=int).reshape(-1, 2)
    return MatchSet(
        pairs=np.array(list(pairs), dtype=np.int32),
        offsets=np.cumsum([0, *map(len, pairs.values())], dtype=np.int64),
        xy_a=centres[ends[:, 0]],
        xy_b=centres[ends[:, 1]],
        score=np.linspace(1, 0, len(ends), dtype=np.float32),
        saliency=np.linspace(0, 1, len(ends), dtype=np.float32),
        support=np.zeros(len(ends), dtype=np.int32),
    )


def test_support_by_hand() -> None:
    matches = match_set(
        {
            (0, 1): [(0, 0), (5, 9), (10, 3)],
            (0, 2): [(0, 7), (5, 6)],
            (1, 2): [(0, 7), (10, 6)],
            (0, 3): [(0, 1)],
            (1, 3): [(0, 1)],
        }
    )
    exact = cycle_support(matches, GRID, tolerance_px=1)
    # (0, 1): token 0 agrees through photos 2 and 3; 5 -> 6 -> 10 ends one token beside 9; 10 has no match in photo 2.
    assert exact[:3].tolist() == [2, 0, 0]
    assert cycle_support(matches, GRID, tolerance_px=10)[:3].tolist() == [2, 1, 0]


def test_support_agrees_with_asking_every_third_photo_in_turn() -> None:
    generator = np.random.default_rng(0)
    found = {}
    for a, b in itertools.combinations(range(6), 2):
        count = int(generator.integers(0, 16))
        ends = [generator.choice(16, count, replace=False).tolist() for _ in range(2)]
        found[a, b] = sorted(zip(*ends, strict=True))
    del found[1, 4]
    matches = match_set(found)
    leads = {pair: dict(ends) for pair, ends in found.items()}
    leads |= {(b, a): {q: p for p, q in ends} for (a, b), ends in found.items()}
    centres, expected = GRID.centres_px(), []
    for (a, b), ends in found.items():
        for p, q in ends:
            thirds = [leads[c, b].get(leads[a, c].get(p)) for c in range(6) if (a, c) in leads and (c, b) in leads]
            expected.append(sum(end is not None and np.linalg.norm(centres[end] - centres[q]) <= 10 for end in thirds))
    assert max(expected) > 1
    assert cycle_support(matches, GRID, tolerance_px=10).tolist() == expected
    before = replace(matches, support=np.full(len(matches), 2, np.int32))
    assert count_support(before, GRID, 200).support.tolist() == np.maximum(expected, 2).tolist()


def test_of_several_matches_the_best_leads_on() -> None:
    # Token 0 of photo 0 has two matches in photo 2; scores fall from the first to the last.
    best_first = match_set({(0, 1): [(0, 0)], (0, 2): [(0, 5), (0, 9)], (1, 2): [(0, 5)]})
    assert cycle_support(best_first, GRID, tolerance_px=1).tolist() == [1, 1, 0, 1]
    best_last = match_set({(0, 1): [(0, 0)], (0, 2): [(0, 9), (0, 5)], (1, 2): [(0, 5)]})
    assert cycle_support(best_last, GRID, tolerance_px=1)[0] == 0


def test_two_photos_confirm_nothing() -> None:
    assert cycle_support(match_set({(0, 1): [(0, 0)]}), GRID, tolerance_px=99).tolist() == [0]


def test_suppression_by_hand() -> None:
    # Tokens 0 and 1 are neighbours; the other ends lie further apart than 10 pixels.
    matches = match_set({(0, 1): [(0, 0), (1, 15), (15, 4), (10, 10)], (0, 2): [(0, 0)]})
    matches = replace(matches, score=np.array([0.5, 0.9, 0.1, 0.3, 0.2], np.float32))
    kept = suppress(matches, radius_px=10)
    assert kept.offsets.tolist() == [0, 3, 4]
    np.testing.assert_array_equal(kept.score, matches.score[[1, 2, 3, 4]])
    assert len(suppress(matches, radius_px=0)) == 5


def test_equal_confidence_keeps_the_first() -> None:
    matches = match_set({(0, 1): [(0, 0), (1, 1)]})
    kept = suppress(replace(matches, score=np.ones(2, np.float32)), radius_px=10)
    np.testing.assert_array_equal(kept.xy_a, GRID.centres_px()[:1])


def test_suppression_takes_memory_in_proportion_to_the_matches() -> None:
    count = 2000
    xy = np.stack([np.arange(count), np.zeros(count)], axis=1).astype(np.float32)
    one_pair = match_set({(0, 1): [(0, 0)] * count})
    tracemalloc.start()
    kept = suppress(replace(one_pair, xy_a=xy, xy_b=xy), radius_px=9.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(kept.xy_a, xy[::10])
    assert peak < 200 * count


def test_selection_keeps_every_pair() -> None:
    matches = match_set({(0, 1): [(0, 0), (1, 1)], (0, 2): [(2, 2)]})
    left = select(matches, np.array([False, False, True]))
    assert left.offsets.tolist() == [0, 0, 1]
    assert left.pairs.tolist() == [[0, 1], [0, 2]]
    np.testing.assert_array_equal(left.saliency, matches.saliency[2:])
