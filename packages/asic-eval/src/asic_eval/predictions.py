"""`predictions.npz`: what a method answered, in a file that any language can write and this package scores.

The file is a zip of `.npy` arrays (no pickles). It holds

- `format`: the string `asic-eval predictions`; `version`: 1; `method`: the method's name; `seed`: a whole number or -1;
- `categories`: (C,) strings, one or more;
- for category number c: `source_c`, `target_c`: (P,) strings, the image names of each pair; `points_c`: (P, K, 2) xy in
  the target photo's own pixels, NaN where there is no answer; if there are any, `confidence_c`: (P, K), and
  `mirrored_c`: (P,) truth values, pairs to be scored with left and right swapped in the mirror-aware score.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.arrays import Arrays, read_arrays, write_arrays
from asic_eval.fields import AnnotationError
from asic_eval.keypoints import KeypointBenchmark

FORMAT = "asic-eval predictions"
VERSION = 1


@dataclass(frozen=True, eq=False)
class CategoryPredictions:
    """The answers for one category.

    Args:
        source: P names of source images.
        target: P names of target images.
        points: (P, K, 2) xy in the target photo's pixels; NaN: no answer.
        confidence: (P, K), or None.
        mirrored: (P,) pairs for the mirror-aware score, or None.
    """

    source: Sequence[str]
    target: Sequence[str]
    points: NDArray[np.float64]
    confidence: NDArray[np.float64] | None = None
    mirrored: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        benchmark: KeypointBenchmark,
        points: ArrayLike,
        confidence: ArrayLike | None = None,
        mirrored: ArrayLike | None = None,
    ) -> CategoryPredictions:
        """The answers to a benchmark's pairs, in its order."""
        source, target = _names(benchmark)
        return cls(
            source=source,
            target=target,
            points=np.asarray(points, dtype=np.float64),
            confidence=None if confidence is None else np.asarray(confidence, dtype=np.float64),
            mirrored=None if mirrored is None else np.asarray(mirrored, dtype=np.bool_),
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a method answered.

    Args:
        method: The method's name.
        categories: The answers by category.
        seed: The seed of the run, or None.
    """

    method: str
    categories: Mapping[str, CategoryPredictions]
    seed: int | None = None


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes a prediction file atomically."""
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "method": np.array(predictions.method),
        "seed": np.array(-1 if predictions.seed is None else predictions.seed),
        "categories": np.array(list(predictions.categories), dtype=np.str_),
    }
    for index, category in enumerate(predictions.categories.values()):
        arrays[f"source_{index}"] = np.array(list(category.source), dtype=np.str_)
        arrays[f"target_{index}"] = np.array(list(category.target), dtype=np.str_)
        arrays[f"points_{index}"] = np.asarray(category.points, dtype=np.float64)
        if category.confidence is not None:
            arrays[f"confidence_{index}"] = np.asarray(category.confidence, dtype=np.float64)
        if category.mirrored is not None:
            arrays[f"mirrored_{index}"] = np.asarray(category.mirrored, dtype=np.bool_)
    write_arrays(path, arrays)


def read_predictions(path: Path) -> Predictions:
    """Reads a prediction file.

    Raises:
        AnnotationError: The file is missing or malformed, or of another version.
    """
    arrays = read_arrays(path)
    if arrays.text("format") != FORMAT:
        raise arrays.error("format", f"expected {FORMAT!r}, got {reprlib.repr(arrays.text('format'))}")
    if (version := arrays.whole_numbers("version", (), low=0)) != VERSION:
        raise arrays.error(
            "version", f"expected {VERSION}, got {version}; another version of asic-eval wrote this file"
        )
    names = arrays.texts("categories", (None,))
    if len(set(names)) != len(names) or not names:
        raise arrays.error("categories", f"expected one or more different names, got {reprlib.repr(names)}")
    seed = int(arrays.whole_numbers("seed", (), low=-1))
    categories = {name: _category(arrays, index) for index, name in enumerate(names)}
    return Predictions(arrays.text("method"), categories, None if seed < 0 else seed)


def _category(arrays: Arrays, index: int) -> CategoryPredictions:
    points = arrays.numbers(f"points_{index}", (None, None, 2))
    pairs = len(points)
    confidence, mirrored = f"confidence_{index}", f"mirrored_{index}"
    return CategoryPredictions(
        source=arrays.texts(f"source_{index}", (pairs,)),
        target=arrays.texts(f"target_{index}", (pairs,)),
        points=points,
        confidence=arrays.numbers(confidence, points.shape[:2]) if arrays.has(confidence) else None,
        mirrored=arrays.flags(mirrored, (pairs,)) if arrays.has(mirrored) else None,
    )


def _names(benchmark: KeypointBenchmark) -> tuple[list[str], list[str]]:
    """The names of the pairs' source images, and of their target images."""
    source, target = ([benchmark.images[index].name for index in ends] for ends in benchmark.pairs.T)
    return source, target


def in_order_of(benchmark: KeypointBenchmark, category: CategoryPredictions, *, file: str) -> CategoryPredictions:
    """The answers in the order of a benchmark's pairs.

    A pair that was drawn twice needs one answer. Where a benchmark asks different things of the same photos, as
    PF-PASCAL's lists may, there must be as many answers to each pair as it asks for, and no others; they are taken in
    their order.

    Args:
        benchmark: Whose pairs are asked for.
        category: The answers, in any order, and maybe to more pairs.
        file: The prediction file's name, for errors.

    Raises:
        AnnotationError: A pair has no answer, two, or fewer than are asked for, or the number of keypoints differs.
    """
    num_keypoints = len(benchmark.keypoint_names)
    if category.points.shape[1] != num_keypoints:
        raise AnnotationError(
            file, benchmark.name, f"expected {num_keypoints} keypoints a pair, got {category.points.shape[1]}"
        )
    source, target = _names(benchmark)
    given = list(zip(category.source, category.target, strict=True))
    wanted = list(zip(source, target, strict=True))
    if given == wanted:
        return category
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(given):
        rows_of.setdefault(pair, []).append(row)
    for pair in wanted:
        if pair not in rows_of:
            raise AnnotationError(file, benchmark.name, f"expected an answer for {pair[0]!r} -> {pair[1]!r}, got none")
    if Counter(given) == Counter(wanted):
        next_row = {pair: iter(rows) for pair, rows in rows_of.items()}
        rows = [next(next_row[pair]) for pair in wanted]
    elif len(rows_of) < len(given):
        raise AnnotationError(file, benchmark.name, "expected each pair once, or as often as the benchmark has it")
    else:
        question_of: dict[tuple[str, str], tuple[int, int]] = {}
        for pair, question in zip(wanted, map(tuple, benchmark.pairs.tolist()), strict=True):
            if question_of.setdefault(pair, question) != question:
                problem = f"expected as many answers for {pair[0]!r} -> {pair[1]!r} as the benchmark has, got one"
                raise AnnotationError(file, benchmark.name, problem)
        rows = [rows_of[pair][0] for pair in wanted]
    return CategoryPredictions(
        source,
        target,
        category.points[rows],
        None if category.confidence is None else category.confidence[rows],
        None if category.mirrored is None else category.mirrored[rows],
    )
