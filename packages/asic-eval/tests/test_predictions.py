from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import (
    AnnotationError,
    CategoryPredictions,
    KeypointBenchmark,
    Predictions,
    read_predictions,
    write_predictions,
)
from asic_eval.arrays import read_arrays, write_arrays
from asic_eval.keypoints import ImageKeypoints, benchmark_of_point_pairs
from asic_eval.predictions import in_order_of


def answers(benchmark: KeypointBenchmark, **more: Any) -> CategoryPredictions:
    return CategoryPredictions.of(benchmark, np.arange(48.0).reshape(6, 4, 2), **more)


@pytest.mark.parametrize("more", [{}, {"confidence": np.ones((6, 4)), "mirrored": [1, 0, 1, 0, 1, 0]}])
@pytest.mark.parametrize("seed", [None, 0, 3])
def test_round_trip(tmp_path: Path, benchmark: KeypointBenchmark, more: dict[str, Any], seed: int | None) -> None:
    original = Predictions("ours", {"cat": answers(benchmark, **more), "dog": answers(benchmark)}, seed)
    write_predictions(tmp_path / "p.npz", original)
    again = read_predictions(tmp_path / "p.npz")
    assert (again.method, again.seed, list(again.categories)) == ("ours", seed, ["cat", "dog"])
    cat = again.categories["cat"]
    assert list(cat.source) == ["a/0.png", "a/0.png", "a/1.png", "a/1.png", "a/2.png", "a/2.png"]
    assert list(cat.target) == ["a/1.png", "a/2.png", "a/0.png", "a/2.png", "a/0.png", "a/1.png"]
    assert np.array_equal(cat.points, original.categories["cat"].points)
    assert (cat.confidence is None) == (cat.mirrored is None) == (not more)
    if cat.mirrored is not None and cat.confidence is not None:
        assert cat.mirrored.tolist() == [True, False] * 3
        assert cat.confidence.shape == (6, 4)
    assert again.categories["dog"].confidence is None


def test_the_file_is_what_the_docstring_says(tmp_path: Path, benchmark: KeypointBenchmark) -> None:
    write_predictions(tmp_path / "p.npz", Predictions("ours", {"cat": answers(benchmark)}))
    arrays = read_arrays(tmp_path / "p.npz").values
    assert sorted(arrays) == ["categories", "format", "method", "points_0", "seed", "source_0", "target_0", "version"]
    assert str(arrays["format"]) == "asic-eval predictions"
    assert int(arrays["version"]) == 1
    assert int(arrays["seed"]) == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": np.array("x")}, r"p\.npz: array 'format': expected 'asic-eval predictions', got 'x'$"),
        ({"version": np.array(2)}, r"p\.npz: array 'version': expected 1, got 2; another version of asic-eval wrote"),
        ({"version": np.array(1.0)}, r"p\.npz: array 'version': expected whole numbers of shape \(\), got float64"),
        (
            {"categories": np.array(["a", "a"])},
            r"array 'categories': expected one or more different names, got \['a', 'a'\]$",
        ),
        (
            {"categories": np.array(["a" * 99] * 99)},
            r"expected one or more different names, got \['aaaaaaaaaaaa\.\.\.aaaaaaaaaaaaa'(, '[a.]+'){5}, \.\.\.\]$",
        ),
        ({"format": np.array("x" * 99)}, r"expected 'asic-eval predictions', got 'xxxxxxxxxxxx\.\.\.xxxxxxxxxxxxx'$"),
        ({"categories": np.zeros(0, "U1")}, r"array 'categories': expected one or more different names, got \[\]$"),
        ({"categories": np.array(["a", "b"])}, r"array 'points_1': expected an array, got none of this name$"),
        ({"seed": np.array(-2)}, r"array 'seed': expected whole numbers from -1, got -2 to -2$"),
        ({"source_0": np.array(["a"])}, r"array 'source_0': expected strings of shape \(6\), got <U1 of shape \(1,\)$"),
        ({"target_0": np.zeros(6)}, r"array 'target_0': expected strings of shape \(6\), got float64"),
        ({"points_0": np.zeros((6, 4))}, r"array 'points_0': expected numbers of shape \(any, any, 2\), got float64"),
        ({"confidence_0": np.zeros((6, 3))}, r"array 'confidence_0': expected numbers of shape \(6, 4\), got float64"),
        ({"mirrored_0": np.zeros(6)}, r"array 'mirrored_0': expected truth values of shape \(6\), got float64"),
    ],
)
def test_malformed_files(
    tmp_path: Path, benchmark: KeypointBenchmark, changes: dict[str, np.ndarray], message: str
) -> None:
    write_predictions(tmp_path / "p.npz", Predictions("ours", {"cat": answers(benchmark)}))
    arrays = dict(read_arrays(tmp_path / "p.npz").values) | changes
    write_arrays(tmp_path / "p.npz", arrays)
    with pytest.raises(AnnotationError, match=message):
        read_predictions(tmp_path / "p.npz")


