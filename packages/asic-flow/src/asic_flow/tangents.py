"""From the nearest pixel to the place between pixels where a canonical map takes a value; arrays as well as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def fill_entries(
    entries: Any,
    coordinates: Any,
    flat: Any,
    row_of: Any,
    size_hw: tuple[int, ...],
    where: Callable[..., Any],
    take: Callable[[Any, Any], Any],
) -> None:
    """Fills what a look-up needs of each of Q foreground pixels, in arrays as in tensors.

    Slopes are central differences, one-sided where only one neighbour is on the foreground, zero where none is.

    Args:
        entries: (6, Q + 1, 2) to fill: each pixel's place xy, its canonical coordinate, the coordinate's change per
            pixel to the right and per pixel down, and the change of place (x, then y) per unit of the first and of the
            second coordinate, zero where the map is flat or folded to a line. The last of the Q + 1 is NaN.
        coordinates: (N * H * W, 2) of all pixels of N images, which follow each other.
        flat: (Q,) the foreground pixels' numbers, rising.
        row_of: (N * H * W,) where each pixel is among the Q; -1 off the foreground.
        size_hw: Height and width of an image.
        where: `numpy.where`, or torch's.
        take: Rows of an array by their numbers.
    """
    height, width = size_hw
    own, coordinate = take(row_of, flat), take(coordinates, flat)
    entries[:, -1] = float("nan")
    column, line = flat % width, flat // width % height
    entries[0, :-1, 0], entries[0, :-1, 1] = column, line
    entries[1, :-1] = coordinate
    for slope, position, last, stride in ((entries[2], column, width - 1, 1), (entries[3], line, height - 1, width)):
        after = take(row_of, flat + (position < last) * stride)
        before = take(row_of, flat - (position > 0) * stride)
        after, before = where(after < 0, own, after), where(before < 0, own, before)
        neighbours = (after != own) * 1 + (before != own)
        slope[:-1] = (take(coordinate, after) - take(coordinate, before)) / neighbours.clip(1)[:, None]
    a, c, b, d = entries[2, :-1, 0], entries[2, :-1, 1], entries[3, :-1, 0], entries[3, :-1, 1]
    determinant = a * d - b * c
    usable = abs(determinant) > 1e-3 * (a * a + b * b + c * c + d * d)
    scale = usable / where(usable, determinant, 1)
    entries[4, :-1, 0], entries[4, :-1, 1] = d * scale, -c * scale
    entries[5, :-1, 0], entries[5, :-1, 1] = -b * scale, a * scale


def newton_step(points: Any, entries: Any) -> tuple[Any, Any]:
    """Return places and squared remaining distances of points (..., 2), of arrays as of tensors.

    Args:
        points: Canonical points.
        entries: (6, ..., 2), those of their nearest pixels; steps go half a pixel an axis at most.
    """
    place, coordinate, right, down, by_first, by_second = entries
    residual = points - coordinate
    step = (by_first * residual[..., :1] + by_second * residual[..., 1:]).clip(-0.5, 0.5)
    residual = residual - right * step[..., :1] - down * step[..., 1:]
    return place + step, (residual * residual).sum(-1)
