"""`asic compare`: two runs on the same photos, side by side in one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from asic_cli.console import printable, write_data
from asic_cli.errors import InputError
from asic_cli.options import check_out_file
from asic_cli.runs import Run, load_run, read_summary
from asic_flow import atomic

_SCRIPTS = ("dom", "frames", "search", "maps", "canonical", "pins", "tile", "compare")


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another run on the same photos.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.html", callback=check_out_file, help="Write the page here.")
    ] = Path("compare.html"),
) -> None:
    """Write a page of two runs side by side: the same pins, both scores, and where they differ.

    The runs may differ in every setting, but must be of the same photos.

    Example: `asic compare asic-out/teapot-run asic-out/teapot-vit-run`
    """
    first, second = load_run(run_a), load_run(run_b)
    page = _page(first, second, (str(run_a), str(run_b)))
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(out, page)
    write_data(printable(out))


def _page(first: Run, second: Run, names: tuple[str, str]) -> bytes:
    from asic_cli.difference import compare_answers, in_frame_of
    from asic_cli.viewer import comparison
    from asic_cli.viewer.page import assemble
    from asic_cli.viewer.scores import comparison_table
    from asic_cli.viewer.sections import text
    from asic_flow.cores import all_cores

    shown = (text(names[0]), text(names[1]))
    summaries = read_summary(first), read_summary(second)
    with all_cores() as cores:
        averages = cores.submit(comparison.averages, (first, second), shown)
        try:
            moved = in_frame_of(second.alignment, first.alignment)
        except ValueError as error:
            raise InputError(f"{names[0]} and {names[1]}: {error}") from error
        difference = compare_answers(first.alignment, moved)
        return assemble(
            "compare.html",
            _SCRIPTS,
            title=f"{shown[0]} and {shown[1]}",
            first=shown[0],
            second=shown[1],
            data=comparison.data(first.alignment, moved, difference),
            averages=averages.result(),
            scores=comparison_table(*summaries, shown),
            parts=_parts((first, second), summaries, shown),
            most=f"{100 * comparison.DIFFERENCE_SHOWN:.0f}",
            settings=comparison.settings_table(_settings(first), _settings(second), shown),
            tiles=comparison.tiles(first.collection, difference),
        )


def _parts(
    runs: tuple[Run, Run], summaries: tuple[Mapping[str, Any], Mapping[str, Any]], names: tuple[str, str]
) -> str:
    """Both runs' scores by photo and keypoint, or that `asic eval` has not left them yet."""
    from asic_cli.breakdown import breakdown_of
    from asic_cli.viewer import comparison
    from asic_cli.viewer.details import NOT_BROKEN_DOWN

    truths = [run.truth() for run in runs]
    before, after = (breakdown_of(summary, truth) for summary, truth in zip(summaries, truths, strict=True))
    if before is not None and after is not None:
        return comparison.part_tables((before, after), runs[0].photos.photos[: len(before.found_in)], names)
    # Where a run has no scores at all their table says so.
    return NOT_BROKEN_DOWN if all(summaries) and all(truth is not None for truth in truths) else ""


def _settings(run: Run) -> dict[str, str]:
    """Every setting that has a value by its dotted name, as text."""
    from dataclasses import asdict

    return dict(_flat({"features": run.collection.settings, "alignment": asdict(run.alignment.config)}, ""))


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", str(value)
