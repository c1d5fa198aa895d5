"""Scores of one way to carry points: PCK and cycles where there is truth, cycles and held-out matches where not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asic_eval import (
    KeypointBenchmark,
    PckCounts,
    Protocol,
    Transfer,
    cycle_pck,
    grid_cycle_pck,
    pck,
    sample_cycles,
)
from asic_eval.summary import alpha_key

if TYPE_CHECKING:
    from asic_flow.collection import ImageCollection
    from asic_flow.matches import MatchSet

ALPHAS = (0.05, 0.10)
CYCLE_LENGTHS = (2, 3)
MOST_CYCLES = 10_000
MOST_GRID_CYCLES = 2_000
GRID_POINTS = 36
MOST_HELD_OUT = 4_000


@dataclass(frozen=True)
class Cycles:
    """Which cycles of k photos are travelled.

    Attributes:
        chosen: (Q, k) tuples, or None for all.
        text: What a summary says of them.
    """

    chosen: NDArray[np.int64] | None
    text: str


def choose_cycles(num_photos: int, k: int, most: int, seed: int) -> Cycles | None:
    """All ordered tuples of k photos, or as many drawn at random where there are more than `most`; None if none."""
    if num_photos < k:
        return None
    count = math.perm(num_photos, k)
    if count <= most:
        return Cycles(None, f"all {count} {k}-cycles")
    return Cycles(sample_cycles(num_photos, k, most, seed), f"{most} of {count} {k}-cycles drawn with seed {seed}")


@dataclass(frozen=True)
class KeypointScorer:
    """Scores against annotated points.

    Attributes:
        benchmark: The truth.
        protocol: How.
        seed: Of the cycles that are drawn where there are many.
    """

    benchmark: KeypointBenchmark
    protocol: Protocol
    seed: int

    def describe(self) -> str:
        """The protocol in words."""
        return f"{self.protocol.name}, per point and per image; {_cycles_text(self._cycles())}"

    def score(self, transfer: Transfer) -> dict[str, Any]:
        """Shares in 0..1, None where nothing was asked.

        Returns:
            `{"pck": {alpha: {"per_point", "per_image"}}, "cycle": {alpha: {k: {"end", "every_hop"}}}}`
        """
        benchmark, lengths = self.benchmark, self.protocol.lengths(self.benchmark)
        pair, keypoint = np.nonzero(benchmark.asked)
        source, target = benchmark.pairs[pair].T
        predicted = np.full((*benchmark.asked.shape, 2), np.nan)
        predicted[pair, keypoint] = transfer(benchmark.points_image[source, keypoint], source, target)
        counts = pck(predicted, benchmark, ALPHAS, threshold=lengths, inclusive=self.protocol.inclusive, missing="miss")
        cycles: dict[str, dict[str, Any]] = {
            alpha_key(alpha): {str(k): {"end": None, "every_hop": None} for k in CYCLE_LENGTHS} for alpha in ALPHAS
        }
        for k, group in self._cycles().items():
            inclusive = self.protocol.inclusive
            found = cycle_pck(transfer, benchmark, k, ALPHAS, lengths, cycles=group.chosen, inclusive=inclusive)
            for index, alpha in enumerate(ALPHAS):
                cycles[alpha_key(alpha)][str(k)] = {
                    "end": _number(found.end.per_point()[index]),
                    "every_hop": _number(found.every_hop.per_point()[index]),
                }
        return {"pck": _pck_by_alpha(counts), "cycle": cycles}

    def _cycles(self) -> dict[int, Cycles]:
        return _choose(len(self.benchmark.images), MOST_CYCLES, self.seed)


class FolderScorer:
    """Scores of photos without annotations: how well answers agree with each other and with matches kept from the fit.

    A held-out match says that a point of photo a and a point of photo b look most alike of all tokens, in both
    directions. It was kept from the fit of the maps. Carrying the point straight from a to b would make nearest
    neighbour right by construction, so every method goes through a third photo, drawn at random.

    Args:
        collection: The photos.
        matches: Their matches.
        seed: Of whatever is drawn.
    """

    def __init__(self, collection: ImageCollection, matches: MatchSet, seed: int) -> None:
        from asic_flow.train import held_out_matches

        self._seed = seed
        self._count = len(collection)
        self._lengths = np.array([max(photo.size_hw) for photo in collection.photos], np.float64)
        centres = collection.grid.centres_px()
        self._grid = [
            photo.to_image(centres[_spread(np.flatnonzero(foreground), GRID_POINTS)])
            for photo, foreground in zip(collection.photos, collection.foreground_tokens().numpy(), strict=True)
        ]
        self._routes = _routes(collection, matches, held_out_matches(collection, matches), seed)

    def describe(self) -> str:
        """The protocol in words."""
        grid = (
            f"a grid of at most {GRID_POINTS} foreground points a photo there and back, {_cycles_text(self._cycles())}"
        )
        held_out = (
            f"{len(self._routes.source)} held-out matches, each through a random third photo with seed {self._seed}"
            if self._routes is not None
            else "no held-out match (they need three photos)"
        )
        return f"no keypoints: {grid}; {held_out}; alpha of the photo's longer side"

    def score(self, transfer: Transfer) -> dict[str, Any]:
        """`{"pck": None, "cycle": None, "grid_cycle": {alpha: {k: share}}, "held_out": {alpha: share} | None}`."""
        grid: dict[str, dict[str, float | None]] = {
            alpha_key(alpha): {str(k): None for k in CYCLE_LENGTHS} for alpha in ALPHAS
        }
        for k, group in self._cycles().items():
            found = grid_cycle_pck(transfer, self._grid, k, ALPHAS, self._lengths, cycles=group.chosen).per_point()
            for alpha, value in zip(ALPHAS, found, strict=True):
                grid[alpha_key(alpha)][str(k)] = _number(value)
        return {"pck": None, "cycle": None, "grid_cycle": grid, "held_out": self._held_out(transfer)}

    def _held_out(self, transfer: Transfer) -> dict[str, float | None] | None:
        if self._routes is None:
            return None
        routes = self._routes
        halfway = transfer(routes.points_image, routes.source, routes.third)
        arrived = transfer(halfway, routes.third, routes.target)
        distance = np.linalg.norm(arrived - routes.truth_image, axis=1)
        length = self._lengths[routes.target]
        # A NaN, an answer that could not be given, is no hit.
        return {alpha_key(alpha): float((distance <= alpha * length).mean()) for alpha in ALPHAS}

    def _cycles(self) -> dict[int, Cycles]:
        return _choose(self._count, MOST_GRID_CYCLES, self._seed)


@dataclass(frozen=True)
class _Routes:
    """Points (R, 2) to carry from `source` through `third` to `target`, all (R,), and where they should arrive."""

    points_image: NDArray[np.float64]
    truth_image: NDArray[np.float64]
    source: NDArray[np.int64]
    third: NDArray[np.int64]
    target: NDArray[np.int64]


def _routes(collection: ImageCollection, matches: MatchSet, held_out: NDArray[np.bool_], seed: int) -> _Routes | None:
    count = len(collection)
    rows = np.flatnonzero(held_out)
    if count <= 2 or not len(rows):
        return None
    rng = np.random.Generator(np.random.PCG64(seed))
    if len(rows) > MOST_HELD_OUT:
        rows = np.sort(rng.choice(rows, MOST_HELD_OUT, replace=False))
    first, second = matches.pairs[matches.pair_of_match()[rows]].astype(np.int64).T
    third = rng.integers(count - 2, size=len(rows))
    # Pairs have first < second, so stepping over one and then the other leaves the photos that are neither.
    third += third >= first
    third += third >= second
    scale = np.array([photo.scale_xy for photo in collection.photos])
    offset = np.array([photo.offset_xy for photo in collection.photos])
    xy_a = (matches.xy_a[rows] - offset[first]) / scale[first]
    xy_b = (matches.xy_b[rows] - offset[second]) / scale[second]
    return _Routes(
        points_image=np.concatenate((xy_a, xy_b)),
        truth_image=np.concatenate((xy_b, xy_a)),
        source=np.concatenate((first, second)),
        third=np.concatenate((third, third)),
        target=np.concatenate((second, first)),
    )


def skipping_nan(transfer: Callable[..., NDArray[np.float64]]) -> Transfer:
    """A transfer that answers NaN for points that are NaN, as those that an earlier hop could not carry."""

    def carry(points: NDArray[np.float64], source: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.float64]:
        there = np.isfinite(points).all(axis=1)
        answer = np.full(points.shape, np.nan)
        if there.any():
            answer[there] = transfer(points[there], source[there], target[there])
        return answer

    return carry


def _choose(num_photos: int, most: int, seed: int) -> dict[int, Cycles]:
    chosen = {k: choose_cycles(num_photos, k, most, seed) for k in CYCLE_LENGTHS}
    return {k: group for k, group in chosen.items() if group is not None}


def _cycles_text(cycles: dict[int, Cycles]) -> str:
    return ", ".join(group.text for group in cycles.values())


def _spread(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the values, evenly spread."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]


def _pck_by_alpha(counts: PckCounts) -> dict[str, dict[str, float | None]]:
    return {
        alpha_key(alpha): {"per_point": _number(point), "per_image": _number(image)}
        for alpha, point, image in zip(ALPHAS, counts.per_point(), counts.per_image(), strict=True)
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
