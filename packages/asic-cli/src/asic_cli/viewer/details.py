"""The score panel's details: PCK by photo and by keypoint as HTML, and what the script needs of the truth."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asic_cli.breakdown import ALPHA, Breakdown, Share
from asic_cli.viewer.scores import METHOD_LABELS
from asic_cli.viewer.sections import captions, text
from asic_eval import KeypointBenchmark
from asic_flow.collection_folder import Photo
from asic_flow.run_folder import DEFAULT_METHOD

NOT_BROKEN_DOWN = '<p class="quiet">Not scored by photo and keypoint yet; <code>asic eval</code> does that.</p>'


def breakdown_tables(breakdown: Breakdown, photos: tuple[Photo, ...]) -> str:
    """Two tables, folded away, of the annotated photos, and the place where the script puts the worst transfers."""
    by_photo = _table(
        ("Photo", "found in it", "carried from it"),
        (
            (name, found, carried)
            for name, found, carried in zip(
                captions([photo.path for photo in photos]), breakdown.found_in, breakdown.carried_from, strict=True
            )
        ),
    )
    by_keypoint = _table(
        ("Keypoint", "right"),
        ((text(name), share) for name, share in zip(breakdown.keypoint_names, breakdown.by_keypoint, strict=True)),
    )
    method = escape(METHOD_LABELS[DEFAULT_METHOD])
    return (
        f'<details class="breakdown"><summary>By photo and by keypoint</summary><div class="halves">{by_photo}'
        f'{by_keypoint}</div><p class="quiet">{method}, PCK@{ALPHA:.2f} in per cent; in brackets, of how many '
        'points.</p></details><div id="worst" hidden><h3>What missed most</h3><p class="quiet">From the dot on the '
        "left to the cross; it belongs in the ring. Below each: keypoint, and how far off in tenths of what counts as "
        'the side. Click one to open the pair.</p><div class="worst-list"></div></div>'
    )


def truth_data(
    truth: KeypointBenchmark, lengths: NDArray[np.float64], breakdown: Breakdown | None, num_photos: int
) -> dict[str, Any]:
    """Names, visible points in the photos' own pixels, threshold lengths, and the worst transfers where scored.

    Photos after the annotated ones have no points, and length 1.
    """
    more = num_photos - len(truth.images)
    points = np.where(truth.visible[..., None], truth.points_image, np.nan)
    return {
        "names": list(truth.keypoint_names),
        "points": [
            *([None if np.isnan(x) else [round(x, 2), round(y, 2)] for x, y in photo] for photo in points.tolist()),
            *([None] * len(truth.keypoint_names) for _ in range(more)),
        ],
        "lengths": [*(round(length, 2) for length in lengths.tolist()), *[1.0] * more],
        "worst": [
            {
                "source": miss.source,
                "target": miss.target,
                "keypoint": miss.keypoint,
                "from": miss.from_image,
                "found": miss.found_image,
                "truth": miss.truth_image,
                "error": round(miss.error, 4),
            }
            for miss in (() if breakdown is None else breakdown.worst)
        ],
    }


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str | Share, ...]]) -> str:
    head = "".join(f'<th scope="col">{label}</th>' for label in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(_cell(share) for share in shares if isinstance(share, Share))}</tr>'
        for first, *shares in rows
    )
    return (
        f'<div class="scroll"><table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(share: Share) -> str:
    if not share.total:
        return "<td>\N{EN DASH}</td>"
    percent = 100 * share.hits / share.total
    return (
        f'<td><span class="bar" style="--share:{percent:.1f}%"></span>'
        f"<span>{percent:.0f} <small>({share.total})</small></span></td>"
    )
