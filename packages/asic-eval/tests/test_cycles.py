from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from asic_eval import CycleCounts, KeypointBenchmark, all_pairs, cycle_pck, grid_cycle_pck, sample_cycles
from asic_eval.keypoints import ImageKeypoints


def line(offsets: list[float], visible: list[list[int]] | None = None) -> KeypointBenchmark:
    """Images whose two keypoints lie at (offset, 0) and (offset + 10, 0)."""
    shown = visible or [[1, 1]] * len(offsets)
    images = tuple(
        ImageKeypoints(f"{i}.png", (50, 50), None, [[x, 0], [x + 10, 0]], seen)
        for i, (x, seen) in enumerate(zip(offsets, shown, strict=True))
    )
    return KeypointBenchmark("line", ("p", "q"), images, all_pairs(len(images)))


def shift(offsets: list[float], error: float = 0.0):
    table = np.array(offsets)

    def transfer(points, source, target):
        moved = points.copy()
        moved[:, 0] += table[target] - table[source] + error
        return moved

    return transfer


def test_every_hop_drifts_and_the_end_adds_up() -> None:
    offsets = [0.0, 5.0, 20.0]
    result = cycle_pck(shift(offsets, error=1.0), line(offsets), 3, [0.1, 0.2, 0.3], np.full(3, 10.0))
    # Landings are off by 1, 2 and 3; tolerances are 1, 2 and 3.
    assert result.every_hop.per_point() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert result.end.per_point().tolist() == [0.0, 0.0, 1.0]
    assert result.end.cycles.tolist() == [0, 0, 6]
    assert result.every_hop.cycles.tolist() == [0, 0, 0, 0, 0, 0, 6]
    assert result.end.per_cycle().tolist() == [0.0, 0.0, 1.0]


def test_the_length_is_that_of_the_image_landed_in() -> None:
    offsets = [0.0, 0.0]
    result = cycle_pck(shift(offsets, error=1.0), line(offsets), 2, [1.0], np.array([2.0, 0.5]))
    # From 0: lands in 1 (off by 1 of 0.5: wrong), then in 0 (off by 2 of 2: right). From 1: right, then wrong.
    assert result.every_hop.per_point().tolist() == [0.5]
    assert result.end.per_point().tolist() == [0.5]
    assert result.end.hits.tolist() == [[0], [0], [2]]


def test_a_point_counts_only_where_the_whole_chain_sees_it() -> None:
    offsets = [0.0, 5.0, 20.0]
    benchmark = line(offsets, [[1, 1], [1, 0], [1, 1]])
    result = cycle_pck(shift(offsets), benchmark, 2, [0.1], np.ones(3))
    # Point q is seen by the cycles 0-2 and 2-0 only.
    assert result.end.cycles.tolist() == [0, 4, 2]
    assert result.end.hits[:, 0].tolist() == [0, 4, 4]
    assert result.every_hop.cycles.tolist() == [0, 0, 4, 0, 2]


def test_cycles_without_a_point_are_left_out_of_the_mean() -> None:
    benchmark = line([0.0, 5.0, 20.0], [[1, 0], [0, 1], [1, 1]])
    result = cycle_pck(shift([0.0, 5.0, 20.0]), benchmark, 2, [0.1], np.ones(3)).end
    assert result.cycles.tolist() == [2, 4]
    assert result.per_cycle().tolist() == [1.0]
    nobody = line([0.0, 5.0], [[0, 0], [1, 1]])
    lost = cycle_pck(shift([0.0, 5.0]), nobody, 2, [0.1], np.ones(2)).end
    assert np.isnan(lost.per_point()).all()
    assert np.isnan(lost.per_cycle()).all()


def brute_force(transfer, benchmark, k, alphas, lengths, cycles):
    """One point, one hop at a time."""
    points, visible = benchmark.points_image, benchmark.visible
    rows = []
    for cycle in cycles:
        seen = [p for p in range(points.shape[1]) if all(visible[i, p] for i in cycle)]
        end, hops = np.zeros(len(alphas)), np.zeros(len(alphas))
        for p in seen:
            at = points[cycle[0], p]
            for source, target in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
                at = transfer(at[None], np.array([source]), np.array([target]))[0]
                error = np.hypot(*(at - points[target, p]))
                landed = [bool(error <= alpha * lengths[target]) for alpha in alphas]
                hops += landed
            end += landed
        rows.append((len(seen), end, hops))
    asked = sum(row[0] for row in rows)
    return (
        sum(row[1] for row in rows) / asked,
        sum(row[2] for row in rows) / (k * asked),
        np.mean([row[1] / row[0] for row in rows if row[0]], axis=0),
    )


