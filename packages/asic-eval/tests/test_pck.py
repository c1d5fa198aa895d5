from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asic_eval import (
    ImageKeypoints,
    KeypointBenchmark,
    PckCounts,
    PointErrors,
    all_pairs,
    count_pck,
    count_pck_by_keypoint,
    get_protocol,
    pck,
    point_errors,
    threshold_lengths,
)


def truth(benchmark: KeypointBenchmark) -> np.ndarray:
    return benchmark.points_image[benchmark.pairs[:, 1]]


def test_one_pair_on_paper(benchmark: KeypointBenchmark) -> None:
    # 0 -> 1: the target's box is 60 x 100, so alpha 0.1 allows 10 pixels; keypoint 2 is not visible there.
    one = KeypointBenchmark("one", benchmark.keypoint_names, benchmark.images, np.array([[0, 1]]))
    predicted = np.array([[[5, 5], [15 + 6, 5 + 8], [0, 0], [50, 90 + 10.5]]])
    counts = pck(predicted, one, [0.05, 0.1, 0.2])
    assert counts.hits.tolist() == [[1, 2, 3]]
    assert counts.totals.tolist() == [3]
    assert counts.per_point().tolist() == [1 / 3, 2 / 3, 1.0]
    assert counts.per_image().tolist() == [1 / 3, 2 / 3, 1.0]


def test_no_answer_is_right_at_any_length() -> None:
    errors = PointErrors(np.array([[np.inf, 1e300]]), np.array([np.inf]), np.array([[True, True]]))
    assert errors.correct(0.1).tolist() == errors.correct(0.1, inclusive=False).tolist() == [[False, True]]
    images = tuple(ImageKeypoints(name, (9, 9), None, [[1.7e308, 0], [-1.7e308, 0]], [1, 1]) for name in "ab")
    far = KeypointBenchmark("far", ("p", "q"), images, all_pairs(2))
    with np.errstate(over="ignore"):
        counts = pck(np.full((2, 2, 2), np.nan), far, [0.1], threshold="keypoints", missing="miss")
    assert counts.per_point().tolist() == [0.0]


def test_inclusive_decides_on_the_border(benchmark: KeypointBenchmark) -> None:
    one = KeypointBenchmark("one", benchmark.keypoint_names, benchmark.images, np.array([[0, 1]]))
    predicted = truth(one) + np.array([10.0, 0.0])
    assert pck(predicted, one, [0.1]).hits.tolist() == [[3]]
    assert pck(predicted, one, [0.1], inclusive=False).hits.tolist() == [[0]]


def test_defaults_are_the_box_the_border_and_no_gaps(benchmark: KeypointBenchmark) -> None:
    one = KeypointBenchmark("one", benchmark.keypoint_names, benchmark.images, np.array([[0, 1]]))
    border = truth(one) + np.array([10.0, 0.0])
    errors = point_errors(border, one)
    assert errors.length.tolist() == [100.0]
    assert errors.correct(0.1).sum() == 3
    assert count_pck(errors, [0.1]).hits.tolist() == [[3]]
    assert count_pck_by_keypoint(errors, [0.1]).alphas.tolist() == [0.1]
    with pytest.raises(ValueError, match=r"^predicted: expected a finite position"):
        point_errors(np.full((1, 4, 2), np.nan), one)


@pytest.mark.parametrize(("threshold", "hits"), [("box", 3), ("image", 3), ("keypoints", 0), ([0.0, 99.9, 0.0], 0)])
def test_the_threshold_decides(benchmark: KeypointBenchmark, threshold: object, hits: int) -> None:
    one = KeypointBenchmark("one", benchmark.keypoint_names, benchmark.images, np.array([[0, 1]]))
    predicted = truth(one) + np.array([0.0, 10.0])
    assert pck(predicted, one, [0.1], threshold=threshold).hits.tolist() == [[hits]]  # type: ignore[arg-type]


