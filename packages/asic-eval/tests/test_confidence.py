from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asic_eval import (
    KeypointBenchmark,
    calibration_error,
    keypoint_detections,
    object_keypoint_similarity,
    pck,
    pck_dagger,
    similarity_detections,
)
from asic_eval.confidence import COCO_SIGMAS, KeypointDetections


def one_pair(benchmark: KeypointBenchmark) -> KeypointBenchmark:
    return replace(benchmark, pairs=np.array([[0, 1]]))


def test_a_swap_is_an_error(benchmark: KeypointBenchmark) -> None:
    # Truth in image 1: nose (5, 5), left eye (15, 5), tail (50, 90); length 100.
    one = one_pair(benchmark)
    predicted = np.array([[[14.0, 5.0], [15.0, 5.0], [0.0, 0.0], [50.0, 90.0]]])
    assert pck(predicted, one, [0.1]).hits.tolist() == [[3]]
    counts = pck_dagger(predicted, one, [0.1])
    assert (counts.hits.tolist(), counts.totals.tolist()) == ([[2]], [3])
    halfway = np.array([[[10.0, 5.0], [np.nan, 5.0], [0.0, 0.0], [50.0, 95.0]]])
    assert pck_dagger(halfway, one, [0.05, 0.1]).hits.tolist() == [[2, 2]]
    assert pck_dagger(halfway, one, [0.05], inclusive=False).hits.tolist() == [[0]]
    assert pck_dagger(halfway, one, [0.05], threshold=[1.0, 90.0, 1.0]).hits.tolist() == [[0]]


def test_only_the_pairs_keypoints_are_rivals(benchmark: KeypointBenchmark) -> None:
    # Image 2 hides the tail, so the pair does not ask for it: a nose where image 0 has its tail is not a swap.
    from_two = replace(benchmark, pairs=np.array([[2, 0]]))
    predicted = np.array([[[30.0, 10.0], [10.0, 0.0], [20.0, 0.0], [0.0, 0.0]]])
    assert pck_dagger(predicted, from_two, [0.9], threshold="image").hits.tolist() == [[2]]
    predicted[0, 0] = [4.0, 9.0]
    assert pck_dagger(predicted, from_two, [0.9], threshold="image").hits.tolist() == [[3]]
    asked = np.array([[True, False, True, True]])
    fewer = replace(one_pair(benchmark), pair_visible=asked & one_pair(benchmark).asked)
    beside = np.array([[[14.0, 5.0], [0.0, 0.0], [0.0, 0.0], [50.0, 90.0]]])
    assert pck_dagger(beside, fewer, [0.1]).hits.tolist() == [[2]]


def test_nearness_is_measured_in_the_thresholds_unit(benchmark: KeypointBenchmark) -> None:
    # Nose (5, 5), tail (50, 90), photo 200 wide and 100 high: (41, 30) is nearer to the nose in pixels (43.8 to 60.7)
    # and in a square as well; (70, 60) is nearer to the tail.
    square = one_pair(benchmark)
    square = replace(square, pair_visible=square.asked & np.array([True, False, False, True]))
    between = np.array([[[70.0, 45.0], [0.0, 0.0], [0.0, 0.0], [50.0, 90.0]]])
    # In pixels the tail is nearer (49.2 to 76.3); in a square the tail is 0.46 away and the nose 0.515.
    assert pck_dagger(between, square, [0.9], threshold="image").hits.tolist() == [[1]]
    assert pck_dagger(between, square, [0.9], threshold="square").hits.tolist() == [[1]]
    wide = np.array([[[90.0, 41.0], [0.0, 0.0], [0.0, 0.0], [50.0, 90.0]]])
    # In pixels the tail is nearer (63.3 to 92.4), along x and y of 1000 and 50 the nose (0.725 to 0.981).
    assert pck_dagger(wide, square, [0.9], threshold="image").hits.tolist() == [[1]]
    assert pck_dagger(wide, square, [0.9], threshold=[[1000.0, 50.0]] * 3).hits.tolist() == [[2]]


def test_a_hidden_keypoint_is_no_rival(benchmark: KeypointBenchmark) -> None:
    predicted = np.array([[[5.0, 5.0], [25.0, 5.0], [0.0, 0.0], [50.0, 90.0]]])  # where the hidden right eye would be
    assert pck_dagger(predicted, one_pair(benchmark), [0.1]).hits.tolist() == [[3]]