def noisy_transfer(points, source, target):
    angle = 0.3 * source + 0.7 * target
    return points + 3.0 * np.stack([np.cos(angle), np.sin(angle + points[:, 0])], axis=1)


@pytest.mark.parametrize(("at_once", "groups"), [(1, 5), (16_384, 1)])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_against_brute_force(
    random_benchmark: Callable[..., KeypointBenchmark],
    monkeypatch: pytest.MonkeyPatch,
    k: int,
    at_once: int,
    groups: int,
) -> None:
    monkeypatch.setattr("asic_eval.cycles._CYCLES_AT_ONCE", at_once)
    benchmark = random_benchmark(k, num_images=5, num_keypoints=4)
    lengths, alphas = np.array([40.0, 60.0, 80.0, 30.0, 50.0]), [0.02, 0.05, 0.1, 0.2, 1.0]
    calls = 0

    def counted(points, source, target):
        nonlocal calls
        calls += 1
        return noisy_transfer(points, source, target)

    result = cycle_pck(counted, benchmark, k, alphas, lengths)
    end, hops, per_cycle = brute_force(
        noisy_transfer, benchmark, k, alphas, lengths, list(itertools.permutations(range(5), k))
    )
    assert result.end.per_point() == pytest.approx(end)
    assert result.every_hop.per_point() == pytest.approx(hops)
    assert result.end.per_cycle() == pytest.approx(per_cycle)
    assert calls == groups * k


def test_no_hop_is_travelled_twice() -> None:
    offsets = [0.0, 1.0, 2.0, 3.0]
    travelled: list[tuple[float, int, int]] = []

    def transfer(points, source, target):
        travelled.extend(zip(source.tolist(), target.tolist(), strict=True))
        return shift(offsets)(points, source, target)

    cycle_pck(transfer, line(offsets), 3, [0.1], np.ones(4))
    # 4 starts x (3 first hops + 6 second hops + 6 hops home) x 2 points.
    assert len(travelled) == 4 * 15 * 2


def test_chosen_cycles(random_benchmark: Callable[..., KeypointBenchmark]) -> None:
    benchmark = random_benchmark(7)
    chosen = sample_cycles(5, 3, 40, seed=3)
    lengths = np.full(5, 60.0)
    result = cycle_pck(noisy_transfer, benchmark, 3, [0.1], lengths, cycles=chosen)
    end, hops, _ = brute_force(noisy_transfer, benchmark, 3, [0.1], lengths, chosen.tolist())
    assert result.end.per_point() == pytest.approx(end)
    assert result.every_hop.per_point() == pytest.approx(hops)
    assert result.end.cycles.sum() == 40
    halves = [cycle_pck(noisy_transfer, benchmark, 3, [0.1], lengths, cycles=part) for part in (chosen[:9], chosen[9:])]
    merged = halves[0] + halves[1]
    assert merged.end.hits.tolist() == result.end.hits.tolist()
    assert merged.every_hop.cycles.tolist() == result.every_hop.cycles.tolist()
    none = cycle_pck(noisy_transfer, benchmark, 3, [0.1], lengths, cycles=np.zeros((0, 3)))
    assert np.isnan(none.end.per_point()).all()


def test_sampled_cycles_are_seeded_and_even() -> None:
    chosen = sample_cycles(4, 3, 24_000, seed=0)
    assert np.array_equal(chosen, sample_cycles(4, 3, 24_000, seed=0))
    assert len(np.unique(chosen, axis=0)) == 24
    _, counts = np.unique(chosen, axis=0, return_counts=True)
    assert counts.min() > 850
    with pytest.raises(ValueError, match=r"^k: expected a cycle of 2 to 2 images, got 3$"):
        sample_cycles(2, 3, 1, seed=0)


def test_a_lost_point_is_wrong_from_then_on() -> None:
    offsets = [0.0, 0.0]

    def lose(points, source, target):  # noqa: ARG001
        return np.full_like(points, np.nan)

    result = cycle_pck(lose, line(offsets), 2, [1e9], np.ones(2))
    assert result.end.per_point().tolist() == [0.0]
    assert result.every_hop.per_point().tolist() == [0.0]
    # At tolerances beyond every number, too.
    away = cycle_pck(lambda p, _s, _t: np.full_like(p, np.inf), line(offsets), 2, [1e200], np.full(2, 1e200))
    assert away.every_hop.per_point().tolist() == [0.0]


