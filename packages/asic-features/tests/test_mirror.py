from __future__ import annotations

import numpy as np
import pytest
import torch

from asic_features.descriptors import token_grid
from asic_features.mirror import better_of, unmirror
from asic_flow.matches import MatchSet


@pytest.mark.parametrize(("size", "patch", "stride"), [(64, 8, 4), (64, 8, 8), (67, 14, 7), (65, 8, 6), (300, 16, 8)])
def test_a_token_of_the_mirrored_photo_lies_where_it_is_in_the_photo(size: int, patch: int, stride: int) -> None:
    grid = token_grid(size, patch, stride)
    centres = torch.from_numpy(grid.centres_px())
    # Each token of the mirrored photo is described by where its centre lies in the photo.
    seen = torch.stack([size - 1 - centres[:, 0], centres[:, 1]], dim=1)
    turned, found = unmirror(seen[None], grid, size)
    apart = (turned[0] - centres).abs()
    assert apart[:, 1].max() == 0
    assert apart[found, 0].max() <= stride / 2
    assert found.float().mean() >= 1 - 1 / grid.cols
    assert len(torch.unique(turned[0, found, 0])) == found.view(grid.rows, grid.cols)[0].sum()
    if (size - patch) % stride == 0:
        assert found.all()
        assert apart.max() == 0


def match_set(scores: list[list[float]], x: float) -> MatchSet:
    flat = np.array([score for pair in scores for score in pair], dtype=np.float32)
    xy = np.stack([x + np.arange(len(flat)), np.zeros(len(flat))], axis=1).astype(np.float32)
    pairs = np.array([(0, 1 + index) for index in range(len(scores))], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, scores)], dtype=np.int64)
    return MatchSet(
        pairs, offsets, xy, xy + 1, flat, np.full(len(flat), 0.5, np.float32), np.zeros(len(flat), np.int32)
    )


def test_each_pair_takes_the_better_hypothesis() -> None:
    plain = match_set([[0.9, 0.1], [0.5], [], [0.4]], 0)
    mirrored = match_set([[0.8], [0.3, 0.3], [0.2], [0.4]], 100)
    best = better_of(plain, mirrored)
    assert best.offsets.tolist() == [0, 2, 4, 5, 6]
    np.testing.assert_allclose(best.score, [0.9, 0.1, 0.3, 0.3, 0.2, 0.4])
    assert best.xy_a[:, 0].tolist() == [0, 1, 101, 102, 103, 3]
    np.testing.assert_array_equal(best.xy_b, best.xy_a + 1)
    np.testing.assert_array_equal(best.pairs, plain.pairs)
