"""`asic compare`: two runs on the same photos, side by side in one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asic_cli.console import printable, write_data
from asic_cli.errors import InputError
from asic_cli.runs import Run, load_run, read_summary
from asic_flow import atomic

if TYPE_CHECKING:
    from asic_cli.breakdown import Breakdown

_SCRIPTS = ("dom", "frames", "search", "maps", "canonical", "pins", "tile", "compare")


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another run on the same photos.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Write the page here.")] = Path(
        "compare.html"
    ),
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
    from asic_cli.cores import all_cores
    from asic_cli.difference import compare_answers, in_frame_of
    from asic_cli.viewer import comparison
    from asic_cli.viewer.page import assemble
    from asic_cli.viewer.scores import comparison_table
    from asic_cli.viewer.sections import text

    shown = (text(names[0]), text(names[1]))
    with all_cores() as cores:
        breakdowns = cores.map(_breakdown, (first, second))
        averages = cores.submit(comparison.averages, (first, second), shown)
        try:
            moved = in_frame_of(second.alignment, first.alignment)
        except ValueError as error:
            raise InputError(f"{names[0]} and {names[1]}: {error}") from error
        difference = compare_answers(first.alignment, moved)
        before, after = breakdowns
        return assemble(
            "compare.html",
            _SCRIPTS,
            title=f"{shown[0]} and {shown[1]}",
            first=shown[0],
            second=shown[1],
            data=comparison.data(first.alignment, moved, difference),
            averages=averages.result(),
            scores=comparison_table(read_summary(first), read_summary(second), shown),
            parts=""
            if before is None or after is None
            else comparison.part_tables((before, after), first.collection.photos, shown),
            most=f"{100 * comparison.DIFFERENCE_SHOWN:.0f}",
            settings=comparison.settings_table(_settings(first), _settings(second), shown),
            tiles=comparison.tiles(first.collection, difference),
        )


def _breakdown(run: Run) -> Breakdown | None:
    from asic_cli.breakdown import breakdown_of

    truth = run.truth()
    return None if truth is None else breakdown_of(run, read_summary(run), truth)


def _settings(run: Run) -> dict[str, str]:
    """Every setting by its dotted name, as text."""
    from dataclasses import asdict

    return dict(_flat({"features": run.collection.settings, "alignment": asdict(run.alignment.config)}, ""))


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
