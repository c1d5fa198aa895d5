from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load

from asic_flow.matches import MatchSet


def example() -> MatchSet:
    return MatchSet(
        pairs=np.array([[0, 1], [0, 2]], np.int32),
        offsets=np.array([0, 2, 3]),
        xy_a=np.array([[1, 2], [3, 4], [5, 6]], np.float32),
        xy_b=np.array([[7, 8], [9, 10], [11, 12]], np.float32),
        score=np.array([0.5, 0.25, 1], np.float32),
        saliency=np.zeros(3, np.float32),
    )


def test_rows_belong_to_their_pairs() -> None:
    assert example().pair_of_match().tolist() == [0, 0, 1]
    assert len(example()) == 3


def test_bytes_round_trip_exactly_and_are_stable() -> None:
    again = MatchSet.from_arrays(load(example().to_bytes()))
    for field in dataclasses.fields(MatchSet):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(example(), field.name))
    assert again.to_bytes() == example().to_bytes()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pairs", np.array([[0, 1], [2, 2]], np.int32), "'pairs': expected indices"),
        ("pairs", np.array([[0, 1], [0, 2]], np.int64), "'pairs': expected int32"),
        ("offsets", np.array([0, 2]), "'offsets': expected 3 values"),
        ("offsets", np.array([0, 4, 3]), "never fall"),
        ("xy_a", np.zeros((2, 2), np.float32), "'xy_a': expected 3 rows"),
        ("xy_b", np.zeros((3, 3), np.float32), "'xy_b': expected float32"),
        ("score", np.array([0, np.nan, 0], np.float32), "'score': expected finite"),
    ],
)
def test_malformed_fields_are_named(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(example(), **{field: value})


def test_missing_and_superfluous_fields_are_refused() -> None:
    arrays = load(example().to_bytes())
    with pytest.raises(ValueError, match="expected the fields"):
        MatchSet.from_arrays({**arrays, "extra": arrays["score"]})
