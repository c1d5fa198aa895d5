"""The command line: `python -m asic_eval score | compare | published | protocols | table`.

Exit codes: 0 done, 2 bad usage or input (one line on stderr that names the file and the field), 3 the output cannot be
written.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from asic_eval.benchmarks.reading import READERS, Request, read_benchmarks
from asic_eval.geometry import geometry_aware_subset
from asic_eval.keypoints import KeypointBenchmark
from asic_eval.predictions import Predictions, read_predictions
from asic_eval.protocols import PROTOCOLS, Protocol, get_protocol
from asic_eval.published import PUBLISHED, PublishedRow, asic_per_category
from asic_eval.summary import (
    POOLED,
    Cell,
    Table,
    alpha_key,
    compare_predictions,
    read_summary,
    render_rows,
    score_predictions,
    summarise,
    tabulate,
)

BAD_INPUT = 2
NO_OUTPUT = 3
_MOST_RESAMPLES = 1_000_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m asic_eval", description="Scores of semantic correspondence.")
    parser.add_argument("--version", action="version", version=f"asic-eval {importlib.metadata.version('asic-eval')}")
    commands = parser.add_subparsers(dest="command", required=True)

    score = commands.add_parser("score", help="score a prediction file against a benchmark")
    score.add_argument("predictions", type=Path, help="the .npz file; see asic_eval.predictions")
    score.add_argument("--mirror-aware", action="store_true", help="swap left and right where the file says mirrored")
    score.add_argument(
        "--geometry-aware", action="store_true", help="only keypoints of which the target shows one that looks alike"
    )
    _add_benchmark(score)
    _add_form(score)

    compare = commands.add_parser("compare", help="is the difference of two prediction files real? (paired bootstrap)")
    compare.add_argument("predictions", type=Path, help="the first method's .npz file")
    compare.add_argument("others", type=Path, help="the second's, on the same pairs")
    compare.add_argument("--resamples", type=int, default=2000, help="how often to draw; default: 2000")
    _add_benchmark(compare)

    published = commands.add_parser("published", help="published rows with their protocols and sources")
    published.add_argument("--per-category", action="store_true", help="ASIC's 18 categories of SPair-71k")
    published.add_argument("--with", dest="own", type=Path, nargs="+", default=[], metavar="SUMMARY")
    _add_form(published)

    protocols = commands.add_parser("protocols", help="every protocol by name: what it stands for, and whose it is")
    _add_form(protocols)

    table = commands.add_parser("table", help="summaries of any categories and seeds, as one table")
    table.add_argument("summaries", type=Path, nargs="+", help="JSON files of `score --json` or of `asic eval`")
    table.add_argument("--alpha", type=float, default=0.10, help="default: 0.1")
    table.add_argument("--aggregate", choices=("per_point", "per_image"), help="default: the protocol's own")
    table.add_argument("--method", action="append", default=[], help="may be repeated; default: all")
    table.add_argument("--metric", action="append", default=[], help="such as PCK; may be repeated; default: all")
    _add_form(table)
    return parser


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--benchmark", required=True, choices=tuple(READERS), help="what the answers are to")
    parser.add_argument("--root", type=Path, help="the data set's folder")
    parser.add_argument("--annotations", type=Path, help="the annotation file, where the benchmark is one file")
    parser.add_argument("--category", action="append", default=[], help="may be repeated; default: all")
    parser.add_argument("--split", help="default: test, where there are splits")
    parser.add_argument("--limit", type=int, help="only the first images of each category")
    parser.add_argument("--pairs", type=Path, help="a list of pairs to ask for: a line of two images each")
    parser.add_argument("--random-pairs", type=int, help="draw so many pairs, instead of taking all")
    parser.add_argument("--seed", type=int, help="of drawn pairs or a drawn collection; default: 0")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), help="default: the benchmark's own")
    parser.add_argument("--missing", choices=("error", "miss"), default="error", help="what a NaN answer is")


def _add_form(parser: argparse.ArgumentParser) -> None:
    forms = parser.add_mutually_exclusive_group()
    for form in ("json", "markdown", "latex", "csv"):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form)
    parser.set_defaults(form="markdown")


def _benchmark_and_protocol(arguments: argparse.Namespace) -> tuple[dict[str, KeypointBenchmark], Protocol]:
    request = Request(
        arguments.root,
        tuple(arguments.category),
        arguments.split,
        arguments.limit,
        arguments.annotations,
        arguments.seed,
        arguments.pairs,
        arguments.random_pairs,
    )
    protocol = get_protocol(arguments.protocol or READERS[arguments.benchmark].protocol)
    return read_benchmarks(arguments.benchmark, request), protocol


def _score(arguments: argparse.Namespace) -> str:
    predictions = read_predictions(arguments.predictions)
    benchmarks, protocol = _benchmark_and_protocol(arguments)
    if arguments.geometry_aware:
        benchmarks = {category: geometry_aware_subset(benchmark) for category, benchmark in benchmarks.items()}
    counts = score_predictions(
        protocol,
        predictions,
        benchmarks,
        file=str(arguments.predictions),
        missing=arguments.missing,
        mirror_aware=arguments.mirror_aware,
    )
    summary = summarise(
        protocol,
        predictions.method,
        predictions.seed,
        benchmarks,
        counts,
        missing=arguments.missing,
        mirror_aware=arguments.mirror_aware,
        geometry_aware=arguments.geometry_aware,
        request={
            "benchmark": arguments.benchmark,
            "split": arguments.split,
            "limit": arguments.limit,
            "pairs": None if arguments.pairs is None else str(arguments.pairs),
            "random_pairs": arguments.random_pairs,
            "seed": arguments.seed,
        },
    )
    if arguments.form == "json":
        return json.dumps(summary, indent=2, allow_nan=False) + "\n"
    table = _score_table(predictions, protocol, summary).render(arguments.form)
    if arguments.form != "markdown":
        return table
    notes = [f"Protocol {protocol.name}: {protocol.source}", *(f"Fault: {fault}." for fault in protocol.faults)]
    if arguments.mirror_aware:
        notes.append("Mirror-aware: left and right swapped where the file says mirrored; not the strict score.")
    if arguments.geometry_aware:
        notes.append("Geometry-aware subset: only keypoints of which the target shows another that looks alike.")
    return table + "\n" + "\n".join(notes) + "\n"


def _score_table(predictions: Predictions, protocol: Protocol, summary: dict[str, Any]) -> Table:
    keys = [alpha_key(alpha) for alpha in protocol.alphas if alpha in (0.01, 0.05, 0.10, 0.15)]
    columns = tuple((predictions.method, f"PCK@{key} {protocol.aggregate}") for key in keys)

    def cells(ratios: dict[str, Any]) -> tuple[tuple[float, float | None] | None, ...]:
        values = [ratios[key][protocol.aggregate] for key in keys]
        return tuple(None if value is None else (100.0 * value, None) for value in values)

    rows = {category: cells(own["pck"]) for category, own in summary["categories"].items()}
    for over in ("macro", "micro"):
        rows[f"all ({over})"] = cells(summary["overall"][over])
    return Table(columns, rows, {"protocol": protocol.name})


def _compare(arguments: argparse.Namespace) -> str:
    files = (arguments.predictions, arguments.others)
    both = [read_predictions(path) for path in files]
    benchmarks, protocol = _benchmark_and_protocol(arguments)
    if not 1 <= arguments.resamples <= _MOST_RESAMPLES:
        raise ValueError(f"--resamples: expected 1 to {_MOST_RESAMPLES}, got {arguments.resamples}")
    first, second = (
        score_predictions(protocol, own, benchmarks, file=str(path), missing=arguments.missing)
        for own, path in zip(both, files, strict=True)
    )
    result = compare_predictions(protocol, first, second, benchmarks, resamples=arguments.resamples)
    methods = {"first": both[0].method, "second": both[1].method}
    return json.dumps(methods | result, indent=2, allow_nan=False) + "\n"


def _published(arguments: argparse.Namespace) -> str:
    rows = list(asic_per_category() if arguments.per_category else PUBLISHED)
    for path in arguments.own:
        rows.extend(_own_row(cell, path) for cell in read_summary(path, alpha=0.10))
    if arguments.form == "json":
        return json.dumps([asdict(row) for row in rows], indent=2) + "\n"
    titles = ("benchmark", "metric", "value", "method", "setting", "source")
    lines = [
        (row.benchmark, row.metric, _value(row), row.method, row.setting, row.source)
        for row in sorted(rows, key=lambda row: (row.benchmark, row.metric, row.setting, row.value))
    ]
    return render_rows(titles, lines, arguments.form)


def _own_row(cell: Cell, path: Path) -> PublishedRow:
    metric = f"{cell.metric}@0.10" if cell.metric == "PCK" else f"{cell.metric} PCK@0.10"
    source = str(path) if cell.seed is None else f"{path}, seed {cell.seed}"
    setting = f"{cell.protocol}, {cell.aggregate.replace('_', ' ')}"
    return PublishedRow(cell.method, cell.category, metric, 100.0 * cell.value, setting, source)


def _value(row: PublishedRow) -> str:
    return f"{row.value:.1f}" if row.std is None else f"{row.value:.1f} ({row.std:.2f})"


def _protocols(arguments: argparse.Namespace) -> str:
    if arguments.form == "json":
        return json.dumps([asdict(protocol) for protocol in PROTOCOLS.values()], indent=2) + "\n"
    titles = ("protocol", "length", "border", "mean over", "categories", "whose it is")
    lines = [
        (own.name, own.length, "<=" if own.inclusive else "<", own.aggregate, own.over_categories, own.source)
        for own in PROTOCOLS.values()
    ]
    return render_rows(titles, lines, arguments.form)


def _table(arguments: argparse.Namespace) -> str:
    paths = [path.resolve() for path in arguments.summaries]
    if twice := [str(path) for path in arguments.summaries if paths.count(path.resolve()) > 1]:
        raise ValueError(f"summaries: expected each file once, got {twice[0]} twice")
    found = [
        cell
        for path in arguments.summaries
        for cell in read_summary(path, alpha=arguments.alpha, aggregate=arguments.aggregate)
    ]
    cells = [cell for cell in found if _is_asked(cell, arguments.method, arguments.metric)]
    if found and not cells:
        known = sorted({cell.method for cell in found}), sorted({cell.metric for cell in found})
        raise ValueError(f"--method, --metric: expected some of {', '.join(known[0])} and {', '.join(known[1])}")
    table = tabulate(cells)
    setting = {**table.setting, "alpha": alpha_key(arguments.alpha)}
    text = replace(table, setting=setting).render(arguments.form)
    note = f"Protocol {setting['protocol']}, alpha {setting['alpha']}, {setting['aggregate']}; percent."
    if POOLED not in table.rows and len({cell.category for cell in cells}) > 1 and _is_micro(cells[0].protocol):
        note += f" The protocol's own mean is over everything at once, {POOLED!r} in a summary of all categories."
    return {"markdown": f"{text}\n{note}\n", "latex": f"% {note}\n{text}"}.get(arguments.form, text)


def _is_micro(protocol: str) -> bool:
    name = protocol.partition(",")[0]
    return name in PROTOCOLS and PROTOCOLS[name].over_categories == "micro"


def _is_asked(cell: Cell, methods: Sequence[str], metrics: Sequence[str]) -> bool:
    return (not methods or cell.method in methods) and (not metrics or cell.metric in metrics)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    Args:
        arguments: The command line without the program's name; the process's own when None.
    """
    parsed = _parser().parse_args(arguments)
    commands = {
        "score": _score,
        "compare": _compare,
        "published": _published,
        "protocols": _protocols,
        "table": _table,
    }
    try:
        text = commands[parsed.command](parsed)
    except (ValueError, ImportError) as error:
        return _failed(error, BAD_INPUT)
    except MemoryError:
        return _failed("the input: expected less of it, there is not memory enough", BAD_INPUT)
    if sys.stdout is None:
        return _failed("the output: closed", NO_OUTPUT)
    try:
        # A console may lack characters that names have.
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is buffered would be written again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Whoever reads, such as `head`, may have read enough.
        return 0 if isinstance(error, BrokenPipeError) else _failed(f"the output: {error.strerror}", NO_OUTPUT)
    return 0


def _failed(problem: object, code: int) -> int:
    print(f"error: {problem}".encode("ascii", "backslashreplace").decode(), file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
