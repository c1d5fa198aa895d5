from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from asic_flow.collection import TokenGrid
from asic_flow.config import AlignmentConfig
from asic_flow.consensus import ConsensusTokens, agree, all_of_all, half_of_all, standing
from asic_flow.sides import carried_symmetry

CONFIG = AlignmentConfig()
GRID = TokenGrid(5, 5, 8.0, 3.5)


def draw(photos: int = 3, seed: int = 0, trust: float = 0.5) -> ConsensusTokens:
    """Photos of one smooth 5 x 5 pattern, a little apart in canonical space; what is mirrored points the other way."""
    generator = torch.Generator().manual_seed(seed)
    own = (torch.from_numpy(GRID.centres_px()) - 19.5) / 80
    frequency, phase = 8 * torch.randn(2, 16, generator=generator), 2 * math.pi * torch.rand(16, generator=generator)
    pattern = torch.nn.functional.normalize(torch.cos(own @ frequency + phase), dim=1)
    places = torch.stack((own, -own), 1).repeat(photos, 1, 1)
    places += 0.003 * torch.randn(places.shape, generator=generator)
    noise = 0.05 * torch.randn(photos * 25, 16, generator=generator)
    return ConsensusTokens(
        GRID,
        torch.arange(photos).repeat_interleave(25),
        torch.arange(25).repeat(photos),
        torch.nn.functional.normalize(pattern.repeat(photos, 1) + noise, dim=1),
        places,
        torch.tensor([[1.0, trust]]).repeat(photos, 1),
    )


def literal_answer(tokens: ConsensusTokens, row: int, target: int, by_looks: bool) -> tuple[float, float]:
    """The answer for a token's centre, number by number from the equations of the module."""

    def before_hubs(p: int, q: int) -> float:
        photo_p, photo_q = int(tokens.image[p]), int(tokens.image[q])
        weights = [float(tokens.trust[photo_p, flag] * tokens.trust[photo_q, flag]) for flag in (0, 1)]
        score = float(tokens.descriptors[p] @ tokens.descriptors[q]) if by_looks else 0.0
        for flag in (0, 1):
            squared = sum(float(tokens.places[p, flag, axis] - tokens.places[q, flag, axis]) ** 2 for axis in (0, 1))
            penalty = CONFIG.combine_scale * math.log(1 + squared / CONFIG.combine_scale)
            score -= CONFIG.combine * weights[flag] / sum(weights) * penalty
        return score

    mine = torch.nonzero(tokens.image == tokens.image[row])[:, 0].tolist()
    theirs = torch.nonzero(tokens.image == target)[:, 0].tolist()
    scores = {}
    for q in theirs:
        hub = 0.05 * math.log(sum(math.exp(before_hubs(p, q) / 0.1) for p in mine))
        scores[q] = before_hubs(row, q) - (hub if by_looks else 0.0)
    best = max(theirs, key=lambda q: scores[q])
    centre = tokens.centres_px
    near = [q for q in theirs if (centre[q] - centre[best]).abs().max() <= GRID.stride]
    share = {q: math.exp((scores[q] - scores[best]) / 0.05) for q in near}
    x, y = (sum(share[q] * float(centre[q, axis]) for q in near) / sum(share.values()) for axis in (0, 1))
    return x, y


@pytest.mark.parametrize("by_looks", [True, False])
@pytest.mark.parametrize("holes", [False, True])
def test_answers_are_those_of_the_equations(holes: bool, by_looks: bool) -> None:
    tokens = draw()
    if holes:  # foreground of any shape
        kept = torch.nonzero((torch.arange(75) * 7) % 5 != 0)[:, 0]
        tokens = dataclasses.replace(
            tokens, **{name: getattr(tokens, name)[kept] for name in ("image", "token", "descriptors", "places")}
        )
    rows = torch.nonzero(tokens.image == 2)[:, 0]
    target = torch.zeros(len(rows), dtype=torch.int64)
    found = tokens.answer(tokens.centres_px[rows], target + 2, target, CONFIG, by_looks=by_looks)
    expected = torch.tensor([literal_answer(tokens, row, 0, by_looks) for row in rows.tolist()])
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_places_of_flags_that_are_not_trusted_do_not_count() -> None:
    tokens = draw(trust=0.01)
    places = tokens.places.clone()
    places[:, 1] = torch.rand(len(places), 2, generator=torch.Generator().manual_seed(1))
    points, one = tokens.centres_px[:25], torch.zeros(25, dtype=torch.int64)
    expected = tokens.answer(points, one, one + 1, CONFIG)
    found = dataclasses.replace(tokens, places=places).answer(points, one, one + 1, CONFIG)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_what_is_kept_of_hubs_belongs_to_the_settings_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, other = draw(), dataclasses.replace(CONFIG, combine=0.0)
    points, photos = tokens.centres_px[:25], torch.zeros(25, dtype=torch.int64)
    expected = draw().answer(points, photos, photos + 1, other)
    tokens.answer(points, photos, photos + 1, CONFIG)
    assert torch.equal(tokens.answer(points, photos, photos + 1, other), expected)
    monkeypatch.setattr("asic_flow.consensus._HUBS_KEPT", 60)
    for target in range(3):
        tokens.answer(points, photos, photos + target, CONFIG)
        assert sum(map(len, tokens._known_hubs.values())) <= 60


