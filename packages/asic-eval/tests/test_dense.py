from __future__ import annotations

import math

import numpy as np
import pytest

from asic_eval import end_point_errors
from asic_eval.benchmarks.synthetic import draw_collection


def test_on_paper() -> None:
    truth = np.zeros((2, 2, 2))
    predicted = np.array([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 0.0], [np.nan, 0.0]]])
    counted = np.array([[True, True], [True, False]])
    errors = end_point_errors(predicted, truth, counted, [1.0, 4.9, 5.0])
    assert errors.total == 3
    assert errors.mean() == pytest.approx(2.0)
    assert errors.hits.tolist() == [2, 2, 3]
    assert errors.within() == pytest.approx([2 / 3, 2 / 3, 1.0])
    both = errors + errors
    assert (both.total, both.hits.tolist(), both.error_sum) == (6, [4, 4, 6], 12.0)
    assert both.tolerances.tolist() == [1.0, 4.9, 5.0]
    assert end_point_errors(predicted, truth, counted).tolerances.tolist() == [1.0, 3.0, 5.0]
    nothing = end_point_errors(predicted, truth, np.zeros((2, 2), bool))
    assert math.isnan(nothing.mean())
    assert np.isnan(nothing.within()).tolist() == [True] * 3
    with pytest.raises(
        ValueError, match=r"^DenseCounts: expected the same tolerances to add, got \[1\.0, 4\.9, 5\.0\] and "
    ):
        errors + nothing


def test_errors() -> None:
    message = r"^positions: expected two arrays of shape \(2, 2\), got \(2, 2\) and \(3, 2\)$"
    with pytest.raises(ValueError, match=message):
        end_point_errors(np.zeros((2, 2)), np.zeros((3, 2)), [True, True])
    with pytest.raises(
        ValueError, match=r"^positions: expected two arrays of shape \(3, 2\), got \(2, 2\) and \(2, 2\)$"
    ):
        end_point_errors(np.zeros((2, 2)), np.zeros((2, 2)), [True, True, True])
    message = r"^positions: expected finite numbers wherever a pixel counts, got NaN or infinity$"
    with pytest.raises(ValueError, match=message):
        end_point_errors(np.full((1, 2), np.inf), np.zeros((1, 2)), [True])


def test_truth_of_a_drawn_collection_has_no_error() -> None:
    collection = draw_collection(2, num_images=2, size=48)
    y, x = np.mgrid[:48, :48]
    moved, seen = collection.transfer(np.stack([x, y], axis=-1).reshape(-1, 2), 0, 1)
    assert end_point_errors(moved, moved, seen).mean() == 0.0
    assert seen.sum() > 50