def test_answers_may_come_in_any_order_and_to_more_pairs(benchmark: KeypointBenchmark) -> None:
    given = answers(benchmark, confidence=np.arange(24.0).reshape(6, 4), mirrored=[1, 0, 0, 0, 0, 0])
    assert in_order_of(benchmark, given, file="p") is given
    fewer = replace(benchmark, pairs=benchmark.pairs[[4, 0]])
    ordered = in_order_of(fewer, given, file="p")
    assert np.array_equal(ordered.points, given.points[[4, 0]])
    assert list(ordered.source) == ["a/2.png", "a/0.png"]
    assert list(ordered.target) == ["a/0.png", "a/1.png"]
    assert ordered.confidence is not None
    assert ordered.confidence[:, 0].tolist() == [16.0, 0.0]
    assert ordered.mirrored is not None
    assert ordered.mirrored.tolist() == [False, True]
    plain = in_order_of(fewer, answers(benchmark), file="p")
    assert plain.confidence is None
    assert plain.mirrored is None


def test_answers_that_do_not_fit(benchmark: KeypointBenchmark) -> None:
    given = answers(benchmark)
    with pytest.raises(AnnotationError, match=r"^p: hand-made: expected 4 keypoints a pair, got 3$"):
        in_order_of(benchmark, CategoryPredictions(given.source, given.target, given.points[:, :3]), file="p")
    short = CategoryPredictions(given.source[1:], given.target[1:], given.points[1:])
    with pytest.raises(
        AnnotationError, match=r"^p: hand-made: expected an answer for 'a/0\.png' -> 'a/1\.png', got none$"
    ):
        in_order_of(benchmark, short, file="p")
    twice = CategoryPredictions(
        [*given.source, "a/0.png"], [*given.target, "a/1.png"], np.concatenate([given.points, given.points[:1]])
    )
    message = r"^p: hand-made: expected each pair once, or as often as the benchmark has it$"
    with pytest.raises(AnnotationError, match=message):
        in_order_of(benchmark, twice, file="p")
    repeated = replace(benchmark, pairs=benchmark.pairs[[3, 0, 3]])  # as drawn pairs may be
    assert np.array_equal(in_order_of(repeated, given, file="p").points, given.points[[3, 0, 3]])
    repeated = replace(benchmark, pairs=benchmark.pairs[[0, 0]])
    own = CategoryPredictions.of(repeated, np.zeros((2, 4, 2)))
    assert in_order_of(repeated, own, file="p") is own


def test_pairs_that_a_list_has_twice() -> None:
    """As in PF-PASCAL, two pairs of the same photos with other keypoints are two questions."""

    def end(name: str, x: float) -> ImageKeypoints:
        return ImageKeypoints(name, (9, 9), None, [[x, x]], [True])

    ends = [(end("a", 1), end("b", 2)), (end("a", 3), end("b", 4)), (end("c", 5), end("d", 6))]
    listed = benchmark_of_point_pairs("pf", ends, ("0",))
    right = CategoryPredictions.of(listed, listed.points_image[listed.pairs[:, 1]])
    assert in_order_of(listed, right, file="p") is right

    def rows(*chosen: int) -> CategoryPredictions:
        names = ([side[row] for row in chosen] for side in (right.source, right.target))
        return CategoryPredictions(*names, right.points[list(chosen)])

    for order in ((2, 0, 1), (0, 2, 1)):
        ordered = in_order_of(listed, rows(*order), file="p")
        assert np.array_equal(ordered.points, right.points)
        assert (list(ordered.source), list(ordered.target)) == (["a", "a", "c"], ["b", "b", "d"])
    for fewer in ((0, 2), (2, 1)):
        with pytest.raises(
            AnnotationError, match=r"^p: pf: expected as many answers for 'a' -> 'b' as the benchmark has, got one$"
        ):
            in_order_of(listed, rows(*fewer), file="p")
    for other in ((0, 1, 1, 2), (0, 1, 2, 2)):
        with pytest.raises(AnnotationError, match=r"^p: pf: expected each pair once, or as often as the benchmark has"):
            in_order_of(listed, rows(*other), file="p")