def test_answers_lie_between_tokens() -> None:
    tokens = draw()
    points = 8 + 23 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    photo = torch.zeros(200, dtype=torch.int64)
    found = tokens.answer(points, photo, photo + 1, CONFIG)
    nearest = 3.5 + 8 * ((points - 3.5) / 8).round()
    assert (found - points).norm(dim=1).mean() < 0.75 * (nearest - points).norm(dim=1).mean()


def test_a_photo_without_foreground_has_no_answer_and_asks_for_none() -> None:
    tokens = draw()
    kept = tokens.image != 1
    tokens = dataclasses.replace(
        tokens, **{name: getattr(tokens, name)[kept] for name in ("image", "token", "descriptors", "places")}
    )
    points, photos = torch.tensor([[15.0, 15.0]]).repeat(3, 1), torch.tensor([[0, 1, 0], [1, 0, 2]])
    found = tokens.answer(points, *photos, CONFIG)
    assert torch.isnan(found[:, 0]).tolist() == [True, True, False]


def corrected(tokens: ConsensusTokens, row: int) -> Tensor:
    pairs = torch.tensor([[a, b] for a in range(len(tokens.trust)) for b in range(a + 1, len(tokens.trust))])
    return agree(tokens, tokens.descriptors, pairs, CONFIG)[1][row]


def test_photos_put_a_token_right_that_one_map_misplaced() -> None:
    tokens = draw(6)
    places = tokens.places.clone()
    places[12] += 0.3
    away = corrected(dataclasses.replace(tokens, places=places), 12) - tokens.places[12]
    assert away.norm(dim=1).max() < 0.1


def test_a_few_photos_that_err_do_not_move_it() -> None:
    tokens = draw(8)
    places = tokens.places.clone()
    places[[37, 62]] += 5.0  # the same token of photos 1 and 2
    away = corrected(dataclasses.replace(tokens, places=places), 12) - tokens.places[12]
    assert away.norm(dim=1).max() < 0.05


def test_a_vote_does_not_go_to_a_hub() -> None:
    score = torch.tensor([[0.9, 0.8], [0.9, 0.1]])  # the first of the target's tokens is near to everything
    assert (score - half_of_all(score)).argmax(1).tolist() == [0, 0]
    assert (score - all_of_all(score)[1]).argmax(1).tolist() == [1, 0]


def test_hubs_of_both_ways_are_log_sums() -> None:
    score = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    rows, columns = all_of_all(score)
    torch.testing.assert_close(rows, 0.05 * torch.logsumexp(score / 0.05, 1))
    torch.testing.assert_close(columns, 0.05 * torch.logsumexp(score / 0.05, 0))
    score[3] = -100.0  # nothing like it
    assert all(hubs.isfinite().all() for hubs in all_of_all(score))


def test_photos_vote_by_all_of_a_hub_and_answer_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, pairs = draw(6), torch.combinations(torch.arange(6))
    voted = agree(tokens, tokens.descriptors, pairs, CONFIG)[1]
    monkeypatch.setattr("asic_flow.consensus.all_of_all", lambda score: (half_of_all(score.T), half_of_all(score)))
    assert not torch.equal(agree(tokens, tokens.descriptors, pairs, CONFIG)[1], voted)
    asked, source, target = tokens.centres_px[:25], torch.zeros(25).long(), torch.ones(25).long()
    half = tokens.answer(asked, source, target, CONFIG)
    monkeypatch.setattr("asic_flow.consensus.half_of_all", lambda score: all_of_all(score)[1])
    fresh = dataclasses.replace(tokens)  # without the hubs that are known
    assert not torch.equal(fresh.answer(asked, source, target, CONFIG), half)


