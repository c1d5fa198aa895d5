"""Which matches to trust: support by third photos, and one match per neighbourhood."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from asic_flow.collection import TokenGrid
from asic_flow.matches import OF_MATCHES, MatchSet

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
_CYCLE_TOLERANCE = 0.05  # of the side


def count_support(matches: MatchSet, grid: TokenGrid, size: int) -> MatchSet:
    """The matches with their support counted, or what was counted before where that is more.

    Args:
        matches: Matches between tokens of ``grid``.
        grid: Where the tokens are, in a square of ``size`` pixels.
        size: Side in pixels.
    """
    found = cycle_support(matches, grid, tolerance_px=_CYCLE_TOLERANCE * size)
    return replace(matches, support=np.maximum(matches.support, found))


def cycle_support(matches: MatchSet, grid: TokenGrid, *, tolerance_px: float) -> npt.NDArray[np.int32]:
    """Number of third photos through which each match is confirmed.

    A match of p in one photo and q in another is confirmed by a third photo when p has a match r there, r has a match
    in the other photo, and that lies within the tolerance of q: a relaxed cycle check.

    Args:
        matches: Matches between tokens of ``grid``.
        grid: Where the tokens are.
        tolerance_px: Distance in model pixels.

    Returns:
        (M,) int32.
    """
    centres = grid.centres_px()
    count = int(matches.pairs.max(initial=-1)) + 1
    token_a, token_b = _token(matches.xy_a, grid), _token(matches.xy_b, grid)
    photo_a, photo_b = matches.pairs[matches.pair_of_match()].T
    support = np.zeros(len(matches), dtype=np.int32)
    # Of several matches of a token the best leads on: the last one written.
    best_last = np.argsort(matches.score, kind="stable")
    # By photo and token: what of the third photo a token is matched with, and what one of the third's is; -1: nothing.
    to_third, from_third = np.full((2, count, len(centres)), -1, dtype=np.int32)
    for third in range(count):
        for here, there, mine, theirs in ((photo_a, photo_b, token_a, token_b), (photo_b, photo_a, token_b, token_a)):
            of_third = best_last[here[best_last] == third]
            other, ours, others = there[of_third], mine[of_third], theirs[of_third]
            to_third[other, others], from_third[other, ours] = ours, others
        around = np.zeros(count, dtype=bool)
        around[matches.pairs[(matches.pairs == third).any(axis=1)]] = True
        around[third] = False
        rows = np.flatnonzero(around[photo_a] & around[photo_b])
        middle = to_third[photo_a[rows], token_a[rows]]
        end = np.where(middle >= 0, from_third[photo_b[rows], middle], -1)
        apart = np.linalg.norm(centres[end] - matches.xy_b[rows], axis=1)
        support[rows] += (end >= 0) & (apart <= tolerance_px)
        to_third[around] = from_third[around] = -1
    return support


def suppress(matches: MatchSet, *, radius_px: float, confidence: Float | None = None) -> MatchSet:
    """Keep of each pair the most confident matches whose ends lie apart from one another in both photos.

    Args:
        matches: Any matches; equally confident ones in their order.
        radius_px: A match goes when a better one of its pair lies within this distance in either photo.
        confidence: (M,), where these are some pairs only of those that tell it.
    """
    keep = np.zeros(len(matches), dtype=bool)
    confidence = matches.confidence() if confidence is None else confidence
    for start, stop in itertools.pairwise(matches.offsets.tolist()):
        rows = slice(start, stop)
        order = np.arange(rows.start, rows.stop)[np.argsort(-confidence[rows], kind="stable")]
        ends = matches.xy_a[order], matches.xy_b[order]
        gone = np.zeros(len(order), dtype=bool)
        for index, match in enumerate(order):
            if not gone[index]:
                keep[match] = True
                for xy in ends:
                    gone |= ((xy - xy[index]) ** 2).sum(axis=1) <= radius_px**2
    return select(matches, keep)


def select(matches: MatchSet, keep: npt.NDArray[np.bool_]) -> MatchSet:
    """The matches marked in ``keep`` (M,); every pair stays, if need be without a match."""
    kept = np.concatenate([[0], keep.cumsum()])[matches.offsets]
    return replace(
        matches, offsets=kept.astype(np.int64), **{field: getattr(matches, field)[keep] for field in OF_MATCHES}
    )


def _token(xy: Float, grid: TokenGrid) -> Int:
    column, row = np.rint((xy - grid.first) / grid.stride).astype(np.int64).T
    token: Int = row * grid.cols + column
    return token