def test_per_point_and_per_image_differ_as_they_should(benchmark: KeypointBenchmark) -> None:
    two = KeypointBenchmark("two", benchmark.keypoint_names, benchmark.images, np.array([[0, 1], [1, 2], [0, 2]]))
    predicted = truth(two).copy()
    predicted[0, 1:] += 1000.0  # 1 of 3 right; then 2 of 2; then 3 of 3
    counts = pck(predicted, two, [0.1])
    assert counts.totals.tolist() == [3, 2, 3]
    assert counts.per_point()[0] == 6 / 8
    assert counts.per_image()[0] == pytest.approx((1 / 3 + 1 + 1) / 3)


def test_pairs_that_ask_for_nothing_do_not_count(benchmark: KeypointBenchmark) -> None:
    asked = benchmark.asked.copy()
    asked[1:] = False
    chosen = KeypointBenchmark("x", benchmark.keypoint_names, benchmark.images, benchmark.pairs, pair_visible=asked)
    counts = pck(truth(chosen), chosen, [0.1], missing="miss")
    assert counts.per_image().tolist() == [1.0]
    nothing = counts.select(np.array([1, 2]))
    assert np.isnan(nothing.per_point()).tolist() == [True]
    assert np.isnan(nothing.per_image()).tolist() == [True]


@pytest.mark.parametrize(
    ("threshold", "lengths"),
    [
        ("box", [40, 100, 10]),
        ("image", [200, 200, 200]),
        ("keypoints", [30, 85, 2]),
        ([1.0, 2.0, 0.0], [1, 2, 0]),
    ],
)
def test_threshold_lengths(benchmark: KeypointBenchmark, threshold: object, lengths: list[float]) -> None:
    assert threshold_lengths(benchmark, threshold).tolist() == lengths  # type: ignore[arg-type]


