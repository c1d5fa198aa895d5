from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from asic_flow.alignment import Alignment
from asic_flow.coarse import NormalisedMatches
from asic_flow.config import AlignmentConfig
from asic_flow.held_out import agreeing_share, held_out_share, match_distances
from asic_flow.train import Round, fit, held_out_matches, normalised_matches

if TYPE_CHECKING:
    from conftest import DrawnCollection


def test_distances_and_shares_on_paper() -> None:
    maps = torch.zeros(2, 3, 3, 2)
    maps[1, :, 2] = torch.tensor([0.3, 0.4])
    image = torch.tensor([0, 0])
    matches = NormalisedMatches(
        image, image + 1, torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([3.0, 1.0])
    )
    assert match_distances(maps, matches).tolist() == pytest.approx([0.5, 0.0])
    assert agreeing_share(match_distances(maps, matches), matches) == pytest.approx(0.25)
    none = NormalisedMatches(*(value[:0] for value in vars(matches).values()))
    assert agreeing_share(match_distances(maps, none), none) == 0.0


def test_every_round_is_shown_with_the_maps_it_ended_with(drawn: DrawnCollection) -> None:
    rounds: list[Round] = []
    held = normalised_matches(drawn.collection, drawn.matches, held_out_matches(drawn.collection, drawn.matches))
    fitted = fit(drawn.collection, drawn.matches, AlignmentConfig(rounds=3), observe=rounds.append)
    assert [one.number for one in rounds] == [1, 2, 3]
    last = rounds[-1]
    torch.testing.assert_close(last.distances(held), match_distances(fitted.maps, held), atol=0.03, rtol=0)
    assert agreeing_share(last.distances(held), held) > 0.5
    assert last.distances(last.matches).mean() < 0.1


def test_fitted_maps_agree_with_matches_they_never_saw(drawn: DrawnCollection) -> None:
    maps = Alignment.fit(drawn.collection, drawn.matches).maps
    shuffled = maps[torch.from_numpy(np.random.default_rng(0).permutation(len(maps)))]
    share = held_out_share(drawn.collection, drawn.matches, maps)
    assert share > 0.5
    assert held_out_share(drawn.collection, drawn.matches, shuffled) < share / 2
