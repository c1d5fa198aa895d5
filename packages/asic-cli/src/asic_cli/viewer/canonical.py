"""Canonical space as the page shows it: the window that holds the object, and the colour wheel painted on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asic_cli.viewer.planes import grown
from asic_flow.run_folder import AlignmentArrays, sample

SHARE_SHOWN = 0.2
"""Averages show a place that at least this share of the photos, and two of them, show."""

_LONGER_SIDE = 256
_SEARCH_CELLS = 96
_WIDEST = 3.0
_MARGIN = 0.04
_REACH_PX = 1.5


@dataclass(frozen=True, eq=False)
class CanonicalWindow:
    """The part of canonical space that the page shows, and what every photo shows of it.

    Attributes:
        box_xyxy: Left, top, right and bottom in canonical units: the centres of the outermost pixels.
        points_px: (N, H, W, 2) float32, the model pixel of photo n that each canonical pixel shows.
        visible: (N, H, W) bool, whether photo n shows that canonical pixel.
        wheel_radius: Canonical distance from the origin at which the colour wheel is fully saturated.
    """

    box_xyxy: tuple[float, float, float, float]
    points_px: NDArray[np.float32]
    visible: NDArray[np.bool_]
    wheel_radius: float

    def resample(
        self, images: NDArray[Any], each: Callable[..., Iterable[NDArray[np.float32]]] = map
    ) -> NDArray[np.float32]:
        """(N, H, W, C) float32: (N, h, w, C) images seen in the window; zero where a photo shows nothing.

        Args:
            images: Of all photos.
            each: As in `open_window`.
        """
        seen = np.zeros((*self.visible.shape, images.shape[-1]), np.float32)

        def read(photo: int) -> NDArray[np.float32]:
            return sample(images, self.points_px[photo][self.visible[photo]], photo)

        for photo, colours in enumerate(each(read, range(len(seen)))):
            seen[photo][self.visible[photo]] = colours
        return seen


def needed_photos(count: int) -> int:
    """How many of `count` photos must show a place for averages to show it: a fifth, and two where there are two."""
    return max(min(2, count), math.ceil(SHARE_SHOWN * count))


def open_window(
    alignment: AlignmentArrays, each: Callable[..., Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = map
) -> CanonicalWindow:
    """Finds the box that holds what enough photos show, and looks at every photo through it.

    A photo shows a pixel of the window when its nearest foreground lies within 1.5 of the window's pixels.

    Args:
        alignment: The maps.
        each: How to go through the photos: an executor's `map` takes several at once.
    """
    box = _content_box(alignment)
    margin = _MARGIN * max(box[2] - box[0], box[3] - box[1])
    left, top, right, bottom = box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin
    pixel = max(right - left, bottom - top) / (_LONGER_SIDE - 1)
    height, width = round((bottom - top) / pixel) + 1, round((right - left) / pixel) + 1
    corner = np.array([left, top], np.float32)

    def look(photo: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W, 2) points and (H, W) visible of one photo."""
        points_px, visible = np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.bool_)
        shown = alignment.maps[photo][alignment.foreground[photo]]
        # Far from all that the photo shows nothing needs to be looked up.
        rows, columns = np.nonzero(_near(((shown - corner) / pixel).round().astype(np.int64), (height, width)))
        asked = np.stack((columns, rows), -1).astype(np.float32) * np.float32(pixel) + corner
        found = alignment.look_up(asked, photo)
        points_px[rows, columns] = np.nan_to_num(found.points_px)
        visible[rows, columns] = found.distance <= _REACH_PX * pixel
        return points_px, visible

    points_px, visible = map(np.stack, zip(*each(look, range(len(alignment))), strict=True))
    return CanonicalWindow(
        box_xyxy=(left, top, left + (width - 1) * pixel, top + (height - 1) * pixel),
        points_px=points_px,
        visible=visible,
        wheel_radius=max(abs(edge) for edge in box),
    )


def _near(places: NDArray[np.int64], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels that hold a place (M, 2), and those so near that one of them may show it."""
    height, width = size_hw
    inside = ((places >= 0) & (places < [width, height])).all(1)
    held = np.zeros((height, width), np.bool_)
    held[places[inside, 1], places[inside, 0]] = True
    return grown(held, 5)


def wheel_colours(canonical: NDArray[np.floating], radius: float) -> NDArray[np.uint8]:
    """The colour of canonical positions: hue says the direction from the origin, saturation the distance.

    Args:
        canonical: (..., 2) canonical xy.
        radius: Distance from which on the colours are fully saturated.

    Returns:
        (..., 3) uint8 sRGB of nearly even lightness, so that what is painted over stays readable.

    Source: the Oklab colour space of Ottosson, "A perceptual color space for image processing", 2020.
    """
    x, y = np.asarray(canonical, np.float64)[..., 0] / radius, np.asarray(canonical, np.float64)[..., 1] / radius
    distance = np.minimum(np.hypot(x, y), 1)
    # A power below one spreads the hues towards the middle, where most of the object lies.
    chroma = 0.18 * distance**0.65
    angle = np.arctan2(y, x)
    lightness = 0.84 - 0.13 * distance
    a, b = chroma * np.cos(angle), chroma * np.sin(angle)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ),
        axis=-1,
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _content_box(alignment: AlignmentArrays) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in canonical units of what enough photos show, to a cell's precision."""
    image = np.nonzero(alignment.foreground)[0]
    shown = alignment.maps[alignment.foreground]
    reach = min(max(float(np.abs(shown).max()), 0.1), _WIDEST) if len(shown) else 1.0
    cell = 2 * reach / (_SEARCH_CELLS - 1)
    place = ((shown + reach) / cell).round().astype(np.int64)
    kept = ((place >= 0) & (place < _SEARCH_CELLS)).all(1)
    cells = np.zeros((len(alignment), _SEARCH_CELLS, _SEARCH_CELLS), np.bool_)
    cells[image[kept], place[kept, 1], place[kept, 0]] = True
    # Pixels of a photo that shows the object small lie further apart than cells do.
    enough = grown(cells, 3).sum(0) >= needed_photos(len(alignment))
    if not enough.any():
        return -reach, -reach, reach, reach
    rows, columns = np.flatnonzero(enough.any(1)), np.flatnonzero(enough.any(0))
    left, top, right, bottom = (float(edge) * cell - reach for edge in (columns[0], rows[0], columns[-1], rows[-1]))
    return left, top, right, bottom
