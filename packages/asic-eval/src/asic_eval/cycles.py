"""k-cycle PCK: points carried through k images and back to the first, in both definitions in use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.keypoints import KeypointBenchmark
from asic_eval.pck import check_alphas, within

Transfer = Callable[[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""Carries points (M, 2) of the images `source` (M,) to the images `target` (M,): (M, 2), all in original pixels."""

_CYCLES_AT_ONCE = 16_384
"""So many cycles at most are travelled together, or all that begin with one image."""


@dataclass(frozen=True, eq=False)
class CycleCounts:
    """How many points came out right, by how many points their cycle had: exact sums, however many cycles there are.

    Args:
        alphas: (A,) the tolerances.
        hits: (T, A) hits of all the cycles that ask for t = 0 .. T - 1 points.
        cycles: (T,) how many such cycles there are.
    """

    alphas: NDArray[np.float64]
    hits: NDArray[np.int64]
    cycles: NDArray[np.int64]

    def per_point(self) -> NDArray[np.float64]:
        """(A,) in 0..1: all hits over all points; NaN where no point was asked for."""
        total = int(self.cycles @ np.arange(len(self.cycles)))
        return self.hits.sum(axis=0) / total if total else np.full(len(self.alphas), np.nan)

    def per_cycle(self) -> NDArray[np.float64]:
        """(A,) in 0..1: the mean of the cycles' own ratios; NaN where no point was asked for."""
        count = int(self.cycles[1:].sum())
        if not count:
            return np.full(len(self.alphas), np.nan)
        return np.asarray((self.hits[1:] / np.arange(1, len(self.hits))[:, None]).sum(axis=0) / count)

    def __add__(self, other: CycleCounts) -> CycleCounts:
        if not np.array_equal(self.alphas, other.alphas):
            raise ValueError(
                f"CycleCounts: expected the same alphas to add, got {self.alphas.tolist()} and {other.alphas.tolist()}"
            )
        size = max(len(self.hits), len(other.hits))
        hits = np.zeros((size, len(self.alphas)), dtype=np.int64)
        cycles = np.zeros(size, dtype=np.int64)
        for part in (self, other):
            hits[: len(part.hits)] += part.hits
            cycles[: len(part.cycles)] += part.cycles
        return CycleCounts(self.alphas, hits, cycles)


@dataclass(frozen=True, eq=False)
class CyclePck:
    """The two definitions of k-cycle PCK, of the same cycles and points.

    Args:
        end: Counts the distance between a point and where it came back to.
        every_hop: Counts, for each of the k hops, the distance between where the point is and the truth there.
    """

    end: CycleCounts
    every_hop: CycleCounts

    def __add__(self, other: CyclePck) -> CyclePck:
        return CyclePck(self.end + other.end, self.every_hop + other.every_hop)


def sample_cycles(num_images: int, k: int, count: int, seed: int) -> NDArray[np.int64]:
    """(count, k) ordered tuples of k different images, drawn independently and evenly.

    Raises:
        ValueError: There are fewer than k images.
    """
    _check_length(num_images, k)
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.argsort(rng.random((count, num_images)), axis=1)[:, :k].astype(np.int64)


def all_cycles(num_images: int, k: int) -> NDArray[np.int64]:
    """(N! / (N - k)!, k) all ordered tuples of k different images, in lexicographic order.

    >>> len(all_cycles(27, 2))
    702
    """
    return np.array(list(itertools.permutations(range(num_images), k)), dtype=np.int64).reshape(-1, k)


def _check_length(num_images: int, k: int) -> None:
    if not 2 <= k <= num_images:
        raise ValueError(f"k: expected a cycle of 2 to {num_images} images, got {k}")


def _check_thresholds(thresholds: ArrayLike, num_images: int) -> NDArray[np.float64]:
    lengths = np.asarray(thresholds, dtype=np.float64)
    if lengths.shape != (num_images,):
        raise ValueError(f"thresholds: expected shape {(num_images,)}, got {lengths.shape}")
    if not (np.isfinite(lengths) & (lengths >= 0)).all():
        raise ValueError(f"thresholds: expected finite lengths of at least 0, got {lengths.min()} to {lengths.max()}")
    return lengths


def _cycles_from(start: int, num_images: int, k: int) -> NDArray[np.int64]:
    others = [index for index in range(num_images) if index != start]
    rest = np.array(list(itertools.permutations(others, k - 1)), dtype=np.int64).reshape(-1, k - 1)
    return np.concatenate([np.full((len(rest), 1), start), rest], axis=1)