def test_keypoint_extent_without_a_point_is_zero(benchmark: KeypointBenchmark) -> None:
    from dataclasses import replace

    hidden = replace(benchmark.images[0], visible=np.zeros(4))
    lone = KeypointBenchmark("x", benchmark.keypoint_names, (hidden,), np.zeros((0, 2)))
    assert threshold_lengths(lone, "keypoints").tolist() == [0.0]


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ("boxes", r"^threshold: expected 'box', 'image', 'keypoints', 'square' or lengths, got 'boxes'$"),
        (
            [1.0],
            r"^threshold: expected 3 lengths of at least 0, or \(3, 2\) above 0, got shape \(1,\) with 1\.0 to 1\.0$",
        ),
        (
            [1.0, -1.0, 1.0],
            r"^threshold: expected 3 lengths of at least 0, or \(3, 2\) above 0, got shape \(3,\) with -1\.0 to 1\.0$",
        ),
        (
            [1.0, np.nan, 1.0],
            r"^threshold: expected 3 lengths of at least 0, or \(3, 2\) above 0, got shape \(3,\) with nan to nan$",
        ),
        ([], r"^threshold: expected 3 lengths of at least 0, or \(3, 2\) above 0, got shape \(0,\)$"),
    ],
)
def test_bad_thresholds(benchmark: KeypointBenchmark, threshold: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_lengths(benchmark, threshold)  # type: ignore[arg-type]


def test_a_square_has_a_length_along_each_axis(benchmark: KeypointBenchmark) -> None:
    # Photos of 100 x 200: 10 pixels are a twentieth of the width and a tenth of the height.
    assert threshold_lengths(benchmark, "square").tolist() == [[200.0, 100.0]] * 3
    one = replace(benchmark, pairs=np.array([[0, 1]]))
    target = one.points_image[1]
    for shift, hits in (((10.0, 0.0), [3, 3]), ((0.0, 10.0), [0, 3]), ((8.0, 3.0), [3, 3]), ((8.0, 6.0), [0, 3])):
        assert pck((target + shift)[None], one, [0.05, 0.1], threshold="square").hits.tolist() == [hits]
    errors = point_errors((target + np.array([6.0, 4.0]))[None], one, threshold="square")
    assert errors.length.tolist() == [1.0]
    assert errors.distance[0, 0] == pytest.approx(0.05)
    own = np.array([[200.0, 100.0]] * 3)
    assert pck((target + 8.0)[None], one, [0.09], threshold=own).hits.tolist() == [[3]]
    with pytest.raises(ValueError, match=r"^threshold: expected 3 lengths of at least 0, or \(3, 2\) above 0"):
        threshold_lengths(benchmark, own - np.array([0.0, 100.0]))


def test_box_threshold_needs_boxes(benchmark: KeypointBenchmark) -> None:
    boxless = replace(benchmark, images=(*benchmark.images[:2], replace(benchmark.images[2], box_xyxy=None)))
    with pytest.raises(ValueError, match=r"^threshold 'box': expected a box for every image, got none for 'a/2\.png'$"):
        threshold_lengths(boxless, "box")


def test_a_swap_of_part_of_the_points_is_unknown(benchmark: KeypointBenchmark) -> None:
    fewer = replace(benchmark, pair_visible=benchmark.asked & (np.arange(6) > 0)[:, None])
    swapped = np.arange(6) == 0
    with pytest.raises(
        ValueError, match=r"^mirrored: expected pairs that ask for every point visible in both images, got"
    ):
        pck(truth(benchmark), fewer, [0.1], mirrored=swapped)
    assert pck(truth(benchmark), fewer, [0.1], mirrored=swapped, mirror_asks="pair_names").totals[0] == 0
    assert pck(truth(benchmark), fewer, [0.1], mirrored=np.arange(6) == 3).totals[0] == 0


def test_missing_predictions_are_errors_or_misses(benchmark: KeypointBenchmark) -> None:
    predicted = truth(benchmark).copy()
    predicted[0, 1] = [np.nan, 3.0]
    with pytest.raises(
        ValueError,
        match=r"^predicted: expected a finite position for keypoint 1 of pair 0, got \[nan, 3\.0\]; "
        r"missing='miss' counts it as wrong$",
    ):
        pck(predicted, benchmark, [0.1])
    counts = pck(predicted, benchmark, [0.1], missing="miss")
    assert counts.hits.sum() == counts.totals.sum() - 1
    predicted[0, 1] = [np.inf, 3.0]
    assert pck(predicted, benchmark, [1e9], missing="miss").hits.sum() == counts.totals.sum() - 1


def test_a_gap_is_an_error_or_a_miss_and_nothing_else(benchmark: KeypointBenchmark) -> None:
    with pytest.raises(ValueError, match=r"^missing: expected 'error' or 'miss', got 'skip'$"):
        pck(truth(benchmark), benchmark, [0.1], missing="skip")  # type: ignore[arg-type]


def test_what_is_not_asked_is_ignored(benchmark: KeypointBenchmark) -> None:
    predicted = np.where(benchmark.asked[..., None], truth(benchmark), np.nan)
    assert pck(predicted, benchmark, [1e-9]).per_point().tolist() == [1.0]


def test_shape_of_predictions(benchmark: KeypointBenchmark) -> None:
    with pytest.raises(
        ValueError, match=r"^predicted: expected shape \(6, 4, 2\) \(pairs, keypoints, xy\), got \(6, 4\)$"
    ):
        pck(np.zeros((6, 4)), benchmark, [0.1])


@pytest.mark.parametrize("alphas", [[], [0.0], [0.1, 0.1], [0.2, 0.1], [np.nan], [np.inf], [[0.1]], [-1.0]])
def test_bad_alphas(benchmark: KeypointBenchmark, alphas: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^alphas: expected positive numbers in increasing order, got \["):
        pck(truth(benchmark), benchmark, alphas)


def test_shards_add_up_exactly(benchmark: KeypointBenchmark) -> None:
    rng = np.random.default_rng(0)
    predicted = truth(benchmark) + rng.normal(0, 5, (6, 4, 2))
    whole = pck(predicted, benchmark, [0.05, 0.1], missing="miss")
    parts = whole.select(np.arange(6) < 2) + whole.select(np.arange(6) >= 2)
    assert np.array_equal(parts.hits, whole.hits)
    assert np.array_equal(parts.totals, whole.totals)
    with pytest.raises(
        ValueError, match=r"^PckCounts: expected the same alphas to add, got \[0\.05, 0\.1\] and \[0\.3\]$"
    ):
        whole + PckCounts(np.array([0.3]), whole.hits[:, :1], whole.totals)


def test_counts_by_keypoint(benchmark: KeypointBenchmark) -> None:
    predicted = np.where(np.isfinite(truth(benchmark)), truth(benchmark), 0.0)
    predicted[:, 0] += 1e6
    counts = count_pck_by_keypoint(point_errors(predicted, benchmark), [0.1])
    assert counts.totals.tolist() == benchmark.asked.sum(axis=0).tolist()
    assert counts.hits[:, 0].tolist() == [0, *benchmark.asked.sum(axis=0)[1:]]
    one = KeypointBenchmark("one", benchmark.keypoint_names, benchmark.images, np.array([[0, 1]]))
    border = point_errors(truth(one) + np.array([10.0, 0.0]), one)
    assert count_pck_by_keypoint(border, [0.1]).hits[:, 0].tolist() == [1, 1, 0, 1]
    assert count_pck_by_keypoint(border, [0.1], inclusive=False).hits.sum() == 0


def test_mirrored_pairs_are_held_against_swapped_labels(benchmark: KeypointBenchmark) -> None:
    # 0 -> 2 answered with the eyes swapped.
    one = KeypointBenchmark(
        "one", benchmark.keypoint_names, benchmark.images, np.array([[0, 2], [0, 1]]), benchmark.mirror
    )
    predicted = np.array([[[11, 11], [13, 13], [12, 12], [0, 0]], [[5, 5], [0, 0], [15, 5], [50, 90]]], dtype=float)
    strict = pck(predicted, one, [0.01])
    assert (strict.hits[:, 0].tolist(), strict.totals.tolist()) == ([1, 2], [3, 3])
    aware = pck(predicted, one, [0.01], mirrored=[True, True])
    # In image 1 the right eye is hidden: now the left eye has no partner and the right eye has one.
    assert (aware.hits[:, 0].tolist(), aware.totals.tolist()) == ([3, 3], [3, 3])
    half = pck(predicted, one, [0.01], mirrored=[True, False])
    assert half.hits[:, 0].tolist() == [3, 2]
    # As the pair names no right eye, neither eye is asked for where labels go by pair.
    named = pck(predicted, one, [0.01], mirrored=[True, True], mirror_asks="pair_names")
    assert (named.hits[:, 0].tolist(), named.totals.tolist()) == ([3, 2], [3, 2])
    assert get_protocol("spair-per-point").score(predicted, one, mirrored=[True, True]).totals.tolist() == [3, 2]
    assert get_protocol("box-per-point").score(predicted, one, mirrored=[True, True]).totals.tolist() == [3, 3]


def test_mirrored_needs_a_permutation(benchmark: KeypointBenchmark) -> None:
    plain = KeypointBenchmark("x", benchmark.keypoint_names, benchmark.images, benchmark.pairs)
    message = r"^mirrored: expected a benchmark with a mirror permutation and 6 flags, got "
    with pytest.raises(ValueError, match=message + r"no permutation$"):
        pck(np.zeros((6, 4, 2)), plain, [0.1], mirrored=np.ones(6))
    with pytest.raises(ValueError, match=message + r"shape \(5,\)$"):
        pck(np.zeros((6, 4, 2)), benchmark, [0.1], mirrored=np.ones(5))


def test_positions_beyond_all_numbers_are_misses(benchmark: KeypointBenchmark) -> None:
    for far in (1e200, -1e308):
        assert not pck(np.full((6, 4, 2), far), benchmark, [0.1]).hits.any()
