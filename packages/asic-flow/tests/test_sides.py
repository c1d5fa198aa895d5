from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from asic_flow import train
from asic_flow.alignment import Alignment, RunError
from asic_flow.collection import ImageCollection, Photo, TokenGrid, take_photos
from asic_flow.config import AlignmentConfig
from asic_flow.matches import MatchSet
from asic_flow.sides import SecondMaps, fit_second_maps

SIZE, STRIDE = 96, 4
MIDDLE = (SIZE - 1) / 2
# Points of drawn walkers: on either leg, and on the body.
LEGS = np.array([[x, y] for x in (-24, -18, -12, -6, 6, 12, 18, 24) for y in (12, 18)], float) + MIDDLE
BODY = np.array([[x, y] for x in range(-18, 19, 6) for y in (-18, -12, -6)], float) + MIDDLE
MIRRORED_BODY = BODY * [-1, 1] + [SIZE - 1, 0]


Pattern = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""From a photo's number and the x and y of its tokens, -1 to 1, to the (T, 2) places of a random pattern they show."""


def draw(shown: Pattern, count: int, seed: int = 0) -> ImageCollection:
    """Discs whose tokens show a random smooth pattern, with a third of noise."""
    rng = np.random.default_rng(seed)
    grid = TokenGrid(SIZE // STRIDE, SIZE // STRIDE, float(STRIDE), (STRIDE - 1) / 2)
    place = (grid.centres_px() - (SIZE - 1) / 2) / 36
    inside = np.linalg.norm(place, axis=1) <= 1
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mask = np.hypot(columns - (SIZE - 1) / 2, rows - (SIZE - 1) / 2) <= 36
    frequency, phase = rng.normal(0, 2.5, (2, 32)), rng.uniform(0, 2 * np.pi, 32)
    descriptors = []
    for index in range(count):
        described = np.cos(shown(index, *place.T) @ frequency + phase) + 0.3 * rng.normal(size=(len(place), 32))
        described[~inside] = rng.normal(size=(int((~inside).sum()), 32))
        descriptors.append(described / np.linalg.norm(described, axis=1, keepdims=True))
    return ImageCollection(
        photos=tuple(Photo(f"{i}.png", "0" * 64, (SIZE, SIZE), (1.0, 1.0), (0.0, 0.0), None) for i in range(count)),
        images=torch.zeros(count, SIZE, SIZE, 3, dtype=torch.uint8),
        masks=torch.from_numpy(np.repeat(mask[None].astype(np.uint8) * 255, count, 0)),
        descriptors=torch.from_numpy(np.stack(descriptors)).half(),
        saliency=torch.zeros(count, len(place)),
        grid=grid,
        settings={},
    )


@pytest.fixture(scope="module")
def heads(match_all: Callable[[ImageCollection], MatchSet]) -> tuple[ImageCollection, MatchSet]:
    """Heads: photos 0 to 2 seen from one side, 3 to 5 from the other, 6 and 7 from the front, showing both."""

    def shown(index: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x = x * (-1 if 3 <= index < 6 else 1)
        return np.stack((x if index < 6 else 1.4 * np.abs(x) - 0.7, y), 1)

    collection = draw(shown, 8)
    return collection, match_all(collection)


def draw_walkers(seed: int) -> ImageCollection:
    """Bodies on two legs that look alike: 0 to 2 from one side, 3 to 5 from the other, the other six from the front.

    Above, a side shows the body, a front twice half of it; below, all show the legs, one left and one right.
    """

    def shown(index: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        body = x * (-1 if 3 <= index < 6 else 1) if index < 6 else 1.4 * np.abs(x) - 0.7
        return np.stack((np.where(y > 0.1, 3 + 2.5 * np.abs(x), body), y), 1)

    return draw(shown, 12, seed)


@pytest.fixture(scope="module")
def walkers(match_all: Callable[[ImageCollection], MatchSet]) -> tuple[ImageCollection, MatchSet]:
    collection = draw_walkers(0)
    return collection, match_all(collection)


@pytest.fixture(scope="module")
def aligned(heads: tuple[ImageCollection, MatchSet]) -> Alignment:
    return Alignment.fit(*heads)


def test_photos_that_show_both_sides_are_fitted_both_ways(aligned: Alignment) -> None:
    assert len(set(aligned.mirrored[:3].tolist())) == 1
    assert len(set(aligned.mirrored[:6].tolist())) == 2
    second = aligned.second
    assert second.photo[second.symmetry > 0.8].tolist() == [6, 7]
    maps = second.maps[second.photo >= 6]
    sides = torch.stack([maps[:, 48, 58] - maps[:, 48, 38], maps[:, 58, 48] - maps[:, 38, 48]], -1)
    assert ((torch.linalg.det(sides) < 0) == ~aligned.mirrored[6:]).all()


def test_between_opposite_sides_points_of_legs_travel_over_bridges(walkers: tuple[ImageCollection, MatchSet]) -> None:
    aligned = Alignment.fit(*walkers)
    assert set(aligned.second.photo[aligned.second.symmetry > 0.8].tolist()) >= {6, 7, 8}
    assert set(range(6)) <= set(aligned.second.photo.tolist())
    assert aligned.mirrored[0] != aligned.mirrored[3]
    left, right, body = np.array([[38.0, 68.0]]), np.array([[57.0, 68.0]]), np.array([[35.0, 30.0]])
    for source, target in ((0, 3), (4, 1)):
        for leg in (left, right):
            # What is left in a photo from the one side is left in one from the other, mirrored though its body is.
            assert np.abs(aligned.transfer(leg, source, target).points_image - leg).max() < 6
        mirrored = np.array([[SIZE - 1, 0.0]]) + body * [-1, 1]
        assert np.abs(aligned.transfer(body, source, target).points_image - mirrored).max() < 6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_left_stays_left_and_bodies_stay_mirrored_however_they_are_drawn(
    seed: int, match_all: Callable[[ImageCollection], MatchSet]
) -> None:
    collection = draw_walkers(seed)
    aligned = Alignment.fit(collection, match_all(collection))
    front = np.array([[x, y] for x in (8, 14, 20) for y in (-18, -12, -6)], float)
    on_side = np.stack((1.4 * front[:, 0] - 0.7 * 36, front[:, 1]), 1) + MIDDLE

    def reached(points: np.ndarray, expected: np.ndarray, sources: range, targets: range) -> float:
        found = [aligned.transfer(points, source, target).points_image for source in sources for target in targets]
        return float(np.mean([np.linalg.norm(there - expected, axis=1) < 6 for there in found]))

    one, other, fronts = range(3), range(3, 6), range(6, 12)
    assert min(reached(LEGS, LEGS, *ways) for ways in ((one, other), (other, one))) > 0.97
    assert min(reached(BODY, MIRRORED_BODY, *ways) for ways in ((one, other), (other, one))) > 0.9
    assert reached(front + MIDDLE, on_side, fronts, one) > 0.9
    assert reached(on_side, front + MIDDLE, one, fronts) > 0.8


def test_an_added_photo_reaches_the_other_side(match_all: Callable[[ImageCollection], MatchSet]) -> None:
    collection = draw_walkers(1)
    order = [0, 1, 2, 3, 4, *range(6, 12), 5]
    collection = dataclasses.replace(
        collection,
        photos=tuple(collection.photos[index] for index in order),
        **{field: getattr(collection, field)[order] for field in ("images", "masks", "descriptors", "saliency")},
    )
    known = take_photos(collection, slice(0, 11))
    aligned = Alignment.fit(known, match_all(known)).add_images(known, take_photos(collection, slice(11, 12)))
    for points, expected, share in ((LEGS, LEGS, 0.97), (BODY, MIRRORED_BODY, 0.75)):
        there = [aligned.transfer(points, 11, target).points_image - expected for target in range(3)]
        back = [aligned.transfer(expected, source, 11).points_image - points for source in range(3)]
        assert (np.linalg.norm(there, axis=2) < 6).mean() > share
        assert (np.linalg.norm(back, axis=2) < 6).mean() > share


def test_all_matches_and_those_that_are_confirmed_have_to_say_that_a_photo_shows_both_sides(
    heads: tuple[ImageCollection, MatchSet], aligned: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of photo 6's matches with photos of one side only those are confirmed that agree with its own map.
    collection, matches = heads
    photo = matches.pairs[matches.pair_of_match()]
    columns_rows = np.stack((matches.xy_a, matches.xy_b), 1).round().astype(int)
    ends = aligned.maps.numpy()[photo, columns_rows[..., 1], columns_rows[..., 0]]
    agree = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) < 0.1
    support = (agree | (photo != 6).all(1) | (photo == 7).any(1)).astype(np.int32)
    asked: list[tuple[Any, ...]] = []

    def ask(*args: Any) -> SecondMaps:
        asked.append(args)
        return fit_second_maps(*args)

    monkeypatch.setattr(train, "fit_second_maps", ask)
    Alignment.fit(collection, dataclasses.replace(matches, support=support), AlignmentConfig(unconfirmed=0.0))
    every, confirmed, *rest = asked[0]
    shown = [
        second.photo[second.symmetry > 0.8].tolist()
        for second in (
            fit_second_maps(every, every, *rest),
            fit_second_maps(every, confirmed, *rest),
            fit_second_maps(confirmed, every, *rest),
        )
    ]
    assert shown == [[6, 7], [7], [7]]


def test_a_photo_is_carried_no_further_than_bridges_outweigh_it(
    walkers: tuple[ImageCollection, MatchSet], match_all: Callable[[ImageCollection], MatchSet]
) -> None:
    collection = take_photos(walkers[0], slice(0, 8))
    aligned = Alignment.fit(collection, match_all(collection))
    second = aligned.second
    assert second.photo[second.symmetry > 0.8].tolist() == [6, 7]
    moved = [
        (second.maps[row] - aligned.maps[photo])[aligned.foreground[photo]].norm(dim=-1)
        for row, photo in enumerate(second.photo.tolist())
        if photo < 6
    ]
    assert len(moved) == 6
    assert torch.cat(moved).max() < 0.05


def test_a_photo_that_fits_neither_way_gets_no_second_map(
    heads: tuple[ImageCollection, MatchSet], match_all: Callable[[ImageCollection], MatchSet]
) -> None:
    collection, _ = heads
    descriptors = collection.descriptors.clone()
    noise = torch.randn(descriptors[7].shape, generator=torch.Generator().manual_seed(0))
    descriptors[7] = torch.nn.functional.normalize(noise, dim=-1).half()
    strange = dataclasses.replace(collection, descriptors=descriptors)
    assert 7 not in Alignment.fit(strange, match_all(strange)).second.photo


def test_each_half_of_a_frontal_photo_reaches_the_side_that_shows_it(aligned: Alignment) -> None:
    right, left = np.array([[66.0, 48.0]]), np.array([[29.0, 48.0]])
    without = dataclasses.replace(aligned, second=SecondMaps.none(aligned.size_hw))
    lost = []
    for half, side in ((right, 0), (left, 4)):
        # Drawn so: the half's pattern runs 1.4 times as fast, its middle at the side's middle.
        expected = 47.5 + 1.4 * (half - 47.5) - np.sign(half - 47.5) * 0.7 * 36
        for frontal in (6, 7):
            there = aligned.transfer(half, frontal, side).points_image
            assert abs(there[0, 0] - expected[0, 0]) < 6
            np.testing.assert_allclose(aligned.transfer(there, side, frontal).points_image, half, atol=6)
        lost.append(abs(without.transfer(expected, side, 6).points_image[0, 0] - half[0, 0]) > 20)
    assert sorted(lost) == [False, True]


def test_canonical_answers_travel_by_second_maps_where_flags_differ(aligned: Alignment) -> None:
    without = dataclasses.replace(aligned, second=SecondMaps.none(aligned.size_hw))
    points = np.array([[28.0, 48.0], [60.0, 40.0]])
    for target in (0, 4):
        ours, plain = (a.transfer(points, 6, target, "canonical").points_image for a in (aligned, without))
        assert (np.abs(ours - plain).max() > 10) == bool(aligned.mirrored[6] != aligned.mirrored[target])


def test_the_more_symmetric_photo_changes_its_map_and_only_where_flags_differ() -> None:
    second = SecondMaps(torch.tensor([1, 3]), torch.zeros(2, 4, 4, 2), torch.tensor([0.9, 0.95]))
    mirrored = torch.tensor([False, True, True, False])
    source, target = torch.tensor([0, 0, 1, 1, 2, 1]), torch.tensor([1, 2, 0, 3, 3, 2])
    from_map, to_map = second.choose(mirrored, source, target)
    assert from_map.tolist() == [0, 0, 4, 1, 2, 1]
    assert to_map.tolist() == [4, 2, 0, 5, 5, 2]


def test_second_maps_round_trip_and_must_fit_the_photos(aligned: Alignment, tmp_path) -> None:
    aligned.save(tmp_path / "run", {})
    again = Alignment.load(tmp_path / "run").second
    for field in ("photo", "maps", "symmetry"):
        assert torch.equal(getattr(again, field), getattr(aligned.second, field)), field
    strange = dataclasses.replace(aligned.second, photo=torch.tensor([6, 8]))
    dataclasses.replace(aligned, second=strange).save(tmp_path / "strange", {})
    with pytest.raises(RunError, match="as many second maps as photos they name"):
        Alignment.load(tmp_path / "strange")


@pytest.fixture
def two_sided(aligned: Alignment) -> Alignment:
    """Photos 1 and 2 show both sides: turned left to right in canonical space they fit as well."""
    second = SecondMaps(torch.tensor([1, 2]), aligned.maps[1:3] * torch.tensor([-1.0, 1.0]), torch.tensor([0.9, 0.95]))
    mirrored = torch.tensor([False, True, False, False, True, False, False, False])
    return dataclasses.replace(aligned, second=second, mirrored=mirrored)


def test_both_maps_are_mirrored_or_neither_where_that_can_be(two_sided: Alignment) -> None:
    # 8 and 9 are the second maps of photos 1 and 2; of two photos that could, the more symmetric one changes its map.
    ways = {
        (0, 3): (0, 3),
        (0, 1): (0, 8),
        (1, 0): (8, 0),
        (1, 2): (1, 9),
        (2, 1): (9, 1),
        (0, 4): (0, 4),
        (4, 2): (4, 9),
    }
    assert {pair: two_sided.maps_between(*pair) for pair in ways} == ways


def test_places_and_look_ups_are_those_of_the_maps_that_were_asked_for(two_sided: Alignment) -> None:
    points = torch.tensor([[40.25, 51.5], [60.0, 33.75], [47.0, 47.0]])
    own = two_sided.places_on_maps(points, torch.tensor([1, 1, 4]))
    np.testing.assert_allclose(own.numpy(), two_sided.to_canonical(points.numpy(), [1, 1, 4]), atol=1e-4)
    mirrored = two_sided.places_on_maps(points, torch.tensor([8, 8, 4]))
    torch.testing.assert_close(mirrored[:2], own[:2] * torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(two_sided.look_up(mirrored[:2], 8)[0], two_sided.look_up(own[:2], 1)[0])


@pytest.mark.parametrize("shown", [1, 3])
def test_a_photo_of_which_a_point_or_a_line_is_matched_shows_no_second_side(
    drawn: Any, match_all: Callable[[ImageCollection], MatchSet], shown: int
) -> None:
    collection = drawn.collection
    assert not len(Alignment.fit(collection, match_all(collection)).second.photo)
    tokens = torch.nonzero(collection.foreground_tokens()[4])[:, 0].numpy()
    middle = len(tokens) // 2
    centres = collection.grid.centres_px()[tokens[middle : middle + shown]].round().astype(int)
    masks = collection.masks.clone()
    masks[4] = 0
    masks[4, centres[:, 1], centres[:, 0]] = 255
    cut = dataclasses.replace(collection, masks=masks)
    assert int(cut.foreground_tokens()[4].sum()) == shown
    assert not len(Alignment.fit(cut, match_all(cut)).second.photo)
