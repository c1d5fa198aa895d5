from __future__ import annotations

import pytest
import torch

from asic_features.pairs import choose_pairs, summarise


def reachable(pairs: list[tuple[int, int]]) -> set[int]:
    found, frontier = {0}, {0}
    while frontier:
        frontier = {b for a, b in pairs if a in frontier} | {a for a, b in pairs if b in frontier}
        frontier -= found
        found |= frontier
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_small_collections_are_matched_in_full(count: int) -> None:
    assert len(choose_pairs(torch.randn(count, 4))) == count * (count - 1) // 2


@pytest.mark.parametrize("count", [100, 300, 1000])
def test_pairs_grow_as_n_times_k(count: int) -> None:
    pairs = choose_pairs(torch.randn(count, 16, generator=torch.Generator().manual_seed(0)))
    assert count * 10 / 2 <= len(pairs) <= count * 10 + count
    assert all(0 <= a < b < count for a, b in pairs)
    assert pairs == sorted(set(pairs))
    assert len(reachable(pairs)) == count


def test_every_photo_has_its_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asic_features.pairs._CHUNK", 17)
    summaries = torch.nn.functional.normalize(torch.randn(100, 8), dim=-1)
    pairs = set(choose_pairs(summaries, neighbours=3))
    similarity = (summaries @ summaries.T).fill_diagonal_(-2)
    for photo, found in enumerate(similarity.topk(3).indices.tolist()):
        assert all((min(photo, other), max(photo, other)) in pairs for other in found)


def test_separate_groups_are_bridged() -> None:
    groups = torch.eye(5).repeat_interleave(20, dim=0) * 100
    pairs = choose_pairs(groups + torch.randn(100, 5), neighbours=4)
    assert len(reachable(pairs)) == 100
    assert sum(a // 20 != b // 20 for a, b in pairs) < 10


def test_summary_is_the_foreground_mean_off_the_collections() -> None:
    descriptors = torch.randn(3, 6, 4)
    foreground = torch.zeros(3, 6, dtype=torch.bool)
    foreground[0, :2] = foreground[1, 3:] = True
    means = torch.stack([descriptors[0, :2].mean(0), descriptors[1, 3:].mean(0), descriptors[2].mean(0)])
    expected = torch.nn.functional.normalize(means - means.mean(0), dim=-1)
    torch.testing.assert_close(summarise(descriptors, foreground), expected)


def test_no_neighbours() -> None:
    with pytest.raises(ValueError, match="neighbours: expected at least 1, got 0"):
        choose_pairs(torch.randn(3, 2), neighbours=0)
