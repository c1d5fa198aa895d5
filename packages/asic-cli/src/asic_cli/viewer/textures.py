"""Everything the viewer's script computes with: canonical maps, confidence, masks and matches as small binary textures.

N photos have N maps into one space, so N textures carry the correspondences of all N^2 pairs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asic_cli.viewer.canonical import CanonicalWindow
from asic_cli.viewer.glide import Glide
from asic_cli.viewer.planes import box_mean, cell_means
from asic_flow.collection_folder import CollectionArrays
from asic_flow.matches import MatchSet
from asic_flow.run_folder import (
    CALIBRATION,
    LEAST_FLAG_WEIGHT,
    NEIGHBOUR_TEMPERATURE,
    VISIBLE_DISTANCE,
    AlignmentArrays,
    trust_in_places,
)

MAP_SIDE = 128
SECOND_MAP_SIDE = 80
CONFIDENCE_SIDE = 64
MATCHES_A_PAIR = 80


def viewer_data(
    collection: CollectionArrays,
    matches: MatchSet,
    alignment: AlignmentArrays,
    window: CanonicalWindow,
    truth: Mapping[str, Any] | None = None,
) -> str:
    """The data block of the page: JSON in ASCII that is safe inside a script element.

    Numbers in textures are little-endian. A map has 128 x 128 texels whose outermost centres are the centres of the
    photo's corner pixels, each a canonical xy in 16-bit steps between the photo's least and greatest. A photo that
    shows both sides has a second map of 80 x 80 texels and how well that fits, its symmetry. Confidence has 64 x 64
    texels of 8 bits, averaged over the foreground. A mask is the lengths of its runs, row by row, background first.
    Consensus places are those of a photo's foreground tokens, by their 16-bit numbers in the grid: xy on maps that are
    not mirrored and on mirrored ones, in 16-bit steps between the photo's least and greatest, with the trust in both. A
    match is five bytes: both ends as 255ths of the photo's sides, and its similarity from 0 to 1. Saliency has 8 bits a
    token, parts are run lengths with their labels; `glide` is that of `Glide`, in pixels of the photo and of the
    canonical tile; `truth` is taken as it is.
    """
    document = map_data(alignment) | {
        "box": [round(edge, 6) for edge in window.box_xyxy],
        "wheelRadius": window.wheel_radius,
        "pairs": _pairs(matches, alignment.size_hw),
        "truth": truth,
        "tokens": asdict(collection.grid),
        "consensus": {
            "weight": alignment.config.combine * alignment.config.combine_scale,
            "scale": alignment.config.combine_scale,
            "leastFlagWeight": LEAST_FLAG_WEIGHT,
            "temperature": NEIGHBOUR_TEMPERATURE,
        },
    }
    trust = trust_in_places(alignment.mirrored, alignment.second_photo, alignment.second_symmetry)
    glide = _glide(alignment, window)
    for index, record in enumerate(document["photos"]):
        record["glide"] = {
            "start": glide.start[index].tolist(),
            "end": glide.end[index].tolist(),
            "turn": float(glide.turn[index]),
            "growth": float(glide.growth[index]),
        }
        record["places"] = _places(alignment, index) | {"trust": trust[index].tolist()}
        record["saliency"] = _base64((collection.saliency[index] * 255).clip(0, 255).round().astype(np.uint8))
        if collection.parts is not None:
            record["parts"] = _labels(collection.parts[index])
    return to_script_json(document)


def map_data(alignment: AlignmentArrays) -> dict[str, Any]:
    """The textures of all photos, and how to read them."""
    return {
        "size": list(alignment.size_hw),
        "residualScale": alignment.config.residual_scale,
        "visibleDistance": dict(VISIBLE_DISTANCE),
        "calibration": dict(CALIBRATION),
        "confidenceSide": CONFIDENCE_SIDE,
        "photos": [_photo(alignment, index) for index in range(len(alignment))],
    }


def to_script_json(document: Mapping[str, Any]) -> str:
    """JSON in ASCII that is safe inside a script element."""
    # "<" could end the element; everything else in JSON is harmless there.
    return json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _glide(alignment: AlignmentArrays, window: CanonicalWindow) -> Glide:
    """How photos glide into the window, as the canonical tile shows it."""
    height, width = alignment.size_hw
    left, top, right, bottom = window.box_xyxy
    scale = min((width - 1) / (right - left), (height - 1) / (bottom - top))
    centre, middle = (
        np.array(ends, np.float32) / 2 for ends in ((left + right, top + bottom), (width - 1, height - 1))
    )
    tiles = (alignment.maps - centre) * np.float32(scale) + middle
    return Glide.fit(tiles.astype(np.float32, copy=False), alignment.foreground, alignment.mirrored)


def _photo(alignment: AlignmentArrays, index: int) -> dict[str, Any]:
    photo = alignment.photos[index]
    record: dict[str, Any] = {
        "path": photo.path,
        "size": list(photo.size_hw),
        "scale": list(photo.scale_xy),
        "offset": list(photo.offset_xy),
        "map": _map(alignment.maps[index], MAP_SIDE),
        "mirrored": bool(alignment.mirrored[index]),
        "confidence": _base64(_confidence(alignment.confidence[index], alignment.foreground[index])),
        "mask": _base64(run_lengths(alignment.foreground[index])),
    }
    for row in np.flatnonzero(alignment.second_photo == index):
        second = _map(alignment.second_maps[row], SECOND_MAP_SIDE)
        record |= {"second": second, "symmetry": float(alignment.second_symmetry[row])}
    return record


def _places(alignment: AlignmentArrays, index: int) -> dict[str, Any]:
    mine = np.flatnonzero(alignment.token_image == index)
    mine = mine[alignment.token[mine].argsort()]
    shown = np.zeros(alignment.grid.rows * alignment.grid.cols, np.bool_)
    shown[alignment.token[mine]] = True
    places = alignment.places[mine].reshape(-1, 4)
    low, high = (places.min(0), places.max(0)) if len(places) else np.zeros((2, 4))
    steps = (places - low) / np.maximum(high - low, 1e-9) * 65535
    return {
        "shown": _base64(run_lengths(shown)),
        "steps": _base64(steps.round().astype("<u2")),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _map(canonical: NDArray[np.float32], side: int) -> dict[str, Any]:
    steps, low, high = quantise(canonical, side)
    return {"side": side, "texels": _base64(steps), "low": low, "high": high}


def quantise(canonical: NDArray[np.float32], side: int) -> tuple[NDArray[np.uint16], list[float], list[float]]:
    """Takes a map (H, W, 2) to a square texture of 16-bit steps, with the values of the first step and the last."""
    texels: NDArray[np.floating] = canonical
    for axis in (0, 1):
        at = np.linspace(0, canonical.shape[axis] - 1, side)
        before = np.minimum(at.astype(np.int64), canonical.shape[axis] - 2)
        share = np.expand_dims(at - before, (1, 2) if axis == 0 else (0, 2))
        texels = texels.take(before, axis) * (1 - share) + texels.take(before + 1, axis) * share
    low, high = texels.min((0, 1)), texels.max((0, 1))
    steps = (texels - low) / np.maximum(high - low, 1e-9) * 65535
    return steps.round().astype("<u2"), low.tolist(), high.tolist()


def run_lengths(mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """The lengths of alternating runs of a mask, row by row, background first; a long run is cut by empty ones.

    >>> run_lengths(np.array([[False, True], [True, False]])).tolist()
    [1, 2, 1]
    """
    flat = np.concatenate(([False], mask.ravel()))
    edges = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]), [mask.size]))
    lengths: list[int] = []
    for length in np.diff(edges).tolist():
        whole, rest = divmod(length, 65535)
        lengths.extend([65535, 0] * whole + [rest])
    return np.array(lengths, "<u2")


def _labels(labels: NDArray[np.uint8]) -> dict[str, str]:
    """The lengths of runs of one label, row by row, and the labels."""
    flat = labels.ravel()
    starts = np.concatenate(([0], np.flatnonzero(np.diff(flat)) + 1))
    lengths = np.diff(np.concatenate((starts, [flat.size])))
    # A length has 16 bits.
    parts = -(-lengths // 65535)
    cut = np.minimum(np.repeat(lengths, parts) - 65535 * (_within(parts)), 65535)
    return {"lengths": _base64(cut.astype("<u2")), "labels": _base64(np.repeat(flat[starts], parts))}


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... within each group of so many.

    >>> _within(np.array([1, 3])).tolist()
    [0, 0, 1, 2]
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _confidence(confidence: NDArray[np.float32], foreground: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The mean over the foreground of every texel; texels next to the foreground take their neighbours' mean."""
    share, total = cell_means(np.stack((foreground, confidence * foreground)).astype(np.float32), CONFIDENCE_SIDE)
    near_share, near_total = box_mean(np.stack((share, total)), 3)
    around = near_total / np.maximum(near_share, 1e-6)
    texels = np.where(share > 0, total / np.maximum(share, 1e-6), around)
    return np.asarray((texels * 255).clip(0, 255).round(), np.uint8)


def _pairs(matches: MatchSet, size_hw: tuple[int, int]) -> list[list[Any]]:
    """Of every pair its two photos and its best matches, in falling order of similarity."""
    side = np.array([size_hw[1] - 1, size_hw[0] - 1]) / 255
    pairs = []
    for pair, (first, second) in enumerate(matches.pairs.tolist()):
        rows = np.arange(matches.offsets[pair], matches.offsets[pair + 1])
        rows = rows[np.argsort(-matches.score[rows], kind="stable")[:MATCHES_A_PAIR]]
        fields = (matches.xy_a[rows] / side, matches.xy_b[rows] / side, matches.score[rows, None] * 255)
        bytes_ = np.concatenate(fields, 1).clip(0, 255).round().astype(np.uint8)
        pairs.append([first, second, _base64(bytes_)])
    return pairs


def _base64(values: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
