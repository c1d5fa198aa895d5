"""The frames of an animation: all photos gliding into canonical space, or a tour through what corresponds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from asic_cli.viewer.canonical import open_window, wheel_colours
from asic_cli.viewer.glide import Glide
from asic_cli.viewer.pictures import average, in_their_frames
from asic_flow.alignment import VISIBLE_DISTANCE, Alignment
from asic_flow.collection import ImageCollection
from asic_flow.grid import pixel_to_norm
from asic_flow.kernels import CanonicalIndex, warp_bilinear

Frame = NDArray[np.uint8]

_PAPER = 244.0
_GAP = 6
_HELD = 0.2
_BACKGROUND_FADES_BY = 0.35
_REACH_PX = 1.2
_STOPS = 7
_RIM = 0.03  # of a photo's side
_SURE = 0.7  # of the places are less so
_TRAIL = 10


@dataclass(frozen=True, eq=False)
class Stage:
    """Photos at the size they are shown at, with their maps in pixels of their tiles.

    Attributes:
        images: (N, 3, S, S) float32, 0 to 255.
        foreground: (N, S, S) bool.
        canonical: (N, S, S, 2) canonical xy of every pixel.
        confidence: (N, S, S).
        mirrored: (N,) bool.
        tile_scale: Pixels a unit of canonical space.
        tile_centre: (2,) canonical xy shown in the middle of a tile.
        wheel_radius: Canonical distance at which the colour wheel is fully saturated.
    """

    images: Tensor
    foreground: Tensor
    canonical: Tensor
    confidence: Tensor
    mirrored: Tensor
    tile_scale: float
    tile_centre: Tensor
    wheel_radius: float

    def to_tile(self, canonical: Tensor) -> Tensor:
        """Tile pixels (..., 2) of canonical positions."""
        return (canonical - self.tile_centre) * self.tile_scale + (self.images.shape[-1] - 1) / 2

    def glide(self) -> Glide:
        """The photos' ways into canonical space."""
        tiles = self.to_tile(self.canonical).numpy()
        return Glide.fit(tiles, self.foreground.numpy(), self.mirrored.numpy())


