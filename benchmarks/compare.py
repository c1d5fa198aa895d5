"""Turns result files into Markdown: one version's table, or what changed between two versions.

python benchmarks/compare.py            the newest version's table
python benchmarks/compare.py --write FILE  put that table between the file's markers
python benchmarks/compare.py OLD NEW    ratio of our medians, NEW over OLD, for the devices that both have
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
OPERATIONS = (
    "match_cosine",
    "warp_bilinear",
    "nearest_canonical",
    "contrast_points",
    "splat_points",
    "batch_norm_relu",
    "upconv_concat",
    "thin_conv",
    "training",
)


def load(version: str, results: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """Return the version's results by operation, by device's name."""
    found: dict[str, list[dict[str, Any]]] = {operation: [] for operation in OPERATIONS}
    for file in sorted((results / version).glob("*--*.json")):
        result = json.loads(file.read_text())
        if result.get("operation") in found:
            found[result["operation"]].append(result)
    return found


def newest(results: Path = RESULTS) -> str:
    """Return the highest version that has results, `none` where nothing was measured."""
    versions = {file.parent.name for file in results.glob("*/*--*.json")}
    return max(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], default="none")


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def table(version: str, results: Path = RESULTS) -> str:
    """Return all providers of all cases, ours in bold; a kind of device without a result says so."""
    head = (
        "operation",
        "case",
        "way",
        "median (20 to 80 %)",
        "in a graph",
        "ratio",
        "over the floor",
        "extra memory",
        "",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for operation, runs in load(version, results).items():
        for run in runs:
            on_gpu = "NVIDIA" in run["device"]
            device = run["device"] if on_gpu else f"{run['device']}, {run['threads']} threads"
            for case in run["cases"]:
                floor = [row["median_s"] for row in case["measurements"] if row["provider"].startswith("floor: ")]
                for measured in case["measurements"]:
                    way = f"**{measured['provider']}**" if measured["ours"] else measured["provider"]
                    times = f"{_time(measured['median_s'])} ({_time(measured['p20_s'])} to {_time(measured['p80_s'])})"
                    columns = (
                        f"`{operation}`",
                        f"{case['name']} ({device})",
                        way,
                        times,
                        "" if measured["graph_s"] is None else _time(measured["graph_s"]),
                        f"{measured['ratio_to_floor']:.3g}",
                        f"{measured['median_s'] / floor[0]:.3g}" if floor else "",
                        f"{measured['peak_extra_mb']:.0f} MB",
                        measured["quality"],
                    )
                    lines.append("| " + " | ".join(columns) + " |")
        measured_on = {"GPU" if "NVIDIA" in run["device"] else "CPU" for run in runs}
        missing = [kind for kind in ("CPU", "GPU") if kind not in measured_on]
        lines.extend(f"| `{operation}` | {kind} | | not measured | | | | | |" for kind in missing)
    return "\n".join(lines)


def change(old: str, new: str, results: Path = RESULTS) -> str:
    """Return the ratio of medians, new over old, of our ways that both versions measured on one device."""
    lines = [f"| operation | case | way | {old} | {new} | new / old |", "|" + " --- |" * 6]
    before, after = load(old, results), load(new, results)
    for operation in OPERATIONS:
        earlier = {
            (run["device"], case["name"], measured["provider"]): measured["median_s"]
            for run in before[operation]
            for case in run["cases"]
            for measured in case["measurements"]
        }
        for run in after[operation]:
            for case in run["cases"]:
                for measured in case["measurements"]:
                    was = earlier.get((run["device"], case["name"], measured["provider"]))
                    if was is None or not measured["ours"]:
                        continue
                    now = measured["median_s"]
                    lines.append(
                        f"| `{operation}` | {case['name']} ({run['device']}) | {measured['provider']} "
                        f"| {_time(was)} | {_time(now)} | {now / was:.2f} |"
                    )
    return "\n".join(lines)


def write(file: Path) -> None:
    """Replace what stands between the markers of a Markdown file by the newest version's table."""
    start, end = "<!-- table -->\n", "<!-- end -->"
    before, _, rest = file.read_text().partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(
            f"{file} must hold {start.strip()} and {end}, got neither or one; add them where the table belongs"
        )
    file.write_text(f"{before}{start}{table(newest())}\n{end}{after}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            print(table(newest()))
        case ["--write", file]:
            write(Path(file))
        case [old, new]:
            print(change(old, new))
        case _:
            sys.exit(__doc__)
