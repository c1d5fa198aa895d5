"""The still pictures of the report, as pixels and as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401  # Named here, it is not searched for among all that Pillow can write.
)

from asic_cli.viewer.canonical import needed_photos, wheel_colours
from asic_cli.viewer.planes import box_mean
from asic_flow.collection_folder import CollectionArrays, Photo
from asic_flow.matches import MatchSet
from asic_flow.run_folder import AlignmentArrays

_BLUR = 16  # times as long a photo's side is as half the square that is averaged over
_SOFT_SHARE = 0.12
_LINES_A_PAIR = 90
_INLIER_DISTANCE = 0.15

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PairLines:
    """The matches of one pair that a picture draws.

    Attributes:
        first: Index of the left photo.
        second: Index of the right photo.
        ends_px: (L, 4) float, model xy in the left photo and in the right one; those that agree come last, on top.
        agrees: (L,) bool, whether both ends lie within 0.15 of each other in canonical space.
        colours: (L, 3) uint8 wheel colours of the canonical position halfway.
        num_agreeing: How many of all the pair's matches agree.
        num_matches: How many the pair has.
    """

    first: int
    second: int
    ends_px: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    colours: Pixels
    num_agreeing: int
    num_matches: int


def data_address(pixels: Pixels, *, kind: str = "JPEG", quality: int = 86, longer_side: int | None = None) -> str:
    """Encodes an (H, W, 3 or 4) picture as a `data:` address.

    Args:
        pixels: RGB or RGBA.
        kind: `JPEG`, `WEBP` or `PNG`.
        quality: Of the lossy kinds.
        longer_side: Shrinks a larger picture to this many pixels.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if longer_side is not None and max(picture.size) > longer_side:
        factor = longer_side / max(picture.size)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if kind == "PNG":
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def in_their_frames(images: Pixels, photos: Sequence[Photo]) -> Pixels:
    """(N, H, W, 3): photos as they are, and out of focus what continues their edges where the square goes beyond them.

    The model sees these edges drawn out; to a person they look like part of the photo.
    """
    shown = images.copy()
    rows, columns = (np.arange(length) for length in images.shape[1:3])
    side = images.shape[1] // _BLUR * 2 + 1
    for picture, photo in zip(shown, photos, strict=True):
        height, width = photo.size_hw
        ends = photo.to_model(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
        (left, right), (top, bottom) = ends.T
        inside = ((rows >= top) & (rows <= bottom))[:, None] & ((columns >= left) & (columns <= right))
        if not inside.all():
            blurred = picture.transpose(2, 0, 1)
            for _ in range(3):
                blurred = box_mean(blurred, side)
            picture[~inside] = blurred.transpose(1, 2, 0)[~inside].round()
    return shown


def average(images: NDArray[Any], visible: NDArray[np.bool_]) -> Pixels:
    """The mean of what the photos show at each place, transparent where too few of them show anything.

    Args:
        images: (N, H, W, 3) 0 to 255.
        visible: (N, H, W) bool, which pixels count.

    Returns:
        (H, W, 4) uint8 RGBA.
    """
    weight = _faded(visible)
    total = weight.sum(0)
    colour = np.zeros(images.shape[1:], np.float32)
    for image, share in zip(images, weight, strict=True):
        colour += image * share[..., None]
    colour /= np.maximum(total, 1e-6)[..., None]
    needed = needed_photos(len(images))
    shown = box_mean(visible.sum(0) >= needed, 5)
    alpha = np.square(shown) * (0.4 + (total - needed) / (_SOFT_SHARE * len(images) + 1)).clip(0, 1)
    return np.concatenate((colour, alpha[..., None] * 255), -1).round().astype(np.uint8)


def _faded(visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N, H, W) 0 to 1: edges of masks are jagged, so a photo fades out over its last pixels."""
    return box_mean(visible, 5) * visible


def crop_to_content(picture: Pixels) -> Pixels:
    """Cuts transparent borders off an (H, W, 4) picture, but for a small margin; a picture without content stays."""
    rows, columns = np.flatnonzero(picture[..., 3].any(1)), np.flatnonzero(picture[..., 3].any(0))
    if not len(rows):
        return picture
    margin = round(0.04 * max(len(rows), len(columns)))
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return picture[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]


def cut_outs(seen: NDArray[np.float32], visible: NDArray[np.bool_]) -> list[Pixels]:
    """(H, W, 4) RGBA of every photo's object: what is seen of it (N, H, W, 3), and where (N, H, W)."""
    alpha = 255 * np.square(_faded(visible))
    return [
        np.concatenate((colour, opacity[..., None]), -1).round().astype(np.uint8)
        for colour, opacity in zip(seen, alpha, strict=True)
    ]


def wheel_on_photos(collection: CollectionArrays, alignment: AlignmentArrays, radius: float) -> list[Pixels]:
    """(H, W, 3) of every photo, its object painted with the colours of canonical space and all else faded."""
    painted = []
    for image, mask, canonical in zip(collection.images, alignment.foreground, alignment.maps, strict=True):
        luma = (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        picture = np.broadcast_to((150 + 0.22 * luma).astype(np.uint8), image.shape).copy()
        shade = (0.62 + 0.38 * luma[mask] / 160).clip(0.45, 1.12)
        picture[mask] = (wheel_colours(canonical[mask], radius) * shade).clip(0, 255).astype(np.uint8)
        painted.append(picture)
    return painted


def wheel(radius_px: int) -> Pixels:
    """(2 r + 1, 2 r + 1, 4) RGBA of the colour wheel itself: canonical [-radius, radius]^2, transparent outside."""
    axis = np.arange(-radius_px, radius_px + 1) / radius_px
    canonical = np.stack(np.meshgrid(axis, axis), axis=-1)
    disc = np.hypot(*canonical.transpose(2, 0, 1)) <= 1
    return np.concatenate((wheel_colours(canonical, 1.0), disc[..., None] * np.uint8(255)), -1)


def lines_of_pairs(matches: MatchSet, alignment: AlignmentArrays, radius: float, count: int = 3) -> list[PairLines]:
    """The matches of the pair with most agreement and of pairs further down the ranking, each with photos of its own.

    The ranking is by how many matches agree in canonical space: the pictures show the best pair, one a quarter down
    and the median one, so that they promise no more than the collection holds.
    """
    counts = np.diff(matches.offsets)
    chosen_maps = alignment.choose(*(np.repeat(photo, counts).astype(np.int64) for photo in matches.pairs.T))
    canonical = [
        alignment.places_on_maps(ends, number)
        for ends, number in zip((matches.xy_a, matches.xy_b), chosen_maps, strict=True)
    ]
    agrees = np.hypot(*(canonical[0] - canonical[1]).T) <= _INLIER_DISTANCE
    agreeing = np.add.reduceat(np.append(agrees, False), matches.offsets[:-1]) * (counts > 0)
    ranking = np.argsort(-agreeing, kind="stable")
    ranking = ranking[counts[ranking] > 0]
    chosen: list[int] = []
    for place in np.linspace(0, 0.5, count):
        start = round(place * (len(ranking) - 1)) if len(ranking) else 0
        taken = set(matches.pairs[chosen].ravel().tolist())
        free = [pair for pair in ranking[start:] if pair not in chosen]
        fresh = [pair for pair in free if not taken & set(matches.pairs[pair].tolist())]
        chosen.extend((fresh or free)[:1])
    return [_lines(matches, int(pair), canonical, agrees, radius) for pair in chosen]


def _lines(
    matches: MatchSet, pair: int, canonical: list[NDArray[np.float32]], agrees: NDArray[np.bool_], radius: float
) -> PairLines:
    rows = np.arange(matches.offsets[pair], matches.offsets[pair + 1])
    # Evenly down the scores rather than the top: a picture of the best alone would flatter.
    ordered = rows[np.argsort(-matches.score[rows], kind="stable")]
    drawn = ordered[np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _LINES_A_PAIR)).round().astype(int))]
    drawn = drawn[np.argsort(agrees[drawn], kind="stable")]
    return PairLines(
        first=int(matches.pairs[pair, 0]),
        second=int(matches.pairs[pair, 1]),
        ends_px=np.concatenate((matches.xy_a[drawn], matches.xy_b[drawn]), 1).astype(np.float64),
        agrees=agrees[drawn],
        colours=wheel_colours((canonical[0][drawn] + canonical[1][drawn]) / 2, radius),
        num_agreeing=int(agrees[rows].sum()),
        num_matches=len(rows),
    )