def fronts() -> ConsensusTokens:
    """Photos 0 to 3 show one side, with no map of the other flag; 4 and 5 both sides, what they show of it twice.

    On maps that are not mirrored, the left two columns of the fronts lie where nobody else shows anything.
    """
    tokens = draw(6, trust=0.01)
    trust = tokens.trust.clone()
    trust[4:] = 1.0
    column = tokens.token % GRID.cols
    hidden = (tokens.image >= 4) & (column < 2)
    places, descriptors = tokens.places.clone(), tokens.descriptors.clone()
    places[hidden, 0] -= torch.tensor([1.0, 0.0])
    descriptors[hidden] = descriptors[torch.nonzero(hidden)[:, 0] + 4 - 2 * column[hidden]]  # as seen in a mirror
    return dataclasses.replace(tokens, places=places, descriptors=descriptors, trust=trust)


def test_what_a_photo_hides_stays_off_what_it_shows() -> None:
    tokens = fronts()
    pairs = torch.combinations(torch.arange(6))
    places = agree(tokens, tokens.descriptors, pairs, CONFIG)[1]
    column = tokens.token % GRID.cols
    apart = (places[:, 0] - tokens.places[:, 0]).norm(dim=1)
    assert apart[(tokens.image >= 4) & (column < 2)].max() < 0.05
    # Nor does what looks alike go there, in fronts or in photos from the side.
    assert apart[column > 2].max() < 0.05


def test_a_photo_is_not_asked_about_the_flag_that_it_has_no_map_of() -> None:
    tokens = draw(6, trust=0.4)
    trust = tokens.trust.clone()
    trust[:2] = torch.tensor([0.4, 1.0])  # their own maps are of the other flag
    tokens = dataclasses.replace(tokens, trust=trust)
    places = tokens.places.clone()
    places[tokens.image >= 2, 1] += 0.2  # carried there, and wrong
    pairs = torch.combinations(torch.arange(6))
    told, wrong = (
        agree(dataclasses.replace(tokens, places=field), tokens.descriptors, pairs, CONFIG)[1]
        for field in (tokens.places, places)
    )
    torch.testing.assert_close(told[:50, 1], wrong[:50, 1], atol=0.02, rtol=0)


def test_a_photo_that_everyone_supports_shows_no_second_side_for_that() -> None:
    carried = float(carried_symmetry(torch.ones(1)))
    assert draw(trust=carried + 0.01).two_sided.all()
    assert not draw(trust=carried).two_sided.any()


def test_a_place_stands_as_far_as_photos_from_one_side_confirm_it() -> None:
    tokens = fronts()
    stands = standing(tokens, CONFIG)
    column = tokens.token % GRID.cols
    front = tokens.image >= 4
    assert (stands[~front] == torch.tensor([1.0, 0.0])).all()
    assert stands[front & (column < 2), 0].max() < 0.1
    assert stands[front & (column > 2), 0].min() > 0.5
    assert (stands[front, 1] == 1).all()  # nobody is there to confirm


def test_a_second_vote_brings_places_nearer_to_each_other() -> None:
    tokens = draw(6)
    places = tokens.places + 0.04 * torch.randn(tokens.places.shape, generator=torch.Generator().manual_seed(1))
    tokens = dataclasses.replace(tokens, places=places)
    pairs = torch.combinations(torch.arange(6))

    def apart(votes: int) -> Tensor:
        voted = agree(tokens, tokens.descriptors, pairs, dataclasses.replace(CONFIG, votes=votes))[1]
        return voted.reshape(6, 25, 2, 2).std(0).mean()

    assert apart(2) < 0.6 * apart(1)


def test_descriptors_of_a_pattern_grow_more_alike() -> None:
    tokens = draw(6)
    pairs = torch.tensor([[a, b] for a in range(6) for b in range(a + 1, 6)])
    joined, _ = agree(tokens, tokens.descriptors, pairs, CONFIG)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(150))

    def alike(descriptors: Tensor) -> Tensor:
        return (descriptors[:25] * descriptors[25:50]).sum(1).mean()

    assert 1 - alike(joined) < 0.5 * (1 - alike(tokens.descriptors))


def test_photos_that_nothing_is_compared_with_stay_as_they_are() -> None:
    tokens = draw()
    descriptors, places = agree(tokens, tokens.descriptors, torch.zeros(0, 2, dtype=torch.int64), CONFIG)
    torch.testing.assert_close(descriptors, tokens.descriptors)
    torch.testing.assert_close(places, tokens.places)
