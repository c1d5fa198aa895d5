"""What a finished run looks like, as plain pictures for a `Tracker`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from asic_cli.viewer import pictures
from asic_cli.viewer.canonical import CanonicalWindow, open_window, wheel_colours
from asic_flow.alignment import Alignment
from asic_flow.collection import ImageCollection
from asic_flow.matches import MatchSet

_COLUMNS = 5
_DOTS_APART_PX = 12
_DOT_PX = 2
_PART_COLOURS = np.array(
    [[214, 69, 65], [61, 133, 198], [106, 168, 79], [230, 145, 56], [142, 124, 195], [69, 129, 142]], np.float32
)

Pixels = NDArray[np.uint8]


def pictures_of(collection: ImageCollection, matches: MatchSet, alignment: Alignment) -> Iterator[tuple[str, Pixels]]:
    """Names and (H, W, 3) pictures: average, objects and colours in canonical space, matches, correspondences, parts.

    Args:
        collection: The photos.
        matches: Theirs.
        alignment: Of them.
    """
    photos, maps = collection.arrays(), alignment.arrays
    window = open_window(maps)
    seen = window.resample(photos.images)
    average = pictures.average(seen, window.visible)
    yield "average", _on_white(average)
    yield "objects", _sheet([_on_white(one) for one in pictures.cut_outs(seen, window.visible)])
    yield "colours", _sheet(pictures.wheel_on_photos(photos, maps, window.wheel_radius))
    for number, lines in enumerate(pictures.lines_of_pairs(matches, maps, window.wheel_radius)):
        yield f"matches/{number}", _drawn_lines(collection, lines)
        yield f"correspondences/{number}", _dots(collection, alignment, window, average, lines)
    if photos.parts is not None:
        yield "parts", _parts_spread(photos.parts, window)


def _on_white(picture: Pixels) -> Pixels:
    alpha = picture[..., 3:].astype(np.float32) / 255
    return (picture[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def _sheet(shown: Sequence[Pixels]) -> Pixels:
    """Pictures of one size in rows of five."""
    blank = np.full_like(shown[0], 255)
    filled = [*shown, *[blank] * (-len(shown) % min(_COLUMNS, len(shown)))]
    columns = min(_COLUMNS, len(shown))
    rows = [np.concatenate(filled[start : start + columns], 1) for start in range(0, len(filled), columns)]
    return np.concatenate(rows)


def _drawn_lines(collection: ImageCollection, lines: pictures.PairLines) -> Pixels:
    """Two photos side by side; matches that disagree in grey below those that agree in colour."""
    images = collection.images[[lines.first, lines.second]].numpy()
    picture = Image.fromarray(np.concatenate(list(images), 1))
    draw = ImageDraw.Draw(picture)
    shift = images.shape[2]
    for (x1, y1, x2, y2), agrees, colour in zip(lines.ends_px, lines.agrees, lines.colours, strict=True):
        draw.line((x1, y1, x2 + shift, y2), fill=tuple(map(int, colour)) if agrees else (150, 150, 150))
    return np.asarray(picture)


def _dots(
    collection: ImageCollection,
    alignment: Alignment,
    window: CanonicalWindow,
    average: Pixels,
    lines: pictures.PairLines,
) -> Pixels:
    """Source, canonical space and target: a lattice of the source's foreground where the run finds it."""
    height, width = collection.size_hw
    rows, columns = (np.arange(_DOTS_APART_PX // 2, length, _DOTS_APART_PX) for length in (height, width))
    lattice = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    inside = alignment.foreground[lines.first].numpy()[lattice[:, 1], lattice[:, 0]]
    points = lattice[inside].astype(np.float64)
    source, target = collection.photos[lines.first], collection.photos[lines.second]
    found = alignment.transfer(source.to_image(points), lines.first, lines.second)
    canonical = alignment.to_canonical(source.to_image(points), lines.first)
    left, top, right, bottom = window.box_xyxy
    size = np.array(average.shape[1::-1]) - 1
    placed = (np.asarray(canonical) - [left, top]) / [right - left, bottom - top] * size
    colours = wheel_colours(np.asarray(canonical), window.wheel_radius)
    panels = (
        (collection.images[lines.first].numpy(), points, np.ones(len(points), bool)),
        (_on_white(average), placed, np.ones(len(points), bool)),
        (collection.images[lines.second].numpy(), target.to_model(found.points_image), np.asarray(found.visible)),
    )
    return np.concatenate([_dotted(image, xy, shown, colours, height) for image, xy, shown in panels], 1)


def _dotted(image: Pixels, points: NDArray[np.float64], shown: NDArray[np.bool_], colours: Pixels, side: int) -> Pixels:
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for (x, y), visible, colour in zip(points, shown, colours, strict=True):
        if visible:
            draw.ellipse((x - _DOT_PX, y - _DOT_PX, x + _DOT_PX, y + _DOT_PX), fill=tuple(map(int, colour)))
    return np.asarray(picture.resize((round(picture.width * side / picture.height), side)))


def _parts_spread(parts: Pixels, window: CanonicalWindow) -> Pixels:
    """Each canonical place in the colours of the parts that photos show there, the whiter the fewer."""
    onto = parts[..., None] == np.arange(1, parts.max() + 1)
    share = window.resample(onto).sum(0) / np.maximum(window.visible.sum(0), 1)[..., None]
    colours = _PART_COLOURS[np.arange(share.shape[-1]) % len(_PART_COLOURS)]
    return np.asarray((share @ colours + 255 * (1 - share.sum(-1, keepdims=True))).clip(0, 255), np.uint8)
