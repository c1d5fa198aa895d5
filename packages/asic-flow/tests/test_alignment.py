from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from asic_flow.alignment import Alignment, RunError
from asic_flow.baselines import box_copy, nearest_neighbour
from asic_flow.collection import ImageCollection, Photo, TokenGrid
from asic_flow.config import AlignmentConfig
from asic_flow.kernels import CanonicalIndex
from asic_flow.matches import MatchSet
from asic_flow.overlap import collapsed, mean_pairwise_iou
from asic_flow.run_folder import choose_maps
from asic_flow.sides import SecondMaps
from asic_flow.tokens import ForegroundTokens, held_out_tokens
from asic_flow.train import AlignmentError, FittedMaps, held_out_matches
from asic_flow.views import canonical_views

if TYPE_CHECKING:
    from conftest import DrawnCollection

    Draw = Callable[..., DrawnCollection]


@pytest.fixture(scope="module")
def aligned(drawn: DrawnCollection) -> Alignment:
    return Alignment.fit(drawn.collection, drawn.matches)


def interior_points(drawn: DrawnCollection, photo: int, count: int = 40) -> np.ndarray:
    """Points of a photo on the object, in the original photo's pixels."""
    rng = np.random.default_rng(photo)
    angle, radius = rng.uniform(0, 2 * np.pi, count), 0.85 * np.sqrt(rng.random(count))
    disc = np.stack((radius * np.cos(angle), radius * np.sin(angle), np.ones(count)), 1)
    model = (disc @ np.linalg.inv(drawn.to_object[photo]).T)[:, :2]
    return drawn.collection.photos[photo].to_image(model)


def errors(drawn: DrawnCollection, answer: Callable[..., np.ndarray]) -> np.ndarray:
    """Model-pixel errors of an answer over all ordered pairs."""
    found = []
    photos = drawn.collection.photos
    for source in range(len(photos)):
        points = interior_points(drawn, source)
        for target in range(len(photos)):
            if source != target:
                truth = drawn.truth(photos[source].to_model(points), source, target)
                answered = answer(points, np.full(len(points), source), np.full(len(points), target))
                found.append(np.linalg.norm(photos[target].to_model(answered) - truth, axis=1))
    return np.concatenate(found)


@pytest.mark.parametrize("method", ["canonical", "consensus", "combined"])
def test_points_are_carried_far_better_than_by_nearest_neighbours(
    drawn: DrawnCollection, aligned: Alignment, method: str
) -> None:
    ours = errors(drawn, lambda points, source, target: aligned.transfer(points, source, target, method).points_image)
    theirs = errors(drawn, nearest_neighbour(drawn.collection))
    within = 0.06 * drawn.collection.size_hw[0]
    assert (ours <= within).mean() > 0.95
    assert (ours <= within).mean() > (theirs <= within).mean() + 0.1


def test_mirrored_photos_are_named(aligned: Alignment) -> None:
    assert aligned.mirrored.tolist() == [False, True, False, False, True, False]


def test_wrong_matches_that_nobody_confirms_turn_no_photo(drawn: DrawnCollection) -> None:
    # Beside the matches, all of them confirmed, three times as many that have one photo upside down.
    matches, size = drawn.matches, drawn.collection.size_hw[0]
    pair = matches.pair_of_match()
    turned = [
        np.where(matches.pairs[pair, side, None] == 2, size - 1 - xy, xy)
        for side, xy in enumerate((matches.xy_a, matches.xy_b))
    ]
    order = np.argsort(np.tile(pair, 4), kind="stable")
    joined = dataclasses.replace(
        matches,
        offsets=4 * matches.offsets,
        xy_a=np.concatenate((matches.xy_a, *[turned[0]] * 3))[order].astype(np.float32),
        xy_b=np.concatenate((matches.xy_b, *[turned[1]] * 3))[order].astype(np.float32),
        score=np.tile(matches.score, 4)[order],
        saliency=np.tile(matches.saliency, 4)[order],
        support=np.repeat(np.int32([1, 0]), [len(matches), 3 * len(matches)])[order],
    )

    def right(config: AlignmentConfig) -> float:
        aligned = Alignment.fit(drawn.collection, joined, config)
        ours = errors(drawn, lambda points, source, target: aligned.transfer(points, source, target).points_image)
        return float((ours <= 0.06 * size).mean())

    assert right(AlignmentConfig(unconfirmed=1.0)) < 0.8
    assert right(AlignmentConfig(unconfirmed=0.5)) > 0.95