def _groups(cycles: ArrayLike | None, num_images: int, k: int) -> Iterator[NDArray[np.int64]]:
    """Cycles to be travelled together: whole starting images, few enough to bound memory."""
    group: list[NDArray[np.int64]] = []
    for from_one in _by_start(cycles, num_images, k):
        if group and sum(map(len, group)) + len(from_one) > _CYCLES_AT_ONCE:
            yield np.concatenate(group)
            group = []
        group.append(from_one)
    if group:
        yield np.concatenate(group)


def _by_start(cycles: ArrayLike | None, num_images: int, k: int) -> Iterator[NDArray[np.int64]]:
    _check_length(num_images, k)
    if cycles is None:
        return (_cycles_from(start, num_images, k) for start in range(num_images))
    chosen = np.asarray(cycles, dtype=np.int64)
    if chosen.ndim != 2 or chosen.shape[1] != k:
        raise ValueError(f"cycles: expected shape (any, {k}), got {chosen.shape}")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= num_images):
        raise ValueError(f"cycles: expected images from 0 to {num_images - 1}, got {chosen.min()} to {chosen.max()}")
    if (np.diff(np.sort(chosen, axis=1), axis=1) == 0).any():
        raise ValueError("cycles: expected different images in each cycle, got one twice")
    return (chosen[chosen[:, 0] == start] for start in np.unique(chosen[:, 0]))


def _nothing(alphas: NDArray[np.float64]) -> CycleCounts:
    return CycleCounts(alphas, np.zeros((1, len(alphas)), dtype=np.int64), np.zeros(1, dtype=np.int64))


