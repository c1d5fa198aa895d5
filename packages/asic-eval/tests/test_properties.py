"""What must hold for any benchmark and any answer, and an oracle that counts one point at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from asic_eval import ImageKeypoints, KeypointBenchmark, all_pairs, pck, pck_dagger

ALPHAS = [0.05, 0.1, 0.2, 0.5]
# Quarters of a pixel: sums and halves are exact in binary, so that scaling by 2 changes no comparison.
COORDINATE = st.integers(-200, 600).map(lambda quarter: quarter / 4)


@st.composite
def problems(draw: st.DrawFn) -> tuple[KeypointBenchmark, np.ndarray]:
    """A benchmark of 2 to 4 images with 1 to 5 keypoints, and an answer to all its pairs."""
    num_images, num_keypoints = draw(st.integers(2, 4)), draw(st.integers(1, 5))
    images = []
    for index in range(num_images):
        points = draw(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=num_keypoints, max_size=num_keypoints))
        visible = draw(st.lists(st.booleans(), min_size=num_keypoints, max_size=num_keypoints))
        width, height = draw(st.integers(1, 400)) / 4, draw(st.integers(1, 400)) / 4
        box = (1.0, 2.0, 1.0 + width, 2.0 + height)
        images.append(ImageKeypoints(f"{index}.png", (100, 80), box, np.array(points), np.array(visible)))
    names = tuple(str(index) for index in range(num_keypoints))
    benchmark = KeypointBenchmark("drawn", names, tuple(images), all_pairs(num_images))
    count = len(benchmark.pairs) * num_keypoints
    errors = draw(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=count, max_size=count))
    near = np.array(errors).reshape(len(benchmark.pairs), num_keypoints, 2) / draw(st.sampled_from([1, 8, 64]))
    return benchmark, benchmark.points_image[benchmark.pairs[:, 1]] + near


def oracle(
    benchmark: KeypointBenchmark, predicted: np.ndarray, alphas: Sequence[float], inclusive: bool
) -> list[tuple[int, list[int]]]:
    """The definition, one point at a time and without numpy's arithmetic."""
    rows = []
    for pair, (source, target) in enumerate(benchmark.pairs.tolist()):
        start, end = benchmark.images[source], benchmark.images[target]
        left, top, right, bottom = end.box_xyxy or (0, 0, 0, 0)
        length = max(right - left, bottom - top)
        total, hits = 0, [0] * len(alphas)
        for keypoint in range(len(benchmark.keypoint_names)):
            if not (start.visible[keypoint] and end.visible[keypoint]):
                continue
            total += 1
            dx = float(predicted[pair, keypoint, 0]) - float(end.points_image[keypoint, 0])
            dy = float(predicted[pair, keypoint, 1]) - float(end.points_image[keypoint, 1])
            distance = math.sqrt(dx * dx + dy * dy)
            for index, alpha in enumerate(alphas):
                hits[index] += distance <= alpha * length if inclusive else distance < alpha * length
        rows.append((total, hits))
    return rows


@settings(deadline=None, max_examples=200)
@given(problems(), st.booleans())
def test_the_oracle_agrees(problem: tuple[KeypointBenchmark, np.ndarray], inclusive: bool) -> None:
    benchmark, predicted = problem
    counts = pck(predicted, benchmark, ALPHAS, inclusive=inclusive)
    rows = oracle(benchmark, predicted, ALPHAS, inclusive)
    assert counts.totals.tolist() == [total for total, _ in rows]
    assert counts.hits.tolist() == [hits for _, hits in rows]
    asked = [(total, hits) for total, hits in rows if total]
    for index in range(len(ALPHAS)):
        if asked:
            point = sum(hits[index] for _, hits in asked) / sum(total for total, _ in asked)
            image = sum(hits[index] / total for total, hits in asked) / len(asked)
            assert counts.per_point()[index] == point
            assert math.isclose(counts.per_image()[index], image)


