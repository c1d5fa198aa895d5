"""The parts of the page that shows two runs side by side."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from asic_cli.breakdown import ALPHA, Breakdown, Share
from asic_cli.difference import GRID_SIDE, Difference
from asic_cli.viewer import pictures
from asic_cli.viewer.canonical import open_window
from asic_cli.viewer.scores import bar, signed
from asic_cli.viewer.sections import captions, photo_name, text
from asic_cli.viewer.textures import map_data, to_script_json
from asic_flow.alignment import Alignment
from asic_flow.collection import ImageCollection, Photo

if TYPE_CHECKING:
    from asic_cli.runs import Run

DIFFERENCE_SHOWN = 0.25
"""The share of the frame's side that the heat map shows at its brightest."""

_ABSENT = "\N{EN DASH}"


def data(first: Alignment, second: Alignment, difference: Difference) -> str:
    """The data block: both runs' textures in the first one's frame, and how far apart their answers are.

    A difference has 32 x 32 texels of 8 bits: 255 for no object, else 0 to 254 for 0 to a quarter of the side.
    """
    scaled = (difference.by_place / DIFFERENCE_SHOWN).clamp(0, 1) * 254
    texels = torch.where(scaled.isnan(), 255.0, scaled).round().to(torch.uint8).numpy()
    # Nothing here is drawn in canonical space: two runs have two of them.
    document = map_data(first.arrays) | {
        "box": [-1, -1, 1, 1],
        "other": map_data(second.arrays),
        "differenceSide": GRID_SIDE,
        "differences": [base64.b64encode(photo.tobytes()).decode() for photo in texels],
    }
    return to_script_json(document)


def averages(runs: tuple[Run, Run], names: tuple[str, str]) -> str:
    """Both runs' average photo in their own canonical spaces."""
    figures = []
    for run, name in zip(runs, names, strict=True):
        window = open_window(run.alignment.arrays)
        picture = pictures.average(window.resample(run.collection.images.numpy()), window.visible)
        figures.append(
            f'<figure class="average"><img alt="Average of {name}" '
            f'src="{pictures.data_address(picture, kind="WEBP", quality=88)}"><figcaption>{name}</figcaption></figure>'
        )
    return "".join(figures)


def part_tables(breakdowns: tuple[Breakdown, Breakdown], photos: tuple[Photo, ...], names: tuple[str, str]) -> str:
    """PCK of both runs by photo and by keypoint, those that changed most first."""
    first, second = breakdowns
    photo_labels = captions([photo.path for photo in photos])
    keypoint_labels = [text(name) for name in first.keypoint_names]
    by_photo = _part_table("Photo", photo_labels, first.found_in, second.found_in, names)
    by_keypoint = _part_table("Keypoint", keypoint_labels, first.by_keypoint, second.by_keypoint, names)
    return (
        f'<div class="halves">{by_photo}{by_keypoint}</div><p class="quiet">PCK@{ALPHA:.2f} of the default method in '
        "per cent, of the points carried into a photo and of a keypoint's; the greatest changes first.</p>"
    )


def settings_table(first: Mapping[str, str], second: Mapping[str, str], names: tuple[str, str]) -> str:
    """What was done differently, or that nothing was."""
    rows = "".join(
        f'<tr><th scope="row">{text(key)}</th><td>{text(first.get(key, _ABSENT))}</td>'
        f"<td>{text(second.get(key, _ABSENT))}</td></tr>"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    )
    if not rows:
        return '<p class="quiet">Both were made with the same settings.</p>'
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">Setting</th><th scope="col">{names[0]}</th>'
        f'<th scope="col">{names[1]}</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def tiles(collection: ImageCollection, difference: Difference) -> str:
    """Every photo with room for its twin, which the script puts in; those on which the runs differ most first."""
    apart = difference.by_photo.nan_to_num(-1).tolist()
    order = sorted(range(len(collection)), key=lambda photo: -apart[photo])
    return "".join(
        f'<figure class="double" data-photo="{photo}"><div class="sides">'
        f'<div class="side"><div class="picture"><img src="{_address(collection, photo)}" alt=""></div></div>'
        '<div class="side"><div class="picture"></div></div></div>'
        f"<figcaption>{photo_name(collection.photos[photo].path)} <span>{_apart(apart[photo])}</span></figcaption>"
        "</figure>"
        for photo in order
    )


def _address(collection: ImageCollection, photo: int) -> str:
    photos = slice(photo, photo + 1)
    (shown,) = pictures.in_their_frames(collection.images[photos].numpy(), collection.photos[photos])
    return pictures.data_address(shown, quality=82)


def _apart(share: float) -> str:
    return "no object" if share < 0 or math.isnan(share) else f"{100 * share:.1f} % apart"


def _part_table(
    head: str, labels: list[str], first: tuple[Share, ...], second: tuple[Share, ...], names: tuple[str, str]
) -> str:
    rows = [
        (label, 100 * before.hits / before.total, 100 * after.hits / after.total)
        for label, before, after in zip(labels, first, second, strict=True)
        if before.total and after.total
    ]
    rows.sort(key=lambda row: -abs(row[2] - row[1]))
    body = "".join(
        f'<tr><th scope="row">{label}</th>{bar(before)}{bar(after)}'
        f'<td class="{"gain loss" if after < before else "gain"}">{signed(after - before)}</td></tr>'
        for label, before, after in rows
    )
    return (
        f'<div class="scroll"><table class="scores"><thead><tr><th scope="col">{head}</th>'
        f'<th scope="col">{names[0]}</th><th scope="col">{names[1]}</th><th scope="col">Gain</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