@pytest.mark.parametrize(("inclusive", "hops", "end"), [(True, 1.0, 1.0), (False, 0.5, 0.0)])
def test_inclusive_decides_on_the_border(inclusive: bool, hops: float, end: float) -> None:
    offsets = [0.0, 5.0]
    # Landings are off by 1 and 2; the tolerance is 2.
    drift, lengths = shift(offsets, error=1.0), np.full(2, 10.0)
    result = cycle_pck(drift, line(offsets), 2, [0.2], lengths, inclusive=inclusive)
    assert result.every_hop.per_point().tolist() == [hops]
    assert result.end.per_point().tolist() == [end]
    grid = grid_cycle_pck(drift, [[[0, 0]], [[5, 0]]], 2, [0.2], lengths, inclusive=inclusive)
    assert grid.per_point().tolist() == [end]
    if inclusive:
        assert cycle_pck(drift, line(offsets), 2, [0.2], lengths).end.per_point().tolist() == [end]
        assert grid_cycle_pck(drift, [[[0, 0]], [[5, 0]]], 2, [0.2], lengths).per_point().tolist() == [end]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 1}, r"^k: expected a cycle of 2 to 3 images, got 1$"),
        ({"k": 4}, r"^k: expected a cycle of 2 to 3 images, got 4$"),
        ({"thresholds": np.ones(2)}, r"^thresholds: expected shape \(3,\), got \(2,\)$"),
        ({"thresholds": [1, np.nan, 1]}, r"^thresholds: expected finite lengths of at least 0, got nan to nan$"),
        ({"thresholds": [1, np.inf, 1]}, r"^thresholds: expected finite lengths of at least 0, got 1\.0 to inf$"),
        ({"thresholds": [1, -5, 1]}, r"^thresholds: expected finite lengths of at least 0, got -5\.0 to 1\.0$"),
        ({"cycles": [[0, 1, 2]]}, r"^cycles: expected shape \(any, 2\), got \(1, 3\)$"),
        ({"cycles": [0, 1]}, r"^cycles: expected shape \(any, 2\), got \(2,\)$"),
        ({"cycles": [[0, 3]]}, r"^cycles: expected images from 0 to 2, got 0 to 3$"),
        ({"cycles": [[-1, 0]]}, r"^cycles: expected images from 0 to 2, got -1 to 0$"),
        ({"cycles": [[1, 1]]}, r"^cycles: expected different images in each cycle, got one twice$"),
        ({"alphas": [0.0]}, r"^alphas: expected positive numbers in increasing order, got \[0\.0\]$"),
    ],
)
def test_bad_arguments(changes: dict[str, object], message: str) -> None:
    arguments = {"k": 2, "alphas": [0.1], "thresholds": np.ones(3)} | changes
    benchmark = line([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        cycle_pck(shift([0.0, 1.0, 2.0]), benchmark, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        grid_cycle_pck(shift([0.0, 1.0, 2.0]), [[[0, 0]]] * 3, **arguments)  # type: ignore[arg-type]


def test_transfer_must_answer_every_point() -> None:
    with pytest.raises(ValueError, match=r"^transfer: expected shape \(4, 2\), got \(1, 2\)$"):
        cycle_pck(lambda p, _s, _t: p[:1], line([0.0, 1.0]), 2, [0.1], np.ones(2))


def test_grid_points_need_no_truth() -> None:
    offsets = [0.0, 5.0, 20.0]
    grids = [np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), np.zeros((0, 2)), np.array([[4.0, 4.0]])]
    result = grid_cycle_pck(shift(offsets, error=0.5), grids, 2, [0.05, 0.1], np.full(3, 10.0))
    assert result.per_point().tolist() == [0.0, 1.0]
    assert result.cycles.tolist() == [2, 2, 0, 2]
    chosen = grid_cycle_pck(shift(offsets), grids, 2, [0.1], np.ones(3), cycles=[[0, 1], [1, 0]])
    assert chosen.cycles.tolist() == [1, 0, 0, 1]


def test_counts_add_up() -> None:
    alphas = np.array([0.1])
    first = CycleCounts(alphas, np.array([[0], [3]]), np.array([1, 4]))
    second = CycleCounts(alphas, np.array([[0], [0], [2]]), np.array([0, 0, 1]))
    both = first + second
    assert both.hits.tolist() == [[0], [3], [2]]
    assert both.cycles.tolist() == [1, 4, 1]
    assert both.per_point().tolist() == [5 / 6]
    assert both.per_cycle().tolist() == [(3 / 1 + 2 / 2) / 5]
    with pytest.raises(ValueError, match=r"^CycleCounts: expected the same alphas to add, got \[0\.1\] and \[0\.2\]$"):
        first + CycleCounts(np.array([0.2]), first.hits, first.cycles)
