"""`report.html`: scores, pictures and the interactive viewer in one file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asic_cli.breakdown import Breakdown, break_down, threshold_lengths
from asic_cli.viewer import sections
from asic_cli.viewer.canonical import needed_photos, open_window
from asic_cli.viewer.details import NOT_BROKEN_DOWN, breakdown_tables, truth_data
from asic_cli.viewer.page import assemble
from asic_cli.viewer.pictures import in_their_frames
from asic_cli.viewer.scores import headline, score_panel, signed
from asic_cli.viewer.sections import text
from asic_cli.viewer.textures import viewer_data
from asic_eval import KeypointBenchmark
from asic_flow import atomic
from asic_flow.collection_folder import CollectionArrays
from asic_flow.cores import all_cores
from asic_flow.matches import MatchSet
from asic_flow.overlap import mean_pairwise_iou
from asic_flow.run_folder import AlignmentArrays

if TYPE_CHECKING:
    from asic_flow.alignment import Alignment
    from asic_flow.collection import ImageCollection

_SCRIPTS = (
    "dom",
    "frames",
    "search",
    "maps",
    "consensus",
    "canonical",
    "paint",
    "glide",
    "webgl",
    "picture",
    "pins",
    "zip",
    "spair",
    "cycles",
    "average",
    "truth",
    "tile",
    "lines",
    "worst",
    "viewer",
    "start",
)


def write_report(
    path: Path,
    *,
    title: str,
    collection: ImageCollection,
    matches: MatchSet,
    alignment: Alignment,
    summary: Mapping[str, Any],
    truth: KeypointBenchmark | None = None,
) -> None:
    """Writes the report of a collection and its alignment; see `write_page`."""
    write_page(
        path,
        title=title,
        collection=collection.arrays(),
        matches=matches,
        alignment=alignment.arrays,
        summary=summary,
        truth=truth,
        breakdown=None if truth is None else break_down(collection.settings, alignment, truth),
    )


def write_page(
    path: Path,
    *,
    title: str,
    collection: CollectionArrays,
    matches: MatchSet,
    alignment: AlignmentArrays,
    summary: Mapping[str, Any],
    truth: KeypointBenchmark | None,
    breakdown: Breakdown | None,
) -> None:
    """Writes the report of a run as one HTML file without any address outside itself; needs no torch.

    Args:
        path: The file to create or replace.
        title: Shown on top; any text.
        collection: The photos.
        matches: Their matches.
        alignment: Their maps.
        summary: What `asic eval` found, as in `summary.json`; scores that it lacks are left out.
        truth: The collection's annotated points, if any: errors in the viewer.
        breakdown: Scores of these points by photo and keypoint; None where `asic eval` has found none yet.

    Raises:
        ValueError: The alignment is of other photos than the collection.
        OSError: The file cannot be written, or the disk is full.
    """
    if alignment.photos != collection.photos or alignment.size_hw != collection.size_hw:
        raise ValueError(
            f"alignment: expected the collection's {len(collection)} photos of {collection.size_hw}, "
            f"got {len(alignment)} of {alignment.size_hw}; run `asic train` on this collection again"
        )
    collection = replace(collection, images=in_their_frames(collection.images, collection.photos))
    with all_cores() as cores:
        window = open_window(alignment, cores.map)
        seen = window.resample(collection.images, cores.map)
        wheel = cores.submit(sections.wheel_gallery, collection, alignment, window)
        aligned = cores.submit(sections.aligned_gallery, collection, window, seen)
        averages = cores.submit(sections.averages, collection, alignment, window, seen)
        tiles = cores.submit(sections.photo_tiles, collection, alignment)
        pairs = cores.submit(sections.match_drawings, collection, matches, alignment, window)
        page = assemble(
            "page.html",
            _SCRIPTS,
            title=text(title),
            data=viewer_data(
                collection,
                matches,
                alignment,
                window,
                None
                if truth is None
                else truth_data(truth, threshold_lengths(collection.settings, truth), breakdown, len(collection)),
            ),
            facts=_facts(collection, summary),
            averages=averages.result(),
            figures=_figures(mean_pairwise_iou(alignment.foreground), mean_pairwise_iou(window.visible), summary),
            needed=needed_photos(len(collection)),
            count=len(collection),
            scores=score_panel(summary),
            details=_details(collection, summary, truth, breakdown),
            tiles=tiles.result(),
            aligned=aligned.result(),
            pairs=pairs.result(),
            wheel=wheel.result(),
            flags=sections.flag_table(alignment),
            settings=text(json.dumps(collection.settings, indent=1, ensure_ascii=True)).replace("␊", "\n"),
        )
    atomic.write_bytes(path, page)


def _facts(collection: CollectionArrays, summary: Mapping[str, Any]) -> str:
    facts = [f"{len(collection)} photos"]
    if isinstance(backbone := collection.settings.get("backbone"), str):
        facts.append(backbone)
        if collection.settings.get("weights_sha256") is None:
            facts.append("no network: the chances told hold for drawings, not for different things of a kind")
    seconds = summary.get("seconds")
    if isinstance(seconds, Mapping):
        facts.append(f"scored in {sum(value for value in seconds.values() if isinstance(value, int | float)):.0f} s")
    return "".join(f"<li>{text(fact)}</li>" for fact in facts)


def _details(
    collection: CollectionArrays,
    summary: Mapping[str, Any],
    truth: KeypointBenchmark | None,
    breakdown: Breakdown | None,
) -> str:
    if breakdown is not None:
        return breakdown_tables(breakdown, collection.photos[: len(breakdown.found_in)])
    # Without any scores their panel says so.
    return "" if truth is None or not summary else NOT_BROKEN_DOWN


def _figures(iou_before: float, iou_after: float, summary: Mapping[str, Any]) -> str:
    """The three large figures: the default score, its gain, and how well the objects overlap."""
    figures = []
    score = headline(summary)
    if score is not None:
        figures.append((f"{score.score:.1f}", score.heading))
        if score.gain is not None:
            figures.append((signed(score.gain), "points over nearest neighbour"))
    recorded = summary.get("alignment")
    overlap = recorded if isinstance(recorded, Mapping) else {}
    before, after = (
        value if isinstance(value := overlap.get(f"mask_iou_{when}"), float) else drawn
        for when, drawn in (("before", iou_before), ("after", iou_after))
    )
    figures.append((f"{100 * before:.0f} → {100 * after:.0f} %", "overlap of the objects, before and after"))
    return "".join(f"<div><strong>{value}</strong><span>{label}</span></div>" for value, label in figures)
