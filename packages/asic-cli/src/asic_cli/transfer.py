"""`asic transfer`: points of one photo found in the others."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asic_cli.console import write_data, write_json
from asic_cli.options import Json, check_out_file
from asic_flow import atomic

if TYPE_CHECKING:
    from asic_eval.fields import Field

_COLUMNS = ("source", "target", "x", "y", "target_x", "target_y", "confidence", "probability", "visible")


def transfer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `asic train` wrote.")],
    points: Annotated[
        Path,
        typer.Option(help="A CSV file with the columns source, x, y and, if not all other photos are meant, target."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", callback=check_out_file, help="Write to this file instead of stdout.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find points of one photo in others.

    Photos go by their path below PHOTOS, or by its last part where that is enough; x and y are pixels of the original
    photo, whose pixels' centres are whole numbers.

    Example: `asic transfer asic-out/teapot-run --points points.csv`
    """
    from asic_flow.alignment import Alignment

    alignment = Alignment.load(run)
    names = [photo.path for photo in alignment.photos]
    source, target, xy = _read_points(points, names, [photo.size_hw for photo in alignment.photos])
    found = alignment.transfer(xy, source, target)
    rows: list[dict[str, Any]] = [
        {
            "source": names[source[row]],
            "target": names[target[row]],
            "x": float(xy[row, 0]),
            "y": float(xy[row, 1]),
            "target_x": _finite(found.points_image[row, 0]),
            "target_y": _finite(found.points_image[row, 1]),
            "confidence": round(float(found.confidence[row]), 4),
            "probability": round(float(found.probability[row]), 4),
            "visible": bool(found.visible[row]),
        }
        for row in range(len(xy))
    ]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(out, _to_csv(rows).encode("utf-8", "surrogateescape"))
    elif not as_json:
        write_data(_to_csv(rows).rstrip("\n"))
    if as_json:
        write_json({"run": str(run), "points": rows})


def _read_points(path: Path, names: list[str], sizes_hw: list[tuple[int, int]]) -> tuple[Any, Any, Any]:
    """Source (M,) and target (M,) indices and xy (M, 2) of a CSV file."""
    import numpy as np

    from asic_eval.fields import read_csv

    by_name = _unambiguous(names)
    source, target, xy = [], [], []
    for row in read_csv(path, ("source", "x", "y"), optional=("target",)):
        here = _find(row["source"], by_name, names)
        there = row.get("target")
        targets = (
            [index for index in range(len(names)) if index != here]
            if there is None or not there.value
            else [_find(there, by_name, names)]
        )
        height, width = sizes_hw[here]
        point = _inside(row["x"], width), _inside(row["y"], height)
        for index in targets:
            source.append(here)
            target.append(index)
            xy.append(point)
    return np.array(source, np.int64), np.array(target, np.int64), np.array(xy, np.float64).reshape(-1, 2)


def _unambiguous(names: list[str]) -> dict[str, int]:
    """Photos by path, and by the path's last part where only one photo has it."""
    last_parts = [Path(name).name for name in names]
    short = {part: index for index, part in enumerate(last_parts) if last_parts.count(part) == 1}
    return {**short, **{name: index for index, name in enumerate(names)}}


def _find(field: Field, by_name: Mapping[str, int], names: list[str]) -> int:
    if field.text() not in by_name:
        raise field.error(f"one of the run's {len(names)} photos, such as {names[0]!r}")
    return by_name[field.text()]


def _inside(field: Field, length: int) -> float:
    value = field.parsed_number()
    if not -0.5 <= value <= length - 0.5:
        raise field.error(f"a pixel of the photo, -0.5 to {length - 0.5}")
    return value


def _finite(value: float) -> float | None:
    return round(float(value), 3) if math.isfinite(value) else None


def _to_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
