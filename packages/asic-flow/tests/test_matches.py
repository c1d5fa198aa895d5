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
        support=np.array([0, 3, 1], np.int32),
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
        ("support", np.array([0, -1, 0], np.int32), "'support': expected 0 or more photos"),
        ("support", np.zeros(2, np.int32), "'support': expected 3 rows"),
        ("support", np.zeros(3, np.int64), "'support': expected int32"),
    ],
)
def test_malformed_fields_are_named(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(example(), **{field: value})


def test_missing_and_superfluous_fields_are_refused() -> None:
    arrays = load(example().to_bytes())
    with pytest.raises(ValueError, match="expected the fields"):
        MatchSet.from_arrays({**arrays, "extra": arrays["score"]})
    del arrays["support"]
    with pytest.raises(ValueError, match="expected the fields"):
        MatchSet.from_arrays(arrays)


def test_confidence_by_hand() -> None:
    # No third photo is matched with both ends of either pair: similarity alone speaks.
    np.testing.assert_allclose(example().confidence(), example().score)
    triangle = dataclasses.replace(
        example(),
        pairs=np.array([[4, 7], [4, 9], [7, 9], [4, 8], [8, 9]], np.int32),
        offsets=np.array([0, 1, 2, 2, 3, 3]),
    )
    # One third photo for the first pair, 8 and 7 for the second; more than there are is as good as all.
    np.testing.assert_allclose(triangle.confidence(), [(0 + 0.5) / 2, (2 + 0.25) / 3, (1 + 1) / 2])
    assert triangle.confidence().dtype == np.float32
    below_zero = dataclasses.replace(example(), score=np.full(3, -0.5, np.float32))
    assert below_zero.confidence().tolist() == [0, 0, 0]


def test_what_third_photos_could_confirm_is_doubted_for_each_of_them() -> None:
    # The pair (0, 1) is matched with three third photos each, (0, 2) with one, (5, 6) with none.
    pairs = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [5, 6]], np.int32)
    of_pair = [0, 0, 1, 7]
    matches = dataclasses.replace(
        example(),
        pairs=pairs,
        offsets=np.searchsorted(of_pair, np.arange(len(pairs) + 1)),
        **{name: np.zeros((4, 2), np.float32) for name in ("xy_a", "xy_b")},
        score=np.array([0.8, 0.8, 0.4, 0.2], np.float32),
        saliency=np.zeros(4, np.float32),
        support=np.array([0, 1, 0, 0], np.int32),
    )
    doubted = matches.doubted(0.5)
    np.testing.assert_allclose(doubted.score, [0.8 * 0.5**3, 0.8, 0.4 * 0.5, 0.2])
    assert doubted.score.dtype == np.float32
    np.testing.assert_array_equal(matches.doubted(1.0).score, matches.score)
    np.testing.assert_allclose(matches.doubted(0.0).score, [0, 0.8, 0, 0.2])


def test_some_pairs_alone() -> None:
    second = example().of_pairs(1, 2)
    assert (second.pairs.tolist(), second.offsets.tolist()) == ([[0, 2]], [0, 1])
    assert second.xy_b.tolist() == [[11, 12]]
    assert len(example().of_pairs(1, 1)) == 0
    halves = [example().of_pairs(0, 1), second]
    assert MatchSet.concatenate(halves).to_bytes() == example().to_bytes()


def test_sets_follow_one_another() -> None:
    both = MatchSet.concatenate([example(), example()])
    assert both.offsets.tolist() == [0, 2, 3, 5, 6]
    assert both.pairs.tolist() == example().pairs.tolist() * 2
    assert both.support.tolist() == [0, 3, 1, 0, 3, 1]
    assert MatchSet.concatenate([example()]).to_bytes() == example().to_bytes()
