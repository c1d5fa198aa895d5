from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asic_eval import PROTOCOLS, ImageKeypoints, KeypointBenchmark, cycle_pck, get_protocol, pck, threshold_lengths
from asic_eval.protocols import keep_last_pairs_keypoints, published_cycle_lengths, published_cycle_pck

SETTINGS = {
    "spair-official": ("box", True, "per_image", "micro"),
    "spair-dift": ("box", True, "per_point", "micro"),
    "spair-geoaware": ("box", False, "per_image", "micro"),
    "spair-per-point": ("box", False, "per_point", "macro"),
    "cub-asic-256": ("crop", False, "per_point", "macro"),
    "pf-pascal": ("image", True, "per_image", "micro"),
    "pf-pascal-square": ("square", True, "per_image", "micro"),
    "pf-willow": ("keypoints", True, "per_image", "micro"),
    "ap10k": ("box", False, "per_image", "micro"),
    "box-per-point": ("box", True, "per_point", "macro"),
    "image-per-point": ("image", True, "per_point", "macro"),
    "asic-published": ("box", False, "per_point", "macro"),
}


def test_every_protocol_is_pinned() -> None:
    assert set(PROTOCOLS) == set(SETTINGS)
    for name, setting in SETTINGS.items():
        protocol = get_protocol(name)
        assert protocol.name == name
        assert (protocol.length, protocol.inclusive, protocol.aggregate, protocol.over_categories) == setting
        assert protocol.headline_alpha == 0.10
        assert protocol.headline_alpha in protocol.alphas
        assert protocol.source.endswith((".", ".)"))
        assert bool(protocol.faults) == (name == "asic-published")
        assert protocol.keypoints == ("last_pair" if name == "asic-published" else "pair")
    for name in ("pf-pascal", "pf-pascal-square", "pf-willow"):
        assert get_protocol(name).alphas == (0.05, 0.10, 0.15)
    assert get_protocol("ap10k").alphas == (0.01, 0.05, 0.10)
    assert get_protocol("spair-official").alphas == (*(i / 100 for i in range(1, 11)), 0.15, 0.20)


def test_unknown_protocol() -> None:
    with pytest.raises(ValueError, match=r"^protocol: expected one of spair-official, .*, asic-published, got 'pck'$"):
        get_protocol("pck")


def test_lengths(benchmark: KeypointBenchmark) -> None:
    assert get_protocol("spair-official").lengths(benchmark).tolist() == [40, 100, 10]
    assert get_protocol("pf-pascal").lengths(benchmark).tolist() == [200, 200, 200]
    assert get_protocol("pf-willow").lengths(benchmark).tolist() == [30, 85, 2]
    assert get_protocol("cub-asic-256").lengths(benchmark) == pytest.approx([44, 110, 11])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_border_and_the_length_are_the_protocols(name: str) -> None:
    # Lengths of 64 (box, image, keypoints) and 70.4 (crop); alpha 0.10 of them.
    box = (0.0, 0.0, 64.0, 32.0)
    image = ImageKeypoints("a.png", (32, 64), box, [[0.0, 0.0], [64.0, 0.0]], [True, True])
    pair = KeypointBenchmark("pair", ("p", "q"), (image, replace(image, name="b.png")), np.array([[0, 1]]))
    protocol = get_protocol(name)
    length = 1.1 * 64.0 if protocol.length == "crop" else 64.0
    if protocol.length == "square":
        length = 32.0
        assert protocol.lengths(pair).tolist() == [[64.0, 32.0]] * 2
    else:
        assert protocol.lengths(pair).tolist() == [length, length]
    index = protocol.alphas.index(0.10)

    def hits(shift: float) -> int:
        # Straight down from y = 0, so that the distance is the shift, to the last bit.
        return int(protocol.score(image.points_image[None] + np.array([0.0, shift]), pair).hits[0, index])

    assert hits(0.0999 * length) == 2
    assert hits(0.10 * length) == (2 if protocol.inclusive else 0)
    assert hits(0.1001 * length) == 0


def test_scores_follow_the_setting(benchmark: KeypointBenchmark) -> None:
    predicted = np.where(benchmark.asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], np.nan)
    border = (
        predicted + np.array([0.1 * 1, 0.0]) * threshold_lengths(benchmark, "box")[benchmark.pairs[:, 1], None, None]
    )
    index = get_protocol("spair-dift").alphas.index(0.10)
    close = get_protocol("spair-dift").score(predicted + 0.0, benchmark)
    assert close.per_point()[index] == 1.0
    assert get_protocol("spair-per-point").score(border, benchmark).per_point()[index] < 1.0
    assert get_protocol("pf-pascal").score(border, benchmark).per_point()[1] == 1.0
    lost = predicted.copy()
    lost[0] = np.nan
    with pytest.raises(ValueError, match=r"^predicted: expected a finite position for keypoint 0 of pair 0"):
        get_protocol("spair-dift").score(lost, benchmark)
    assert get_protocol("spair-dift").score(lost, benchmark, missing="miss").hits[0].sum() == 0
    swapped = get_protocol("spair-dift").score(lost, benchmark, missing="miss", mirrored=np.ones(6))
    assert not np.array_equal(swapped.hits, close.hits)