def _levels(
    points: NDArray[np.float64],
    truth: NDArray[np.float64],
    length: NDArray[np.float64],
    alphas: NDArray[np.float64],
    inclusive: bool,
) -> NDArray[np.int16]:
    """(M,) how many of the increasing alphas are too strict for each point; those at no finite distance fail all."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = points - truth
        distance = np.sqrt(difference[:, 0] ** 2 + difference[:, 1] ** 2)
        limits = alphas[:, None] * length
    level = np.zeros(len(points), dtype=np.int16)
    for limit in limits:
        level += ~within(distance, limit, inclusive=inclusive)
    return level


def _count(
    levels: Sequence[NDArray[np.int16]],
    asked: NDArray[np.int64],
    totals: NDArray[np.int64],
    alphas: NDArray[np.float64],
) -> CycleCounts:
    """Counts landings.

    Args:
        levels: For each hop that counts (M,) the landings' levels.
        asked: (M,) how many landings each point's cycle has in all.
        totals: (Q,) the same of each cycle.
        alphas: (A,) the tolerances.
    """
    cycles = np.bincount(totals, minlength=1)
    width = len(alphas) + 1
    by_level = np.zeros(len(cycles) * width, dtype=np.int64)
    for level in levels:
        by_level += np.bincount(asked * width + level, minlength=len(by_level))
    return CycleCounts(alphas, np.cumsum(by_level.reshape(-1, width), axis=1)[:, :-1], cycles)


def _score(
    transfer: Transfer,
    points: NDArray[np.float64],
    starts: NDArray[np.bool_],
    visible: NDArray[np.bool_],
    cycles: NDArray[np.int64],
    alphas: NDArray[np.float64],
    lengths: NDArray[np.float64],
    inclusive: bool,
) -> CyclePck:
    """Scores cycles; each prefix of images is travelled once.

    Args:
        transfer: Carries points.
        points: (N, K, 2) the images' points.
        starts: (N, K) which of them set out from their image.
        visible: (N, K) which of them an image that is passed shows.
        cycles: (Q, k) tuples of images.
        alphas: (A,) the tolerances.
        lengths: (N,) the images' lengths.
        inclusive: Whether a landing exactly on the border is right.
    """
    num_images, k = len(points), cycles.shape[1]
    last, prefix = np.unique(cycles[:, 0], return_inverse=True)
    here, alive = points[last], starts[last]
    hops: list[tuple[NDArray[np.int16], NDArray[np.int64]]] = []
    for depth in range(1, k + 1):
        target_of_cycle = cycles[:, depth % k]
        _, first, extended = np.unique(prefix * num_images + target_of_cycle, return_index=True, return_inverse=True)
        parent, target = prefix[first], target_of_cycle[first]
        alive = alive[parent] & visible[target]
        row, keypoint = np.nonzero(alive)
        landed_in = target[row]
        carried = np.asarray(transfer(here[parent[row], keypoint], last[parent[row]], landed_in), dtype=np.float64)
        if carried.shape != (len(row), 2):
            raise ValueError(f"transfer: expected shape {(len(row), 2)}, got {carried.shape}")
        here = np.empty((*alive.shape, 2))
        here[row, keypoint] = carried
        level = np.empty(alive.shape, dtype=np.int16)
        truth = points[landed_in, keypoint]
        level[row, keypoint] = _levels(carried, truth, lengths[landed_in], alphas, inclusive)
        last, prefix = target, extended
        hops.append((level, prefix))
    counted = alive[prefix]
    totals = counted.sum(axis=1)
    cycle, keypoint = np.nonzero(counted)
    levels = [level[of_cycle[cycle], keypoint] for level, of_cycle in hops]
    asked = totals[cycle]
    return CyclePck(_count(levels[-1:], asked, totals, alphas), _count(levels, k * asked, k * totals, alphas))


def cycle_pck(
    transfer: Transfer,
    benchmark: KeypointBenchmark,
    k: int,
    alphas: Sequence[float],
    thresholds: ArrayLike,
    *,
    cycles: ArrayLike | None = None,
    inclusive: bool = True,
) -> CyclePck:
    """k-cycle PCK: each keypoint goes from the first image through k - 1 others and back, k hops in all.

    A point counts in a cycle when it is visible in every image of it. Each hop starts where the hop before ended.
    A landing is right when it is within alpha times the length of the image *landed in* (the published code compared
    92 % of its 3-cycle rows with another image's). A prefix that several cycles share is travelled once.
    Memory: about 100 bytes x keypoints x 16,384 cycles, or those of one starting image if these are more.

    Args:
        transfer: Carries points of the original photos' pixels; see `Transfer`. A NaN answer counts as wrong.
        benchmark: The truth; its pairs are not used.
        k: Images in a cycle, at least 2.
        alphas: Tolerances, increasing.
        thresholds: (N,) lengths in the original photos' pixels; see `asic_eval.pck.threshold_lengths`.
        cycles: (Q, k) tuples of different images (such as `sample_cycles` draws); all ordered tuples when None.
        inclusive: Whether a landing exactly on the border is right: `<=`, or `<` (ASIC's own script).

    Returns:
        Counts for both definitions, fractions in 0..1 by their methods.

    Raises:
        ValueError: k, thresholds or cycles do not fit the benchmark, or transfer returns another shape.
    """
    values = check_alphas(alphas)
    lengths = _check_thresholds(thresholds, len(benchmark.images))
    points, visible = benchmark.points_image, benchmark.visible
    result = CyclePck(_nothing(values), _nothing(values))
    for group in _groups(cycles, len(points), k):
        result += _score(transfer, points, visible, visible, group, values, lengths, inclusive)
    return result


def grid_cycle_pck(
    transfer: Transfer,
    points_image: Sequence[ArrayLike],
    k: int,
    alphas: Sequence[float],
    thresholds: ArrayLike,
    *,
    cycles: ArrayLike | None = None,
    inclusive: bool = True,
) -> CycleCounts:
    """End-of-cycle PCK of points that have no truth elsewhere, such as a grid on each image's foreground.

    Args:
        transfer: See `cycle_pck`.
        points_image: For each of N images (M_i, 2) starting points in its original photo's pixels.
        k: Images in a cycle, at least 2.
        alphas: Tolerances, increasing.
        thresholds: (N,) lengths in the original photos' pixels.
        cycles: (Q, k) tuples of different images; all ordered tuples when None.
        inclusive: See `cycle_pck`.

    Raises:
        ValueError: See `cycle_pck`.
    """
    own = [np.asarray(points, dtype=np.float64).reshape(-1, 2) for points in points_image]
    values = check_alphas(alphas)
    lengths = _check_thresholds(thresholds, len(own))
    most = max(map(len, own), default=0)
    starts = np.arange(most) < np.array([len(points) for points in own], dtype=np.int64)[:, None]
    points = np.zeros((len(own), most, 2))
    points[starts] = np.concatenate(own) if own else np.zeros((0, 2))
    everywhere = np.ones_like(starts)
    result = _nothing(values)
    for group in _groups(cycles, len(own), k):
        result += _score(transfer, points, starts, everywhere, group, values, lengths, inclusive).end
    return result