@settings(deadline=None, max_examples=100)
@given(problems())
def test_ratios_are_ratios_and_grow_with_alpha(problem: tuple[KeypointBenchmark, np.ndarray]) -> None:
    benchmark, predicted = problem
    for counts in (pck(predicted, benchmark, ALPHAS), pck_dagger(predicted, benchmark, ALPHAS)):
        assert (np.diff(counts.hits, axis=1) >= 0).all()
        assert (counts.hits <= counts.totals[:, None]).all()
        for ratios in (counts.per_point(), counts.per_image()):
            assert np.isnan(ratios).all() or ((ratios >= 0) & (ratios <= 1)).all()
    strict = pck(predicted, benchmark, ALPHAS, inclusive=False)
    assert (strict.hits <= pck(predicted, benchmark, ALPHAS).hits).all()
    assert (pck_dagger(predicted, benchmark, ALPHAS).hits <= pck(predicted, benchmark, ALPHAS).hits).all()


@settings(deadline=None, max_examples=100)
@given(problems(), st.sampled_from([0.25, 2.0, 8.0]))
def test_scale_does_not_matter(problem: tuple[KeypointBenchmark, np.ndarray], scale: float) -> None:
    benchmark, predicted = problem
    scaled = replace(
        benchmark,
        images=tuple(
            replace(
                image,
                points_image=image.points_image * scale,
                box_xyxy=tuple(scale * edge for edge in image.box_xyxy or ()),
            )
            for image in benchmark.images
        ),
    )
    assert np.array_equal(pck(predicted * scale, scaled, ALPHAS).hits, pck(predicted, benchmark, ALPHAS).hits)


@settings(deadline=None, max_examples=100)
@given(problems(), st.randoms(use_true_random=False))
def test_order_does_not_matter(problem: tuple[KeypointBenchmark, np.ndarray], random: object) -> None:
    benchmark, predicted = problem
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    pairs, keypoints = rng.permutation(len(benchmark.pairs)), rng.permutation(len(benchmark.keypoint_names))
    shuffled = KeypointBenchmark(
        benchmark.name,
        benchmark.keypoint_names,
        tuple(
            replace(image, points_image=image.points_image[keypoints], visible=image.visible[keypoints])
            for image in benchmark.images
        ),
        benchmark.pairs[pairs],
    )
    before = pck(predicted, benchmark, ALPHAS)
    after = pck(predicted[pairs][:, keypoints], shuffled, ALPHAS)
    assert np.array_equal(after.hits, before.hits[pairs])
    assert np.array_equal(after.totals, before.totals[pairs])


@settings(deadline=None, max_examples=100)
@given(problems(), st.integers(1, 3))
def test_padding_does_not_matter(problem: tuple[KeypointBenchmark, np.ndarray], extra: int) -> None:
    benchmark, predicted = problem
    padded = KeypointBenchmark(
        benchmark.name,
        (*benchmark.keypoint_names, *"xyz"[:extra]),
        tuple(
            replace(
                image,
                points_image=np.concatenate([image.points_image, np.full((extra, 2), -1.0)]),
                visible=np.concatenate([image.visible, np.zeros(extra, bool)]),
            )
            for image in benchmark.images
        ),
        benchmark.pairs,
    )
    with_padding = np.concatenate([predicted, np.full((len(predicted), extra, 2), -1.0)], axis=1)
    before, after = pck(predicted, benchmark, ALPHAS), pck(with_padding, padded, ALPHAS)
    assert np.array_equal(after.hits, before.hits)
    assert np.array_equal(after.totals, before.totals)


@settings(deadline=None, max_examples=100)
@given(problems(), st.integers(0, 12))
def test_shards_add_up(problem: tuple[KeypointBenchmark, np.ndarray], cut: int) -> None:
    benchmark, predicted = problem
    parts = [
        pck(predicted[part], replace(benchmark, pairs=benchmark.pairs[part]), ALPHAS)
        for part in (slice(None, cut), slice(cut, None))
    ]
    whole, merged = pck(predicted, benchmark, ALPHAS), parts[0] + parts[1]
    assert np.array_equal(merged.per_point(), whole.per_point(), equal_nan=True)
    assert np.array_equal(merged.per_image(), whole.per_image(), equal_nan=True)


@settings(deadline=None, max_examples=50)
@given(problems())
def test_json_keeps_every_number(problem: tuple[KeypointBenchmark, np.ndarray]) -> None:
    benchmark, predicted = problem
    again = KeypointBenchmark.from_json(benchmark.to_json(), file="f")
    assert np.array_equal(pck(predicted, again, ALPHAS).hits, pck(predicted, benchmark, ALPHAS).hits)