def test_with_no_token_to_fit_photos_stay_where_the_affine_stage_placed_them(drawn: DrawnCollection) -> None:
    # One token a photo is fitted, and that one is background.
    grid, masks = drawn.collection.grid, drawn.collection.masks.clone()
    x, y = grid.centres_px().reshape(grid.rows, grid.cols, 2)[(grid.rows - 1) // 2, (grid.cols - 1) // 2].round()
    masks[:, int(y), int(x)] = 0
    collection = dataclasses.replace(drawn.collection, masks=masks)
    aligned = Alignment.fit(collection, drawn.matches, AlignmentConfig(tokens_per_image=1))
    ours = errors(drawn, lambda points, source, target: aligned.transfer(points, source, target).points_image)
    assert (ours <= 0.06 * collection.size_hw[0]).mean() > 0.95


def test_the_fit_is_the_same_to_the_bit_when_repeated(drawn: DrawnCollection, aligned: Alignment) -> None:
    again = Alignment.fit(drawn.collection, drawn.matches)
    assert torch.equal(again.maps, aligned.maps)
    assert torch.equal(again.descriptors, aligned.descriptors)


def test_confidence_is_a_fraction_and_zero_off_the_mask(drawn: DrawnCollection, aligned: Alignment) -> None:
    assert aligned.confidence.min() >= 0
    assert aligned.confidence.max() <= 1
    assert not aligned.confidence[~drawn.collection.foreground()].any()
    assert aligned.confidence[aligned.foreground].mean() > 0.5


def test_confidence_lies_where_its_tokens_do_in_oblong_frames() -> None:
    grid = TokenGrid(rows=2, cols=4, stride=4.0, first=2.0)
    collection = ImageCollection(
        photos=(Photo("0.png", "0" * 64, (8, 16), (1.0, 1.0), (0.0, 0.0), None),),
        images=torch.zeros(1, 8, 16, 3, dtype=torch.uint8),
        masks=torch.full((1, 8, 16), 255, dtype=torch.uint8),
        descriptors=torch.ones(1, 8, 1).half(),
        saliency=torch.zeros(1, 8),
        grid=grid,
        settings={},
    )
    tokens, confidence = ForegroundTokens.of(collection), torch.arange(1, 9) / 8
    fitted = FittedMaps(
        torch.zeros(1, 8, 16, 2),
        SecondMaps.none((8, 16)),
        torch.zeros(1, dtype=torch.bool),
        torch.ones(1),
        tokens,
        torch.ones(8, 1),
        torch.zeros(8, 2, 2),
        confidence,
    )
    found = Alignment.of(collection, fitted, AlignmentConfig()).confidence
    torch.testing.assert_close(found[0, 2::4, 2::4].flatten(), confidence)


def test_what_a_mask_takes_in_and_no_other_photo_shows_is_no_foreground(
    drawn: DrawnCollection, match_all: Callable[[ImageCollection], MatchSet]
) -> None:
    masks = drawn.collection.masks.clone()
    masks[3] = 255
    loose = dataclasses.replace(drawn.collection, masks=masks)
    found = Alignment.fit(loose, match_all(loose))
    disc = drawn.collection.foreground()
    assert found.foreground[disc].float().mean() > 0.97
    assert found.foreground[3][~disc[3]].float().mean() < 0.5
    assert not found.foreground[~loose.foreground()].any()


def test_a_point_the_target_does_not_show_is_called_invisible(drawn: DrawnCollection, aligned: Alignment) -> None:
    here = interior_points(drawn, 0)
    assert aligned.transfer(here, 0, 2, "canonical").visible.mean() > 0.9
    far = drawn.collection.photos[0].to_image(np.array([[0.0, 0.0], [95.0, 95.0]]))
    assert not aligned.transfer(far, 0, 2, "canonical").visible.any()


def test_carrying_a_point_to_its_own_photo_returns_it(drawn: DrawnCollection, aligned: Alignment) -> None:
    points = interior_points(drawn, 3)
    np.testing.assert_allclose(aligned.transfer(points, 3, 3, "canonical").points_image, points, atol=0.2)


def test_to_canonical_samples_the_map(aligned: Alignment) -> None:
    pixel = aligned.photos[1].to_image(np.array([[20.0, 30.0]]))
    np.testing.assert_allclose(aligned.to_canonical(pixel, 1)[0], aligned.maps[1, 30, 20].numpy(), atol=1e-5)


def test_a_run_folder_round_trips(tmp_path: Path, drawn: DrawnCollection, aligned: Alignment) -> None:
    aligned.save(tmp_path / "run", {"collection": "../c"})
    again = Alignment.load(tmp_path / "run")
    for field in ("maps", "confidence", "foreground", "mirrored", "token_image", "token", "descriptors"):
        assert torch.equal(getattr(again, field), getattr(aligned, field)), field
    assert again.photos == aligned.photos
    assert again.config == aligned.config
    points = interior_points(drawn, 0)
    np.testing.assert_array_equal(
        again.transfer(points, 0, 1).points_image, aligned.transfer(points, 0, 1).points_image
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["collection"] == "../c"


@pytest.mark.parametrize("name", ["canonical_maps.safetensors", "consensus.safetensors"])
def test_a_damaged_run_is_detected(tmp_path: Path, aligned: Alignment, name: str) -> None:
    aligned.save(tmp_path, {})
    data = bytearray((tmp_path / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RunError, match=name):
        Alignment.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunError, match=name):
        Alignment.load(tmp_path)


HUGE = "1e400"  # JSON, and more than a float holds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "field 'format'"),
        ({"version": 0}, "field 'version'"),
        ({"alignment": {"rounds": -1}}, "rounds must be at least 1"),
        ({"alignment": {"unconfirmed": 1.5}}, "unconfirmed must be from 0 to 1"),
        ({"alignment": {"colour": 1}}, "malformed field"),
        ({"photos": []}, "expected maps of 0 photos"),
        ({"grid": 3}, "malformed field"),
        ({"grid": {"rows": "a few", "cols": 24, "stride": 4.0, "first": 1.5}}, "malformed field"),
        ({"grid": {"rows": 24, "cols": 24, "stride": 0.0, "first": 1.5}}, "grid: expected 1 to 100000 rows and cols"),
        ({"grid": {"rows": 0, "cols": 24, "stride": 4.0, "first": 1.5}}, "grid: expected 1 to 100000 rows and cols"),
        ({"grid": {"rows": 24, "cols": 24, "stride": 4.0, "first": HUGE}}, "grid: expected .* and first likewise"),
        ({"grid": {"rows": 24, "cols": 24, "stride": 4.0, "first": np.nan}}, "expected JSON, got a number that JSON"),
        ({"alignment": {"residual_scale": 1e30}}, r"expected numbers of at most 1e\+06, got 1e\+30"),
        ({"alignment": {"coarse_scales": [HUGE]}}, r"expected numbers of at most 1e\+06, got inf"),
        ({"mirrored": [True]}, r"config\.json, field 'mirrored': expected a value for each of 6 photos"),
        ({"mirrored": [[True]] * 6}, "field 'mirrored': expected a value for each of 6 photos"),
        ({"support": [0.5] * 7}, "field 'support': expected a value for each of 6 photos"),
    ],
)
def test_a_malformed_run_index_is_refused(
    tmp_path: Path, aligned: Alignment, change: dict[str, object], message: str
) -> None:
    aligned.save(tmp_path, {})
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}).replace(f'"{HUGE}"', HUGE))
    with pytest.raises(RunError, match=message):
        Alignment.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_xy": [HUGE, 1.0]}, "finite scale_xy and offset_xy"),
        ({"offset_xy": [0.0, HUGE]}, "finite scale_xy and offset_xy"),
        ({"size_hw": [HUGE, 1]}, "malformed field: OverflowError"),
        ({"box_xyxy": [0.0, 1.0]}, "malformed field"),
    ],
)
def test_a_run_whose_photos_are_malformed_is_refused(
    tmp_path: Path, aligned: Alignment, change: dict[str, object], message: str
) -> None:
    aligned.save(tmp_path, {})
    path = tmp_path / "config.json"
    document = json.loads(path.read_text())
    document["photos"][2] |= change
    path.write_text(json.dumps(document).replace(f'"{HUGE}"', HUGE))
    with pytest.raises(RunError, match=rf"config\.json: .*{message}"):
        Alignment.load(tmp_path)