def test_the_published_code_keeps_the_last_pairs_keypoints(benchmark: KeypointBenchmark) -> None:
    # Pairs in order: 01 02 10 12 20 21. The last pair of 0 is 20 (nose, eyes), of 1 and 2 it is 21 (nose, left eye).
    kept = keep_last_pairs_keypoints(benchmark)
    asked = dict(zip(map(tuple, kept.pairs.tolist()), kept.asked.tolist(), strict=True))
    assert asked[0, 1] == [True, True, False, False]
    assert asked[0, 2] == [True, True, False, False]
    assert asked[2, 1] == [True, True, False, False]
    assert benchmark.asked.sum() == 16
    assert kept.asked.sum() == 12
    protocol = get_protocol("asic-published")
    predicted = np.where(benchmark.asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], 0.0)
    assert protocol.score(predicted, benchmark).totals.sum() == 12
    assert protocol.asked_of(benchmark).asked.sum() == 12
    assert get_protocol("spair-official").asked_of(benchmark) is benchmark
    # A last pair that asks for the nose alone leaves its photos that alone.
    own = replace(benchmark, pair_visible=benchmark.asked & np.array([[1, 1, 1, 1]] * 5 + [[1, 0, 0, 0]], dtype=bool))
    assert keep_last_pairs_keypoints(own).visible.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert keep_last_pairs_keypoints(own).pair_visible is None


def test_the_published_lengths_are_misplaced() -> None:
    cycles = np.array([[0, 1, 2], [1, 0, 2]])
    # Landings: 1 2 0 and 0 2 1. Cycle by cycle: 1 2 0 0 2 1, read as three hops of two cycles.
    assert published_cycle_lengths([10.0, 11.0, 12.0], cycles).tolist() == [[11, 12], [10, 10], [12, 11]]


def test_most_rows_of_three_cycles_are_held_against_another_image() -> None:
    cycles = np.array(list(itertools.permutations(range(27), 3)))
    landed = np.roll(cycles, -1, axis=1).T
    used = published_cycle_lengths(np.arange(27.0), cycles)
    assert 0.9 < (used != landed).mean() < 0.98


def shown_everywhere(benchmark: KeypointBenchmark) -> KeypointBenchmark:
    rng = np.random.default_rng(6)
    shape = benchmark.images[0].points_image.shape
    images = tuple(
        replace(image, points_image=rng.uniform(0, 100, shape), visible=np.ones(len(image.visible), bool))
        for image in benchmark.images
    )
    return replace(benchmark, images=images)


def test_a_published_landing_counts_until_a_photo_hides_the_point() -> None:
    image = ImageKeypoints("a.png", (9, 9), None, [[0.0, 0.0]], [True])
    images = (image, replace(image, name="b.png"), replace(image, name="c.png", visible=np.array([False])))
    three = KeypointBenchmark("three", ("p",), images, np.zeros((0, 2)))
    asked = []

    def stay(points, source, target):
        asked.extend(zip(source.tolist(), target.tolist(), strict=True))
        return points

    # Of six cycles two start in the photo that hides the point, two go there first, two second: one landing each.
    assert published_cycle_pck(stay, three, 3, 0.1, [9.0, 9.0, 9.0]) == 1.0
    assert asked == [(0, 1), (1, 0)]


def test_published_cycles(random_benchmark: Callable[..., KeypointBenchmark]) -> None:
    benchmark = random_benchmark(4, num_images=4)

    def transfer(points, source, target):
        return points + 4.0 * np.stack([np.sin(source + 2.0 * target), np.cos(points[:, 1])], axis=1)

    equal = np.full(4, 60.0)
    clean = cycle_pck(transfer, benchmark, 3, [0.1], equal).every_hop.per_point()[0]
    assert 0.0 < clean < 1.0
    assert published_cycle_pck(transfer, benchmark, 3, 0.1, equal) != pytest.approx(clean)
    everywhere = shown_everywhere(benchmark)
    clean = cycle_pck(transfer, everywhere, 3, [0.1], equal).every_hop.per_point()[0]
    assert published_cycle_pck(transfer, everywhere, 3, 0.1, equal) == pytest.approx(clean)
    uneven = np.array([5.0, 50.0, 100.0, 200.0])
    faulty = published_cycle_pck(transfer, benchmark, 3, 0.1, uneven)
    assert faulty != pytest.approx(cycle_pck(transfer, benchmark, 3, [0.1], uneven).every_hop.per_point()[0])
    hidden = replace(benchmark, images=tuple(replace(image, visible=np.zeros(6, bool)) for image in benchmark.images))
    assert np.isnan(published_cycle_pck(transfer, hidden, 3, 0.1, equal))


def test_published_cycles_on_paper() -> None:
    image = ImageKeypoints("a.png", (9, 9), None, [[0.0, 0.0]], [True])
    pair = KeypointBenchmark("pair", ("p",), (image, replace(image, name="b.png")), np.zeros((0, 2)))
    lengths = np.array([40.0, 40.0])

    def drift(points, source, target):  # noqa: ARG001
        return points + np.array([3.0, 0.0])

    # Both cycles land 3 and then 6 pixels off; 4 are allowed, and on the border of 3 a landing is wrong.
    assert published_cycle_pck(drift, pair, 2, 0.1, lengths) == 0.5
    assert published_cycle_pck(drift, pair, 2, 0.1, [30.0, 30.0]) == 0.0
    assert published_cycle_pck(drift, pair, 2, 0.2, lengths) == 1.0


def test_a_protocol_is_what_pck_gives(benchmark: KeypointBenchmark) -> None:
    rng = np.random.default_rng(5)
    predicted = benchmark.points_image[benchmark.pairs[:, 1]] + rng.normal(0, 4, (6, 4, 2))
    predicted = np.where(benchmark.asked[..., None], predicted, 0.0)
    protocol = get_protocol("spair-official")
    assert (
        protocol.score(predicted, benchmark).hits.tolist() == pck(predicted, benchmark, protocol.alphas).hits.tolist()
    )