def test_detections_on_paper(benchmark: KeypointBenchmark) -> None:
    predicted = np.array([[[5.0, 5.0], [99.0, 5.0], [25.0, 5.0], [50.0, 90.0]]])
    confidence = np.array([[0.9, 0.8, 0.7, 0.6]])
    found = keypoint_detections(predicted, confidence, one_pair(benchmark), 0.1)
    # The right eye is not to be seen in the target: a claim about it is false wherever it points.
    assert found.correct.tolist() == [True, False, False, True]
    assert found.confidence.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert found.positives == 3
    assert found.average_precision() == pytest.approx((1 / 1 + 2 / 4) / 3)
    predicted[0, 1:3] = np.nan  # abstaining where it was wrong
    confidence[0, 1] = np.nan
    assert keypoint_detections(predicted, confidence, one_pair(benchmark), 0.1).average_precision() == pytest.approx(
        2 / 3
    )
    border = predicted + np.array([10.0, 0.0])
    assert keypoint_detections(border, confidence, one_pair(benchmark), 0.1).correct.all()
    assert not keypoint_detections(border, confidence, one_pair(benchmark), 0.1, inclusive=False).correct.any()
    assert keypoint_detections(border, confidence, one_pair(benchmark), 0.05, threshold="image").correct.all()


def test_only_points_of_the_source_are_asked_for(benchmark: KeypointBenchmark) -> None:
    from_two = replace(benchmark, pairs=np.array([[2, 0]]))  # image 2 has no tail
    found = keypoint_detections(np.zeros((1, 4, 2)), np.ones((1, 4)), from_two, 0.1)
    assert len(found.correct) == 3
    assert found.positives == 3


def test_ties_are_taken_together() -> None:
    tied = KeypointDetections(np.array([1.0, 1.0, 0.5]), np.array([True, False, True]), 2)
    swapped = KeypointDetections(np.array([1.0, 1.0, 0.5]), np.array([False, True, True]), 2)
    assert tied.average_precision() == swapped.average_precision() == pytest.approx((1 / 2 + 2 / 3) / 2)
    empty = KeypointDetections(np.zeros(0), np.zeros(0, dtype=bool), 4)
    assert empty.average_precision() == 0.0
    assert np.isnan(KeypointDetections(np.ones(1), np.array([False]), 0).average_precision())
    both = tied + empty
    assert (both.positives, len(both.correct), len(both.confidence)) == (6, 3, 3)


def test_average_precision_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        confidence, correct = rng.permutation(20) / 20.0, rng.random(20) < 0.5
        ranked = correct[np.argsort(-confidence)]
        expected = sum(ranked[: rank + 1].mean() for rank in range(20) if ranked[rank]) / 13
        assert KeypointDetections(confidence, correct, 13).average_precision() == pytest.approx(expected)


def test_detection_errors(benchmark: KeypointBenchmark) -> None:
    one = one_pair(benchmark)
    with pytest.raises(ValueError, match=r"^confidence: expected shape \(1, 4\), got \(4,\)$"):
        keypoint_detections(np.zeros((1, 4, 2)), np.zeros(4), one, 0.1)
    message = r"^confidence: expected a finite number for every point that is predicted, got NaN or infinity$"
    with pytest.raises(ValueError, match=message):
        keypoint_detections(np.zeros((1, 4, 2)), np.full((1, 4), np.nan), one, 0.1)


def test_object_keypoint_similarity_on_paper() -> None:
    truth = np.zeros((3, 2, 2))
    predicted = np.array([[[0, 0], [3, 4]], [[0, 0], [np.nan, 0]], [[9, 9], [9, 9]]], dtype=float)
    visible = [[True, True], [True, True], [False, False]]
    # d^2 = 25, area 100, 2 sigma = 0.5: exp(-25 / (2 * 100 * 0.25)) = exp(-0.5).
    result = object_keypoint_similarity(predicted, truth, visible, [100.0, 1.0, 1.0], [0.1, 0.25])
    assert result[:2] == pytest.approx([(1 + np.exp(-0.5)) / 2, 0.5])
    assert np.isnan(result[2])
    only_second = object_keypoint_similarity(predicted, truth, [[0, 1]] * 3, [100.0, 1.0, 1.0], [0.1, 0.25])
    assert only_second[:2] == pytest.approx([np.exp(-0.5), 0.0])
    moved = np.array([7.0, -3.0])
    elsewhere = object_keypoint_similarity(predicted + moved, truth + moved, visible, [100.0, 1.0, 1.0], [0.1, 0.25])
    assert elsewhere[:2] == pytest.approx(result[:2])
    assert len(COCO_SIGMAS) == 17


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"predicted": np.zeros((1, 3, 2))},
            r"^truth and predicted: expected the same shape \(N, K, 2\), got \(1, 2, 2\) and \(1, 3, 2\)$",
        ),
        ({"truth": np.zeros((1, 2)), "predicted": np.zeros((1, 2))}, r"^truth and predicted: expected the same shape"),
        ({"truth": np.zeros((1, 2, 3)), "predicted": np.zeros((1, 2, 3))}, r"^truth and predicted: expected the same"),
        (
            {"areas": [1.0, 1.0]},
            r"^visible, areas, sigmas: expected shapes \(1, 2\), \(1,\), \(2,\), got \(1, 2\), \(2,\), \(2,\)$",
        ),
        ({"sigmas": [1.0]}, r"^visible, areas, sigmas: expected shapes"),
        ({"visible": [True, True]}, r"^visible, areas, sigmas: expected shapes"),
        ({"areas": [0.0]}, r"^areas and sigmas: expected positive numbers$"),
        ({"sigmas": [0.1, 0.0]}, r"^areas and sigmas: expected positive numbers$"),
    ],
)
def test_object_keypoint_similarity_errors(changes: dict[str, Any], message: str) -> None:
    arguments = {
        "predicted": np.zeros((1, 2, 2)),
        "truth": np.zeros((1, 2, 2)),
        "visible": [[True, True]],
        "areas": [1.0],
        "sigmas": [0.1, 0.1],
    }
    with pytest.raises(ValueError, match=message):
        object_keypoint_similarity(**(arguments | changes))


