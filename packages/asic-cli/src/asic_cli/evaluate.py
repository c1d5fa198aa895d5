"""`asic eval`: scores of a run beside its baselines, and its report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from asic_cli.config import as_toml, given
from asic_cli.console import Stages, printable, say, show, to_json, warn, write_data, write_json
from asic_cli.errors import InputError
from asic_cli.folder import INDEX_FILES, writing
from asic_cli.options import ConfigFile, Json, PrintConfig, Seed
from asic_cli.runs import REPORT_FILE, SUMMARY_FILE, load_run
from asic_cli.truth import read_truth
from asic_flow import atomic
from asic_flow.cores import torch_alone

if TYPE_CHECKING:
    from rich.table import Table

    from asic_cli.breakdown import Breakdown
    from asic_cli.scores import FolderScorer, KeypointScorer
    from asic_eval import KeypointBenchmark, Transfer
    from asic_flow.alignment import Alignment
    from asic_flow.collection import ImageCollection
    from asic_flow.matches import MatchSet
    from asic_flow.run_folder import TransferMethod


def evaluate(
    context: typer.Context,
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|COLLECTION...", help="Runs, or collections for their baselines; several get a mean."
        ),
    ],
    seed: Seed = 0,
    as_json: Json = False,
    config: ConfigFile = None,
    print_config: PrintConfig = False,
) -> None:
    """Score a run beside its baselines, and write its report.

    With annotated points: PCK and 2- and 3-cycle PCK. Without: cycles of a grid, and matches kept from the fit. Of
    several runs, a data set's categories, say, the mean is told as well, in which each counts alike.

    Example: `asic eval asic-out/teapot-run`
    """
    del config
    if print_config:
        write_data(as_toml("eval", given(context)))
        return
    if twice := [folder for index, folder in enumerate(folders) if folder in folders[:index]]:
        raise InputError(f"{twice[0]}: given twice")
    summaries = [score_folder(folder, seed) for folder in folders]
    if len(folders) == 1:
        mean, told = None, summaries[0]
    else:
        mean = mean_of(summaries)
        named = [{"folder": str(folder), **summary} for folder, summary in zip(folders, summaries, strict=True)]
        told = {"runs": named, "mean": mean}
    if as_json:
        write_json(told)
        return
    for folder, summary in zip(folders, summaries, strict=True):
        show(table_of(summary, folder.resolve().name if len(folders) > 1 else None))
        if summary["alignment"] is not None:
            write_data(printable(folder / REPORT_FILE))
    if mean is not None:
        show(_table(f"mean of {len(folders)}, percent", mean["protocol"], mean))


@dataclass(frozen=True)
class _Subject:
    """What is scored; a collection alone has no alignment, and was made by no preset and seed."""

    name: str
    identity: str
    collection_folder: Path
    collection: ImageCollection
    matches: MatchSet
    alignment: Alignment | None
    preset: str | None = None
    seed: int | None = None


def score_folder(folder: Path, seed: int) -> dict[str, Any]:
    """Scores a run or a collection; writes `summary.json`, and for a run `report.html`, into its folder.

    Args:
        folder: What to score.
        seed: Of whatever is drawn: cycles and third photos, where there are many.

    Returns:
        The summary.

    Raises:
        InputError: The folder is neither, or the run's collection is gone or has changed.
    """
    from asic_eval import questions_of

    started = time.monotonic()
    is_run = (folder / INDEX_FILES["run"]).exists()
    if not is_run and not (folder / INDEX_FILES["collection"]).exists():
        raise InputError(f"{folder}: expected a folder that `asic train` or `asic features` wrote")
    with writing(folder, "run" if is_run else "collection"), Stages() as stages, torch_alone():
        stages("loading", 0, 1)
        subject = _load_run(folder) if is_run else _load_collection(folder)
        truth = read_truth(subject.collection_folder, subject.collection.settings)
        scorer = _scorer(subject, truth, seed)
        methods = _methods(subject)
        scores, seconds = {}, {"loading": round(time.monotonic() - started, 3)}
        for done, (name, transfer) in enumerate(methods.items()):
            stages("scores", done, len(methods))
            since = time.monotonic()
            scores[name] = scorer.score(transfer)
            seconds[name] = round(time.monotonic() - since, 3)
        summary = {
            "format": "asic-summary",
            "version": 1,
            "protocol": scorer.describe(),
            "default": _default() if subject.alignment is not None else None,
            "preset": subject.preset,
            "seed": subject.seed,
            "collection": {
                "identity": subject.identity,
                "benchmark": None if truth is None else truth.name,
                "questions": None if truth is None else questions_of(truth),
                "photos": len(subject.collection),
                "settings": subject.collection.settings,
            },
            "alignment": None if subject.alignment is None else _describe_alignment(subject),
            "seconds": seconds,
            "methods": scores,
        }
        stages("report", 0, 1)
        breakdown = _break_down(subject, truth)
        summary["breakdown"] = None if breakdown is None else breakdown.to_json()
        atomic.write_bytes(folder / SUMMARY_FILE, to_json(summary).encode())
        if subject.alignment is not None:
            _write_report(folder / REPORT_FILE, subject, subject.alignment, truth, breakdown, summary)
    return summary


def _load_collection(folder: Path) -> _Subject:
    from asic_flow.collection import identity, load_collection

    collection, matches = load_collection(folder)
    return _Subject(folder.resolve().name, identity(folder), folder, collection, matches, None)


def _load_run(folder: Path) -> _Subject:
    from asic_flow.alignment import read_run_index

    run, made = load_run(folder), read_run_index(folder)
    return _Subject(
        run.title,
        run.identity,
        run.collection_folder,
        run.collection,
        run.matches,
        run.alignment,
        made.get("preset"),
        made.get("seed"),
    )


def _scorer(subject: _Subject, truth: KeypointBenchmark | None, seed: int) -> KeypointScorer | FolderScorer:
    from asic_cli.breakdown import protocol_of, threshold_lengths
    from asic_cli.scores import FolderScorer, KeypointScorer

    if truth is None:
        return FolderScorer(subject.collection, subject.matches, seed)
    threshold_lengths(subject.collection.settings, truth)  # tells what is missing
    return KeypointScorer(truth, protocol_of(subject.collection.settings), seed)


def _methods(subject: _Subject) -> dict[str, Transfer]:
    from asic_cli.scores import skipping_nan
    from asic_features.consistency import select
    from asic_features.mls import moving_least_squares
    from asic_flow.baselines import box_copy, nearest_neighbour
    from asic_flow.run_folder import TransferMethod
    from asic_flow.train import held_out_matches

    # Least squares see the matches that a fit sees.
    fitted = select(subject.matches, ~held_out_matches(subject.collection, subject.matches))
    methods = {
        "box_copy": box_copy(subject.collection),
        "nearest_neighbour": nearest_neighbour(subject.collection),
        "mls": moving_least_squares(subject.collection, fitted),
    }
    alignment = subject.alignment
    if alignment is not None:
        methods |= {method: _answers(alignment, method) for method in get_args(TransferMethod)}
    return {name: skipping_nan(transfer) for name, transfer in methods.items()}


def _answers(alignment: Alignment, method: TransferMethod) -> Transfer:
    return lambda points, source, target: alignment.transfer(points, source, target, method).points_image


def _default() -> str:
    from asic_flow.alignment import DEFAULT_METHOD

    return DEFAULT_METHOD


def _describe_alignment(subject: _Subject) -> dict[str, Any]:
    from asic_flow.overlap import collapsed, mean_pairwise_iou
    from asic_flow.views import canonical_views

    alignment = subject.alignment
    if alignment is None:
        return {}
    return {
        "mask_iou_before": mean_pairwise_iou(alignment.arrays.foreground),
        "mask_iou_after": mean_pairwise_iou(canonical_views(alignment).visible.numpy()),
        "collapsed": collapsed(alignment.arrays),
        "support": [round(value, 6) for value in alignment.support.tolist()],
        "mirrored": alignment.mirrored.tolist(),
    }


def _break_down(subject: _Subject, truth: KeypointBenchmark | None) -> Breakdown | None:
    from asic_cli.breakdown import break_down

    if subject.alignment is None or truth is None:
        return None
    return break_down(subject.collection.settings, subject.alignment, truth)


def _write_report(
    path: Path,
    subject: _Subject,
    alignment: Alignment,
    truth: KeypointBenchmark | None,
    breakdown: Breakdown | None,
    summary: dict[str, Any],
) -> None:
    from asic_cli.report import write_page

    write_page(
        path,
        title=subject.name,
        collection=subject.collection.arrays(),
        matches=subject.matches,
        alignment=alignment.arrays,
        summary=summary,
        truth=truth,
        breakdown=breakdown,
    )
    say(f"report: {printable(path)}")


def mean_of(summaries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The mean scores of several runs, each of which counts alike, by the methods that all of them have.

    Returns:
        `protocol`, `default` and `methods` as in a summary, a score being None where any run has none; None, and a
        warning, where runs were scored by different protocols, which have no common mean.
    """
    protocols = {summary["protocol"].split(",")[0] for summary in summaries}
    if len(protocols) > 1:
        warn(f"no mean is told of scores by different protocols: {'; '.join(sorted(protocols))}")
        return None
    defaults = {summary["default"] for summary in summaries}
    of_runs = [summary["methods"] for summary in summaries]
    shared = [name for name in of_runs[0] if all(name in methods for methods in of_runs)]
    return {
        "protocol": f"{protocols.pop()}, each run counting alike",
        "default": defaults.pop() if len(defaults) == 1 else None,
        "methods": {name: _mean([methods[name] for methods in of_runs]) for name in shared},
    }