def set_up(collection: ImageCollection, alignment: Alignment, side: int, limit: int) -> Stage:
    """Chooses photos evenly and brings them to size.

    Args:
        collection: The photos.
        alignment: Their maps.
        side: S, pixels along a tile.
        limit: How many photos at most; those without an object are left out.

    Raises:
        ValueError: No photo has an object.
    """
    shown = torch.nonzero(alignment.foreground.flatten(1).any(1))[:, 0]
    if not len(shown):
        raise ValueError("expected photos with an object, but every mask is empty")
    chosen = shown[torch.linspace(0, len(shown) - 1, min(limit, len(shown))).round().long()]
    window = open_window(alignment.arrays)
    left, top, right, bottom = window.box_xyxy

    def shrink(planes: Tensor) -> Tensor:
        return interpolate(planes.float(), (side, side), mode="bilinear", antialias=True)

    images = in_their_frames(collection.images[chosen].numpy(), [collection.photos[photo] for photo in chosen.tolist()])
    return Stage(
        images=shrink(torch.from_numpy(images).permute(0, 3, 1, 2)),
        foreground=shrink(alignment.foreground[chosen][:, None].float())[:, 0] > 0.5,
        canonical=shrink(alignment.maps[chosen].permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous(),
        confidence=shrink(alignment.confidence[chosen][:, None])[:, 0],
        mirrored=alignment.mirrored[chosen],
        tile_scale=(side - 1) / max(right - left, bottom - top),
        tile_centre=torch.tensor([(left + right) / 2, (top + bottom) / 2]),
        wheel_radius=window.wheel_radius,
    )


def morph(stage: Stage, frames: int) -> Iterator[Frame]:
    """Every photo glides into canonical space and back; the last tile is the average of what is shown.

    Yields:
        (H, W, 3) uint8.
    """
    glide = stage.glide()
    drawn: dict[float, Frame] = {}
    for number in range(frames):
        away = 1 - abs(2 * number / frames - 1)
        share = round(_ease(min(max((away - _HELD) / (1 - 2 * _HELD), 0), 1)), 6)
        # There and back are the same pictures.
        if share not in drawn:
            drawn[share] = _sheet(_on_the_way(stage, glide, share))
        yield drawn[share]


def tour(stage: Stage, frames: int) -> Iterator[Frame]:
    """One place at a time, marked on every photo and, in the last tile, on the average in canonical space.

    Yields:
        (H, W, 3) uint8.
    """
    index = CanonicalIndex(stage.canonical, stage.foreground)
    glide = stage.glide()
    middle = _average(*_moved(stage, glide, stage.foreground, 1.0))
    canvas = torch.cat((stage.images, middle[None]))
    path = _path(_stops(stage), frames)
    for number in range(frames):
        trail = path[[(number - back) % frames for back in range(_TRAIL, -1, -1)]]
        yield _sheet(_marked(stage, index, canvas, trail))


def _on_the_way(stage: Stage, glide: Glide, share: float) -> Tensor:
    """(N + 1, 3, S, S) tiles on paper, `share` of the way to canonical space, and the average of the objects."""
    everywhere = torch.ones_like(stage.foreground)
    colour, seen = _moved(stage, glide, stage.foreground, share)
    tiles = paper = torch.full_like(colour, _PAPER)
    behind = max(1 - share / _BACKGROUND_FADES_BY, 0.0)
    if behind > 0:
        around, there = _moved(stage, glide, everywhere, share)
        tiles = torch.lerp(tiles, around, behind * there)
    tiles = torch.lerp(tiles, colour, seen)
    crossed = glide.crossed(share)
    if crossed == 1 or not bool(stage.mirrored.any()):
        return torch.cat((tiles, _average(colour, seen)[None]))
    # A mirrored photo stays where it is while it dissolves into its mirror image.
    home = stage.foreground[:, None].float()
    staying = torch.lerp(paper, stage.images, home + behind * (1 - home))
    crossing = torch.lerp(staying, torch.lerp(paper, colour, seen), crossed)
    still = stage.mirrored[:, None, None, None]
    before = _average(torch.where(still, stage.images, colour), torch.where(still, home, seen))
    average = torch.lerp(before, _average(colour, seen), crossed)
    return torch.cat((torch.where(still, crossing, tiles), average[None]))


def _moved(stage: Stage, glide: Glide, pixels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """(N, 3, S, S) colours and (N, 1, S, S) presence of some pixels of each photo, moved a share of the way."""
    count, side = len(stage.images), stage.images.shape[-1]
    axis = torch.arange(side, dtype=torch.float32)
    home = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    places = torch.from_numpy(glide.places(stage.to_tile(stage.canonical).numpy(), share))
    # Gaps are closed and edges soften on the way; a photo that has not moved is shown as it is.
    moving = min(4 * share, 1.0)
    # A look-up steps half a pixel towards what is asked for, so the neighbour of a shown pixel is half a pixel off.
    reach = 0.4 + (_REACH_PX - 0.4) * moving
    found = CanonicalIndex(places, pixels).nearest(home.reshape(-1, 2), max_distance=reach)
    points = pixel_to_norm(found.points_px.reshape(count, side, side, 2), (side, side))
    seen = found.visible.reshape(count, 1, side, side).float()
    soft = avg_pool2d(seen, 3, 1, 1, count_include_pad=False)
    return warp_bilinear(stage.images, points.nan_to_num()), torch.lerp(seen, soft, moving)


def _average(colour: Tensor, seen: Tensor) -> Tensor:
    """(3, S, S): the average of what is seen, on paper."""
    shown = (seen[:, 0] > 0.5).numpy()
    mean = torch.from_numpy(average(colour.permute(0, 2, 3, 1).numpy(), shown)).permute(2, 0, 1).float()
    strength = mean[3:] / 255
    return mean[:3] * strength + _PAPER * (1 - strength)


def _stops(stage: Stage) -> Tensor:
    """(K, 2) places of canonical space, far apart, each surely seen in many photos and well within the object."""
    rim = round(_RIM * stage.images.shape[-1])
    outside = pad(1 - stage.foreground.float(), (rim,) * 4, value=1.0)
    inner = max_pool2d(outside[:, None], 2 * rim + 1, 1)[:, 0] == 0
    known = inner if inner.any() else stage.foreground
    confidence = stage.confidence[known]
    places = stage.canonical[known][confidence >= confidence.kthvalue(1 + int(_SURE * (len(confidence) - 1)))[0]]
    start = (places - places.mean(0)).norm(dim=1).argmax()
    chosen = places[start][None]
    for _ in range(_STOPS - 1):
        chosen = torch.cat((chosen, places[torch.cdist(places, chosen).amin(1).argmax()][None]))
    # Round the object rather than back and forth across it.
    middle = chosen.mean(0)
    return chosen[torch.atan2(*(chosen - middle).T.flip(0)).argsort()]


def _path(stops: Tensor, frames: int) -> Tensor:
    """(frames, 2): from stop to stop and back to the first, resting at each."""
    at = torch.arange(frames) * len(stops) / frames
    stop = at.long()
    share = torch.tensor([_ease(min(2 * value, 1)) for value in (at - stop).tolist()])[:, None]
    return stops[stop - 1] * (1 - share) + stops[stop] * share


def _marked(stage: Stage, index: CanonicalIndex, canvas: Tensor, trail: Tensor) -> Tensor:
    """The canvas with a place marked on every tile, its way behind it; fainter where a photo may not show it."""
    count, side = len(stage.images), stage.images.shape[-1]
    found = index.nearest(trail, max_distance=VISIBLE_DISTANCE["canonical"])
    points = torch.cat((found.points_px, stage.to_tile(trail)[None]))
    column, row = found.points_px[:, -1].round().long().clamp(0, side - 1).unbind(-1)
    sure = stage.confidence[torch.arange(count), row, column] * found.visible[:, -1]
    strength = torch.cat((0.12 + 0.88 * (2 * sure).clamp(0, 1), torch.ones(1)))[:, None, None, None]
    colours = torch.from_numpy(wheel_colours(trail.numpy(), stage.wheel_radius)).float()
    unit = side / 100
    drawn = canvas
    for step in range(len(trail) - 1):
        drawn = _disc(drawn, points[:, step], 1.3 * unit, colours[step])
    for radius, colour in ((5.0, torch.zeros(3)), (4.5, torch.full((3,), 255.0)), (3.2, colours[-1])):
        drawn = _disc(drawn, points[:, -1], radius * unit, colour)
    return canvas * (1 - strength) + drawn * strength


def _disc(canvas: Tensor, centres_px: Tensor, radius: float, colour: Tensor) -> Tensor:
    """A disc (3,) on every tile of (N, 3, S, S), smooth at its rim; none where the centre is NaN."""
    axis = torch.arange(canvas.shape[-1])
    across = axis - centres_px[:, 0, None]
    along = axis - centres_px[:, 1, None]
    distance = torch.hypot(across[:, None, :], along[:, :, None])
    share = (radius + 0.5 - distance).clamp(0, 1).nan_to_num()[:, None]
    return canvas * (1 - share) + colour[:, None, None] * share


def _sheet(tiles: Tensor) -> Frame:
    """(H, W, 3): tiles in rows, of even height and width as video wants it."""
    count, side = len(tiles), tiles.shape[-1]
    # Few places left empty, and a shape between a square and a wide screen.
    columns = min(
        range(1, count + 1),
        key=lambda columns: -count % columns + abs(math.log(columns / math.ceil(count / columns) / 1.5)) * count / 4,
    )
    rows = math.ceil(count / columns)
    step = side + _GAP
    height, width = rows * step + _GAP, columns * step + _GAP
    sheet = np.full((height + height % 2, width + width % 2, 3), round(_PAPER), np.uint8)
    pictures = tiles.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = _GAP + row * step, _GAP + column * step
        sheet[top : top + side, left : left + side] = picture
    return sheet


def _ease(share: float) -> float:
    return share * share * (3 - 2 * share)