def test_the_photo_that_has_a_second_map_changes_it_however_ill_that_fits() -> None:
    mirrored, second, symmetry = np.array([False, True]), np.array([1]), np.zeros(1, np.float32)
    from_map, to_map = choose_maps(mirrored, second, symmetry, np.array([0, 1]), np.array([1, 0]))
    assert (from_map.tolist(), to_map.tolist()) == ([0, 2], [2, 0])


def test_no_run_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="asic train"):
        Alignment.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match="expected JSON"):
        Alignment.load(tmp_path)


@pytest.mark.parametrize(
    ("points", "source", "method", "message"),
    [
        ([[0.0, np.nan]], 0, "canonical", "finite"),
        ([0.0, 1.0], 0, "canonical", r"\(M, 2\)"),
        ([[0.0, 1.0]], 6, "canonical", "numbered 0 to 5"),
        ([[0.0, 1.0]], -1, "combined", "numbered 0 to 5"),
        ([[0.0, 1.0]], 0, "best", "method"),
    ],
)
def test_bad_questions_are_refused(
    aligned: Alignment, points: list[object], source: int, method: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        aligned.transfer(points, source, 1, method)


def test_no_points_give_no_answers(aligned: Alignment) -> None:
    assert aligned.transfer(np.zeros((0, 2)), 0, 1).points_image.shape == (0, 2)


def test_held_out_tokens_are_a_tenth_and_never_fitted(drawn: DrawnCollection) -> None:
    held = held_out_tokens(drawn.collection)
    assert held.float().mean().item() == pytest.approx(0.1, abs=0.01)
    out = held_out_matches(drawn.collection, drawn.matches)
    assert 0.1 < out.mean() < 0.3
    poisoned = drawn.collection.descriptors.clone()
    poisoned[held] = -poisoned[held]
    moved = drawn.matches.xy_b.copy()
    moved[out] = 48.0
    other = dataclasses.replace(drawn.collection, descriptors=poisoned)
    config = AlignmentConfig(rounds=1)
    clean = Alignment.fit(drawn.collection, drawn.matches, config)
    # The collection's mean descriptor sees held-out tokens, so it is kept the same here.
    centred = other.descriptors + (drawn.collection.descriptors.float().mean((0, 1)) - poisoned.float().mean((0, 1)))
    other = dataclasses.replace(other, descriptors=torch.where(held[..., None], poisoned, centred.half()))
    matches = dataclasses.replace(drawn.matches, xy_b=np.where(out[:, None], moved, drawn.matches.xy_b))
    assert (Alignment.fit(other, matches, config).maps - clean.maps).abs().max() < 0.05


def test_two_photos_are_enough(draw: Draw) -> None:
    pair = draw(2, noise=0.3)
    aligned = Alignment.fit(pair.collection, pair.matches)
    ours = errors(pair, lambda points, source, target: aligned.transfer(points, source, target).points_image)
    assert np.median(ours) < 4


def test_duplicates_of_one_photo_align_exactly(drawn: DrawnCollection, match_all: Callable[..., MatchSet]) -> None:
    one = drawn.collection
    take = [0, 0, 0]
    same = ImageCollection(
        photos=tuple(dataclasses.replace(one.photos[0], path=f"{index}.png") for index in range(3)),
        **{field: getattr(one, field)[take] for field in ("images", "masks", "descriptors", "saliency")},
        grid=one.grid,
        settings={},
    )
    aligned = Alignment.fit(same, match_all(same))
    points = interior_points(drawn, 0)
    np.testing.assert_allclose(aligned.transfer(points, 0, 2, "canonical").points_image, points, atol=0.5)


def test_probability_rises_with_confidence_and_reaches_over_the_masks_edge(
    drawn: DrawnCollection, aligned: Alignment
) -> None:
    points = interior_points(drawn, 0)
    inside = aligned.transfer(points, 0, 1)
    order = np.argsort(inside.confidence)
    assert (np.diff(inside.probability[order]) >= -1e-6).all()
    assert inside.probability.min() > 0.25
    assert inside.probability.max() < 1
    rows, columns = torch.nonzero(drawn.collection.foreground()[0], as_tuple=True)
    beside = np.array([[float(columns[0]), float(rows[0]) - 3], [0.0, 0.0]])
    outside = aligned.transfer(aligned.photos[0].to_image(beside), 0, 1)
    assert not outside.confidence.any()
    assert outside.probability[0] > outside.probability[1] + 0.05


def test_an_intruder_has_the_lowest_support(draw: Draw) -> None:
    strange = draw(6, intruder=True)
    aligned = Alignment.fit(strange.collection, strange.matches)
    assert int(aligned.support.argmin()) == 5
    assert aligned.support[5] < 0.6 * aligned.support[:5].min()


def test_a_photo_without_foreground_gets_no_answer_and_the_rest_align(
    drawn: DrawnCollection, match_all: Callable[..., MatchSet]
) -> None:
    masks = drawn.collection.masks.clone()
    masks[2] = 0
    collection = dataclasses.replace(drawn.collection, masks=masks)
    aligned = Alignment.fit(collection, match_all(collection))
    answer = aligned.transfer(interior_points(drawn, 0), 0, 2)
    assert np.isnan(answer.points_image).all()
    assert not answer.visible.any()
    assert not answer.confidence.any()
    assert not answer.probability.any()
    assert np.isfinite(aligned.transfer(interior_points(drawn, 0), 0, 1).points_image).all()


def test_what_cannot_be_aligned_says_why(drawn: DrawnCollection) -> None:
    collection = drawn.collection
    with pytest.raises(AlignmentError, match="foreground"):
        Alignment.fit(dataclasses.replace(collection, masks=torch.zeros_like(collection.masks)), drawn.matches)
    nothing = MatchSet(
        drawn.matches.pairs,
        np.zeros_like(drawn.matches.offsets),
        *(np.zeros((0, 2), np.float32),) * 2,
        *(np.zeros(0, np.float32),) * 2,
        np.zeros(0, np.int32),
    )
    with pytest.raises(AlignmentError, match="no two photos match"):
        Alignment.fit(collection, nothing)
    alone = ImageCollection(
        collection.photos[:1],
        *(getattr(collection, field)[:1] for field in ("images", "masks", "descriptors", "saliency")),
        collection.grid,
        {},
    )
    with pytest.raises(AlignmentError, match="two photos"):
        Alignment.fit(alone, nothing)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"votes": 0}, "votes"),
        ({"stiffness": 0.0}, "stiffness"),
        ({"guide": -1.0}, "guide"),
        ({"coarse_scales": ()}, "coarse_scales"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignmentConfig(**setting)


def test_views_lie_on_each_other_and_show_the_right_pixels(drawn: DrawnCollection, aligned: Alignment) -> None:
    views = canonical_views(aligned, size=64)
    before, after = mean_pairwise_iou(aligned.arrays.foreground), mean_pairwise_iou(views.visible.numpy())
    assert after > before + 0.1
    assert after > 0.85
    axis = np.linspace(-views.extent, views.extent, 64)
    row, column = np.argwhere(views.visible[0].numpy())[100]
    pixel = views.points_px[0, row, column].double().numpy()[None]
    canonical = aligned.to_canonical(aligned.photos[0].to_image(pixel), 0)[0]
    np.testing.assert_allclose(canonical, [axis[column], axis[row]], atol=2 * (axis[1] - axis[0]))
    shown = views.resample(drawn.collection.masks[..., None])
    assert shown[..., 0][~views.visible].abs().max() == 0
    inside = shown[..., 0][views.visible]
    assert inside.median() == 255  # the rim is blended with what lies beside the object
    assert inside.mean() > 220


def test_iou_by_hand() -> None:
    masks = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    assert mean_pairwise_iou(masks) == pytest.approx((1 / 3 + 0 + 0) / 3)


def test_iou_takes_memory_in_proportion_to_the_masks() -> None:
    masks = np.ones((100, 80, 80), bool)
    tracemalloc.start()
    assert mean_pairwise_iou(masks) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * masks.nbytes


def test_a_collapsed_map_is_found(aligned: Alignment) -> None:
    assert collapsed(aligned.arrays) == []
    maps = aligned.maps.clone()
    maps[4] = 0.05 * maps[4]
    assert collapsed(dataclasses.replace(aligned, maps=maps).arrays) == [4]


def test_nearest_neighbour_equals_a_literal_search(drawn: DrawnCollection) -> None:
    collection = drawn.collection
    token = 130
    centre = collection.grid.centres_px()[token].astype(float)
    answer = nearest_neighbour(collection)(collection.photos[0].to_image(centre[None]), np.array([0]), np.array([3]))
    best = (collection.descriptors[3].float() @ collection.descriptors[0, token].float()).argmax()
    expected = collection.photos[3].to_image(collection.grid.centres_px()[int(best)].astype(float)[None])
    np.testing.assert_allclose(answer, expected)


def test_box_copy_keeps_the_relative_position(drawn: DrawnCollection) -> None:
    photos = list(drawn.collection.photos)
    photos[0] = dataclasses.replace(photos[0], box_xyxy=(10.0, 20.0, 30.0, 60.0))
    photos[1] = dataclasses.replace(photos[1], box_xyxy=(0.0, 0.0, 100.0, 10.0))
    copy = box_copy(dataclasses.replace(drawn.collection, photos=tuple(photos)))
    # The corners of the first pixels, the middles of the boxes, the corners of the last pixels.
    points = np.array([[9.5, 19.5], [19.5, 39.5], [29.5, 59.5]])
    copied = copy(points, np.zeros(3, int), np.ones(3, int))
    np.testing.assert_allclose(copied, [[-0.5, -0.5], [49.5, 4.5], [99.5, 9.5]])
    whole = copy(np.array([[-0.5, 191.5]]), np.array([2]), np.array([3]))
    np.testing.assert_allclose(whole, [[-0.5, 191.5]])


def test_tokens_are_taken_row_by_row_with_offsets(drawn: DrawnCollection) -> None:
    tokens = ForegroundTokens.of(drawn.collection, step=2)
    assert tokens.offsets[-1] == len(tokens.image)
    assert torch.equal(torch.bincount(tokens.image, minlength=6), tokens.offsets.diff())
    assert len(tokens.image) < 0.3 * len(ForegroundTokens.of(drawn.collection).image)


def test_look_ups_without_torch_are_those_of_the_index(aligned: Alignment) -> None:
    arrays = aligned.arrays
    points = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    expected = CanonicalIndex(aligned.maps, aligned.foreground, impl="reference").nearest(points)
    for photo in range(len(aligned)):
        found = arrays.look_up(points.numpy(), photo)
        np.testing.assert_allclose(found.points_px, expected.points_px[photo], atol=1e-4)
        np.testing.assert_allclose(found.distance, expected.distance[photo], atol=1e-6)
    empty = dataclasses.replace(arrays, foreground=np.zeros_like(arrays.foreground)).look_up(points.numpy(), 0)
    assert np.isnan(empty.points_px).all()
    assert (empty.distance == np.inf).all()
    assert not len(arrays.look_up(np.zeros((0, 2), np.float32), 0).distance)


@pytest.mark.parametrize(
    ("field", "change", "reason"),
    [
        ("places", lambda values: values[:-1], "of as many tokens"),
        ("descriptors", lambda values: values[:-1], "of as many tokens"),
        ("token_image", lambda values: values.flip(0), "field 'image': expected photos one after the other"),
        ("token_image", lambda values: values - 1, "field 'image': expected photos 0 to "),
        ("token", lambda values: values + 10_000, "field 'token': expected tokens 0 to "),
    ],
)
def test_a_run_whose_tokens_do_not_fit_is_refused(
    aligned: Alignment, tmp_path, field: str, change, reason: str
) -> None:
    dataclasses.replace(aligned, **{field: change(getattr(aligned, field))}).save(tmp_path, {})
    with pytest.raises(RunError, match=rf"consensus\.safetensors.*{reason}"):
        Alignment.load(tmp_path)
