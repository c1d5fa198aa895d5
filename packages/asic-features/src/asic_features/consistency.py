"""Which matches to trust: support by third photos, and one match per neighbourhood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from asic_flow.collection import TokenGrid
from asic_flow.matches import MatchSet

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]


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
    token_a, token_b = _token(matches.xy_a, grid), _token(matches.xy_b, grid)
    partner: dict[tuple[int, int], Int] = {}
    for (a, b), rows in _rows(matches):
        there, back = np.full(len(centres), -1), np.full(len(centres), -1)
        there[token_a[rows]], back[token_b[rows]] = token_b[rows], token_a[rows]
        partner[a, b], partner[b, a] = there, back
    neighbours: dict[int, set[int]] = {}
    for a, b in partner:
        neighbours.setdefault(a, set()).add(b)
    support = np.zeros(len(matches), dtype=np.int32)
    for (a, b), rows in _rows(matches):
        for third in neighbours[a] & neighbours[b]:
            middle = partner[a, third][token_a[rows]]
            end = np.where(middle >= 0, partner[third, b][middle], -1)
            apart = np.linalg.norm(centres[end] - matches.xy_b[rows], axis=1)
            support[rows] += (end >= 0) & (apart <= tolerance_px)
    return support


def suppress(matches: MatchSet, confidence: npt.NDArray[np.floating], *, radius_px: float) -> MatchSet:
    """Keep of each pair the most confident matches whose ends lie apart from one another in both photos.

    Args:
        matches: Any matches.
        confidence: (M,) the higher the better; equal ones in their order.
        radius_px: A match goes when a better one of its pair lies within this distance in either photo.
    """
    keep = np.zeros(len(matches), dtype=bool)
    for _, rows in _rows(matches):
        order = np.arange(rows.start, rows.stop)[np.argsort(-confidence[rows], kind="stable")]
        near = _near(matches.xy_a[order], radius_px) | _near(matches.xy_b[order], radius_px)
        gone = np.zeros(len(order), dtype=bool)
        for index, match in enumerate(order):
            if not gone[index]:
                keep[match] = True
                gone |= near[index]
    return select(matches, keep)


def select(matches: MatchSet, keep: npt.NDArray[np.bool_]) -> MatchSet:
    """The matches marked in ``keep`` (M,); every pair stays, if need be without a match."""
    kept = np.concatenate([[0], keep.cumsum()])[matches.offsets]
    return replace(
        matches,
        offsets=kept.astype(np.int64),
        xy_a=matches.xy_a[keep],
        xy_b=matches.xy_b[keep],
        score=matches.score[keep],
        saliency=matches.saliency[keep],
    )


def _rows(matches: MatchSet) -> list[tuple[tuple[int, int], slice]]:
    pairs = matches.pairs.tolist()
    bounds = zip(matches.offsets[:-1].tolist(), matches.offsets[1:].tolist(), strict=True)
    return [((a, b), slice(start, stop)) for (a, b), (start, stop) in zip(pairs, bounds, strict=True)]


def _token(xy: Float, grid: TokenGrid) -> Int:
    column, row = np.rint((xy - grid.first) / grid.stride).astype(np.int64).T
    token: Int = row * grid.cols + column
    return token


def _near(xy: Float, radius_px: float) -> npt.NDArray[np.bool_]:
    difference = xy[:, None] - xy[None]
    near: npt.NDArray[np.bool_] = (difference**2).sum(axis=-1) <= radius_px**2
    return near