def _mean(scores: list[Any]) -> Any:
    """The mean of like trees of scores, number by number."""
    if any(score is None for score in scores):
        return None
    if isinstance(scores[0], dict):
        return {key: _mean([score[key] for score in scores]) for key in scores[0]}
    return fmean(scores)


def table_of(summary: dict[str, Any], name: str | None = None) -> Table:
    """The scores as a table, in percent, under the run's name if that is given."""
    photos = f"{summary['collection']['photos']} photos, percent"
    return _table(photos if name is None else f"{printable(name)}: {photos}", summary["protocol"], summary)


def _table(title: str, protocol: str, scored: dict[str, Any]) -> Table:
    from rich.table import Table

    default = scored["default"]
    note = f"* the answer of `asic transfer`. {protocol}" if default else protocol
    table = Table(title=title, caption=note, title_justify="left", caption_justify="left")
    table.add_column("method", no_wrap=True)
    keypoints = any(scores["pck"] is not None for scores in scored["methods"].values())
    columns = _KEYPOINT_COLUMNS if keypoints else _FOLDER_COLUMNS
    for heading in columns:
        table.add_column(heading, justify="right")
    for method, scores in scored["methods"].items():
        cells = (_at(scores, path) for path in columns.values())
        mark = " *" if method == default else ""
        table.add_row(method + mark, *("-" if cell is None else f"{100 * cell:.1f}" for cell in cells))
    return table


_KEYPOINT_COLUMNS = {
    "PCK\n@0.05": ("pck", "0.05", "per_point"),
    "PCK\n@0.10": ("pck", "0.10", "per_point"),
    "per image\n@0.10": ("pck", "0.10", "per_image"),
    "2-cycle\n@0.10": ("cycle", "0.10", "2", "end"),
    "3-cycle\n@0.10": ("cycle", "0.10", "3", "end"),
    "every hop\n@0.10": ("cycle", "0.10", "3", "every_hop"),
}
_FOLDER_COLUMNS = {
    "held out\n@0.05": ("held_out", "0.05"),
    "held out\n@0.10": ("held_out", "0.10"),
    "2-cycle\n@0.05": ("grid_cycle", "0.05", "2"),
    "2-cycle\n@0.10": ("grid_cycle", "0.10", "2"),
    "3-cycle\n@0.10": ("grid_cycle", "0.10", "3"),
}


def _at(document: Any, path: tuple[str, ...]) -> float | None:
    for key in path:
        if document is None:
            return None
        document = document.get(key)
    return None if document is None else float(document)
