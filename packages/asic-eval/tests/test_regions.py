from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from asic_eval import (
    adjusted_rand_index,
    contingency,
    label_transfer,
    mask_iou,
    normalised_mutual_information,
)
from asic_eval.regions import IouCounts, LabelCounts


def test_masks_on_paper() -> None:
    truth = np.zeros((3, 2, 4), dtype=bool)
    found = truth.copy()
    truth[0, 0, :] = True  # 4 pixels
    found[0, :, :2] = True  # 4 pixels, 2 in common
    truth[1, 0, 0] = found[1, 0, 0] = True
    counts = mask_iou(found, truth)
    assert counts.intersection.tolist() == [2, 1, 0]
    assert counts.union.tolist() == [6, 1, 0]
    assert counts.per_image() == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert counts.per_pixel() == pytest.approx(3 / 7)
    assert mask_iou(~found[1:2] & truth[1:2], truth[1:2]).per_image() == 0.0
    both = counts + mask_iou(found[:1], truth[:1])
    assert (both.intersection.tolist(), both.union.tolist()) == ([2, 1, 0, 2], [6, 1, 0, 6])
    assert math.isnan(mask_iou(found[2:], truth[2:]).per_pixel())
    assert math.isnan(IouCounts(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)).per_image())


@pytest.mark.parametrize(
    ("found", "true"),
    [
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 3), bool)),
        (np.zeros((2, 2), bool), np.zeros((2, 2), bool)),
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool)),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), np.uint8)),
    ],
)
def test_mask_errors(found: np.ndarray, true: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^masks: expected truth values of the same shape \(N, H, W\), got \w+ \("):
        mask_iou(found, true)


def test_labels_on_paper() -> None:
    truth = np.array([[0, 0, 1], [1, 2, -1]])
    found = np.array([[0, 1, 1], [1, 0, 7]])
    counts = label_transfer(found, truth, 4)
    assert counts.confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert counts.accuracy() == 3 / 5
    assert counts.iou()[:3] == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert math.isnan(counts.iou()[3])
    assert counts.mean_iou() == pytest.approx(1 / 3)
    assert (counts + counts).confusion.sum() == 10
    assert label_transfer([0, 1], [0, 1], 2).iou().tolist() == [1.0, 1.0]
    assert label_transfer([1], [0], 2).iou().tolist() == [0.0, 0.0]
    empty = LabelCounts(np.zeros((2, 2), dtype=np.int64))
    assert math.isnan(empty.accuracy())
    assert math.isnan(empty.mean_iou())


@pytest.mark.parametrize(
    ("found", "true", "message"),
    [
        ([0], [0, 1], r"^labels: expected the same shape, got \(1,\) and \(2,\)$"),
        ([3], [0], r"^labels: expected 0 to 2, got 3 to 3 against up to 0$"),
        ([0], [3], r"^labels: expected 0 to 2, got 0 to 0 against up to 3$"),
        ([-1], [0], r"^labels: expected 0 to 2, got -1 to -1 against up to 0$"),
        ([0.0], [0], r"^predicted: expected whole numbers, got float64$"),
        ([0], [0.5], r"^truth: expected whole numbers, got float64$"),
    ],
)
def test_label_errors(found: list[float], true: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_transfer(found, true, 3)
    assert label_transfer([2], [2], 3).accuracy() == 1.0


def test_contingency() -> None:
    assert contingency([0, 0, 1, 1], [2, 2, 0, 2]).tolist() == [[0, 0, 2], [1, 0, 1]]
    assert contingency(np.zeros((0,), int), np.zeros((0,), int)).shape == (0, 0)
    assert contingency([[0, 1]], [[1, 0]]).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match=r"^labels: expected the same shape, got \(1,\) and \(2,\)$"):
        contingency([0], [0, 1])
    with pytest.raises(ValueError, match=r"^labels: expected at least 0; leave out what is not labelled$"):
        contingency([0, -1], [0, 1])
    with pytest.raises(ValueError, match=r"^labels: expected at least 0"):
        contingency([0, 1], [0, -1])
    with pytest.raises(ValueError, match=r"^first: expected whole numbers, got float64$"):
        contingency([0.0], [0])
    with pytest.raises(ValueError, match=r"^second: expected whole numbers, got float64$"):
        contingency([0], [0.0])


def brute_force_rand(first: list[int], second: list[int]) -> float:
    """The definition, pair by pair of elements."""
    together = [(first[i] == first[j], second[i] == second[j]) for i, j in itertools.combinations(range(len(first)), 2)]
    both = sum(a and b for a, b in together)
    one, other = sum(a for a, _ in together), sum(b for _, b in together)
    expected = one * other / len(together)
    return (both - expected) / ((one + other) / 2 - expected)


def test_partitions_on_paper() -> None:
    same = contingency([0, 0, 1, 1], [1, 1, 0, 0])
    assert normalised_mutual_information(same) == pytest.approx(1.0)
    assert adjusted_rand_index(same) == pytest.approx(1.0)
    independent = contingency([0, 0, 1, 1], [0, 1, 0, 1])
    assert normalised_mutual_information(independent) == pytest.approx(0.0)
    assert adjusted_rand_index(independent) == pytest.approx(-0.5)
    # Mutual information ln 2 of entropies ln 2 and ln 4.
    finer = contingency([0, 0, 1, 1], [0, 1, 2, 3])
    assert normalised_mutual_information(finer) == pytest.approx(2 / 3)
    assert adjusted_rand_index(finer) == pytest.approx(0.0)
    # Nine of ten in one cluster on either side: an entropy of 0.325 each.
    uneven = contingency([0] * 9 + [1], [1] * 9 + [0])
    assert normalised_mutual_information(uneven) == pytest.approx(1.0)
    coarse = contingency([0] * 9 + [1], [0] * 8 + [1, 1])
    rows, columns = (np.array([0.9, 0.1]), np.array([0.8, 0.2]))
    entropies = sum(-(share * np.log(share)).sum() for share in (rows, columns))
    mutual = 0.8 * np.log(0.8 / 0.72) + 0.1 * np.log(0.1 / 0.18) + 0.1 * np.log(0.1 / 0.02)
    assert entropies < 1.0
    assert normalised_mutual_information(coarse) == pytest.approx(2 * mutual / entropies)
    single = contingency([0, 0], [0, 0])
    assert normalised_mutual_information(single) == 1.0
    assert adjusted_rand_index(single) == 1.0
    assert math.isnan(adjusted_rand_index(contingency([0], [0])))
    assert math.isnan(normalised_mutual_information(np.zeros((0, 0))))


def test_rand_index_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        first, second = rng.integers(3, size=12).tolist(), rng.integers(4, size=12).tolist()
        assert adjusted_rand_index(contingency(first, second)) == pytest.approx(brute_force_rand(first, second))
        value = normalised_mutual_information(contingency(first, second))
        assert 0.0 <= value <= 1.0
        assert value == pytest.approx(normalised_mutual_information(contingency(second, first)))