def test_similarity_detections_on_paper() -> None:
    # Two keypoints that the target shows and one that it does not.
    found = similarity_detections([0.9, 0.4, np.nan], [0.5, 0.6, 0.8], [True, True, False])
    assert found.positives == 2
    assert found.confidence.tolist() == [0.9, 0.4, 0.5, 0.6, 0.8]
    assert found.correct.tolist() == [True, True, False, False, False]
    # In order: 0.9 right, 0.8, 0.6, 0.5 wrong, 0.4 right.
    assert found.average_precision() == pytest.approx((1.0 + 2 / 5) / 2)
    assert np.isnan(similarity_detections([0.0], [0.5], [False]).average_precision())


def test_similarity_detections_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    for _ in range(20):
        inside, outside = rng.integers(10, size=(2, 40)) / 10.0  # with ties
        shown = rng.random(40) < 0.7
        labels = np.concatenate([np.ones(shown.sum()), np.zeros(40)])
        expected = metrics.average_precision_score(labels, np.concatenate([inside[shown], outside]))
        assert similarity_detections(inside, outside, shown).average_precision() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("inside", "outside", "shown", "message"),
    [
        (
            [1.0],
            [1.0, 2.0],
            [True],
            r"^inside, outside, shown: expected three arrays of one shape \(M,\), got \(1,\), ",
        ),
        ([[1.0]], [[1.0]], [[True]], r"got \(1, 1\), \(1, 1\), \(1, 1\)$"),
        ([1.0, 2.0], [1.0], [True], r"got \(2,\), \(1,\), \(1,\)$"),
        ([np.nan], [1.0], [True], r"^inside, outside: expected finite similarities, got NaN or infinity$"),
        ([1.0], [np.inf], [False], r"^inside, outside: expected finite similarities"),
    ],
)
def test_similarity_detections_that_do_not_fit(inside: Any, outside: Any, shown: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        similarity_detections(inside, outside, shown)


def test_claims_that_prove_right_as_often_as_they_say_are_calibrated() -> None:
    claimed = np.repeat([0.25, 0.75], 8)
    right = np.array([True] * 2 + [False] * 6 + [True] * 6 + [False] * 2)
    assert calibration_error(claimed, right) == 0.0
    # Eight say 0.25 and are never right, eight say 0.75 and always are: each half is a quarter off.
    assert calibration_error(claimed, claimed > 0.5) == pytest.approx(0.25)
    # In one bin only the mean of all counts.
    assert calibration_error(claimed, claimed > 0.5, bins=1) == pytest.approx(0.0)
    assert calibration_error([1.0, 0.0], [True, False]) == 0.0
    assert calibration_error([0.31, 0.39, 0.99], [True, False, False]) == pytest.approx((0.3 + 0.99) / 3)
    assert np.isnan(calibration_error([], []))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [True, False]), r"\(D,\), got shapes \(1,\) and \(2,\)"),
        (([[0.5]], [[True]]), r"got shapes \(1, 1\)"),
        (([1.01], [True]), r"0\.\.1"),
        (([np.nan], [True]), "not be NaN"),
        (([0.5], [True], 0), "at least one bin, got 0"),
    ],
)
def test_claims_that_are_no_probabilities_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_error(*arguments)
