"""Summaries: what was scored, how, and what came out, as JSON; and tables of many of them."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from asic_eval.fields import AnnotationError, Field, read_json
from asic_eval.keypoints import KeypointBenchmark
from asic_eval.pck import PckCounts
from asic_eval.predictions import Predictions, in_order_of
from asic_eval.protocols import PROTOCOLS, Protocol
from asic_eval.statistics import Aggregate, bootstrap_difference, bootstrap_interval, enough_to_draw, mean_and_std

FORMAT = "asic-eval summary"
ASIC_FORMAT = "asic-summary"
VERSION = 1
AVERAGE = "average"
POOLED = "all (micro)"
_RESAMPLES = 1000
_LEVEL = 0.95
_LATEX = {"\\": r"\textbackslash{}", "<": r"\textless{}"} | {character: f"\\{character}" for character in "&%$#_{}"}
TableFormat = Literal["markdown", "latex", "csv", "json"]


def alpha_key(alpha: float) -> str:
    """How an alpha is written in summaries: two decimals, or more where it has more.

    >>> alpha_key(0.1), alpha_key(0.005)
    ('0.10', '0.005')
    """
    return max(f"{alpha:.2f}", f"{alpha:.10f}".rstrip("0"), key=len)


def score_predictions(
    protocol: Protocol,
    predictions: Predictions,
    benchmarks: Mapping[str, KeypointBenchmark],
    *,
    file: str,
    missing: Literal["error", "miss"] = "error",
    mirror_aware: bool = False,
) -> dict[str, PckCounts]:
    """Counts of every category of a benchmark.

    Args:
        protocol: How to score.
        predictions: The answers.
        benchmarks: The truth by category.
        file: The prediction file's name, for errors.
        missing: See `asic_eval.pck.pck`.
        mirror_aware: Score the pairs that the predictions call mirrored against swapped labels.

    Raises:
        AnnotationError: The predictions do not answer the benchmark.
    """
    counts = {}
    for category, benchmark in benchmarks.items():
        if category not in predictions.categories:
            held = list(predictions.categories)
            raise AnnotationError(
                file, "categories", f"expected {category!r}, got {held}; --category scores some of them"
            )
        answers = in_order_of(benchmark, predictions.categories[category], file=file)
        if mirror_aware and answers.mirrored is None:
            raise AnnotationError(file, category, "expected `mirrored` for the mirror-aware score, got none")
        try:
            counts[category] = protocol.score(
                answers.points, benchmark, missing=missing, mirrored=answers.mirrored if mirror_aware else None
            )
        except ValueError as error:
            raise AnnotationError(file, category, str(error)) from None
    return counts


def summarise(
    protocol: Protocol,
    method: str,
    seed: int | None,
    benchmarks: Mapping[str, KeypointBenchmark],
    counts: Mapping[str, PckCounts],
    *,
    missing: Literal["error", "miss"] = "error",
    mirror_aware: bool = False,
    geometry_aware: bool = False,
    request: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The summary of one method's scores as a JSON document: the whole setting, the counts, the ratios.

    Each category names its questions by a checksum of the pairs, the points they ask for and the truth, so that two
    summaries can be told to be about the same. The headline's interval is that of the same mean as the headline, by a
    bootstrap over source images; null where there are not two of them (in each category, for a mean of categories).

    Args:
        protocol: How it was scored.
        method: What was scored.
        seed: The seed of the run, or None.
        benchmarks: The truth by category.
        counts: What `score_predictions` returned.
        missing: What a missing answer was.
        mirror_aware: Whether the score swapped labels.
        geometry_aware: Whether `benchmarks` are geometry-aware subsets.
        request: JSON values that say how the benchmark was asked for, such as its split and the seed of drawn pairs;
            kept as they are.
    """
    categories = {}
    for category, own in counts.items():
        categories[category] = {
            "benchmark": benchmarks[category].name,
            "questions": questions_of(benchmarks[category]),
            "images": len(benchmarks[category].images),
            "pairs": len(own.totals),
            "points": int(own.totals.sum()),
            "pck": _ratios(own),
        }
    pooled = _pooled(counts.values())
    macro = {
        alpha_key(alpha): {
            "per_point": _json_number(_mean([own.per_point()[index] for own in counts.values()])),
            "per_image": _json_number(_mean([own.per_image()[index] for own in counts.values()])),
        }
        for index, alpha in enumerate(pooled.alphas)
    }
    overall = {"macro": macro, "micro": _ratios(pooled)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "asic_eval": importlib.metadata.version("asic-eval"),
        "method": method,
        "seed": seed,
        "protocol": asdict(protocol),
        "request": dict(request or {}),
        "missing": missing,
        "mirror_aware": mirror_aware,
        "geometry_aware": geometry_aware,
        "categories": categories,
        "overall": overall,
        "headline": {
            "alpha": protocol.headline_alpha,
            "value": _json_number(_headline(protocol, list(counts.values()))),
            "interval": _interval(protocol, benchmarks, pooled),
        },
    }


def questions_of(benchmark: KeypointBenchmark) -> str:
    """A checksum of what a benchmark asks and of what it takes for right; sha256, the first 16 hexadecimal digits."""
    asked = benchmark.asked
    truth = np.where(asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], 0.0)
    ends = [[benchmark.images[image].name for image in pair] for pair in benchmark.pairs.tolist()]
    content = json.dumps([list(benchmark.keypoint_names), ends]).encode() + asked.tobytes() + truth.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _pooled(counts: Iterable[PckCounts]) -> PckCounts:
    first, *rest = counts
    return sum(rest, start=first)


def _drawn_from(
    benchmarks: Iterable[KeypointBenchmark], over_categories: Literal["macro", "micro"]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """What a bootstrap draws from.

    Returns:
        (P,) a number for each category's source image, as pairs of one source are not independent. Images go by name,
        as one stands in `images` once a pair where keypoints mean something within their pair only. And (P,) the
        category where categories count alike, or None.
    """
    groups, strata, offset = [], [], 0
    for category, benchmark in enumerate(benchmarks):
        first: dict[str, int] = {}
        number = np.array([first.setdefault(image.name, len(first)) for image in benchmark.images], dtype=np.int64)
        groups.append(number[benchmark.pairs[:, 0]] + offset)
        strata.append(np.full(len(benchmark.pairs), category))
        offset += len(benchmark.images)
    return np.concatenate(groups), np.concatenate(strata) if over_categories == "macro" else None


def _interval(protocol: Protocol, benchmarks: Mapping[str, KeypointBenchmark], pooled: PckCounts) -> list[float] | None:
    groups, strata = _drawn_from(benchmarks.values(), protocol.over_categories)
    if not enough_to_draw(pooled, groups, strata):
        return None
    index = protocol.alphas.index(protocol.headline_alpha)
    interval = bootstrap_interval(
        pooled,
        index,
        aggregate=protocol.aggregate,
        groups=groups,
        strata=strata,
        level=_LEVEL,
        resamples=_RESAMPLES,
    )
    return [interval.low, interval.high]


def _ratios(counts: PckCounts) -> dict[str, dict[str, float | int | None]]:
    per_point, per_image = counts.per_point(), counts.per_image()
    hits = counts.hits.sum(axis=0)
    return {
        alpha_key(alpha): {
            "per_point": _json_number(per_point[index]),
            "per_image": _json_number(per_image[index]),
            "hits": int(hits[index]),
        }
        for index, alpha in enumerate(counts.alphas)
    }


def _mean(values: Sequence[float]) -> float:
    finite = [float(value) for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else float("nan")


def _json_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def compare_predictions(
    protocol: Protocol,
    first: Mapping[str, PckCounts],
    second: Mapping[str, PckCounts],
    benchmarks: Mapping[str, KeypointBenchmark],
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Whether two methods' difference at the headline alpha is real, by a paired bootstrap over source images.

    Returns:
        The setting, and for every category and under `all` for the protocol's mean over them: `difference` (second
        minus first), and `low`, `high`, `p_value` and `real`, all four null where there are not two source images to
        draw from.
    """
    chosen = {category: [category] for category in benchmarks} | {"all": list(benchmarks)}
    return {
        "protocol": protocol.name,
        "alpha": protocol.headline_alpha,
        "aggregate": protocol.aggregate,
        "over_categories": protocol.over_categories,
        "level": _LEVEL,
        "resamples": resamples,
        "second_minus_first": {
            name: _difference(
                protocol,
                [first[category] for category in categories],
                [second[category] for category in categories],
                [benchmarks[category] for category in categories],
                resamples,
            )
            for name, categories in chosen.items()
            if any(first[category].totals.any() for category in categories)
        },
    }


def _difference(
    protocol: Protocol,
    first: Sequence[PckCounts],
    second: Sequence[PckCounts],
    benchmarks: Sequence[KeypointBenchmark],
    resamples: int,
) -> dict[str, float | bool | None]:
    before, after = _pooled(first), _pooled(second)
    groups, strata = _drawn_from(benchmarks, protocol.over_categories)
    if not enough_to_draw(before, groups, strata):
        value = _headline(protocol, second) - _headline(protocol, first)
        return {"difference": value, "low": None, "high": None, "p_value": None, "real": None}
    difference = bootstrap_difference(
        before,
        after,
        protocol.alphas.index(protocol.headline_alpha),
        aggregate=protocol.aggregate,
        groups=groups,
        strata=strata,
        level=_LEVEL,
        resamples=resamples,
    )
    return {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p_value": difference.p_value,
        "real": difference.is_real,
    }


def _headline(protocol: Protocol, counts: Sequence[PckCounts]) -> float:
    """The protocol's mean over categories."""
    parts = counts if protocol.over_categories == "macro" else [_pooled(counts)]
    index = protocol.alphas.index(protocol.headline_alpha)
    per = {"per_point": PckCounts.per_point, "per_image": PckCounts.per_image}[protocol.aggregate]
    return _mean([per(own)[index] for own in parts])


@dataclass(frozen=True)
class Cell:
    """One score of one run.

    Args:
        method: The method.
        metric: `PCK`, `2-cycle end`, ...
        category: The category.
        seed: The seed, None where the file names none.
        value: In 0..1.
        protocol: How it was scored.
        aggregate: The mean that it is, over points or pairs; of cycles it says nothing.
        questions: What was asked, see `questions_of`; None where the file does not say.
    """

    method: str
    metric: str
    category: str
    seed: int | None
    value: float
    protocol: str
    aggregate: Aggregate
    questions: str | None = None


def read_summary(path: Path, *, alpha: float, aggregate: Aggregate | None = None) -> list[Cell]:
    """The scores in one summary, of this package or of the `asic` command.

    Where the protocol takes the mean of everything at once, it cannot be had from the categories' scores: it comes as
    one more category, `all (micro)`.

    Args:
        path: The file: either what `summarise` returned or the `summary.json` of `asic eval`. The latter's category is
            its `category`, or else the second part of its collection's benchmark (`cow` of `spair/cow/test`), or, for
            photos of one's own, the name of the folder that holds the file.
        alpha: Which tolerance.
        aggregate: `per_point` or `per_image`; the protocol's own when None.

    Raises:
        AnnotationError: The file is neither or of another version, or has no score at this alpha.
    """
    top = read_json(path)
    if top.key("format").value not in (FORMAT, ASIC_FORMAT):
        raise top.key("format").error(f"{FORMAT!r} or {ASIC_FORMAT!r}")
    if top.key("version").value != VERSION:
        raise top.key("version").error(f"version {VERSION}; another version wrote this file")
    if top.key("format").value == ASIC_FORMAT:
        return _cells_of_asic(top, path, alpha_key(alpha), aggregate)
    setting = top.key("protocol")
    if aggregate is None:
        if (own := setting.key("aggregate")).value not in get_args(Aggregate):
            raise own.error(" or ".join(map(repr, get_args(Aggregate))))
        aggregate = own.value
    protocol = setting.key("name").text()
    for awareness in ("mirror_aware", "geometry_aware"):
        if (flag := top.optional(awareness)) is not None and flag.flag():
            protocol += f", {awareness.replace('_', '-')}"
    categories, seed = top.key("categories"), top.optional("seed")
    method, number = top.key("method").text(), None if seed is None else seed.integer(0)
    scores = {name: categories.key(name).key("pck") for name in categories.keys()}  # noqa: SIM118 - a Field is no dict
    if setting.key("over_categories").text() == "micro" and len(scores) > 1:
        scores[POOLED] = top.key("overall").key("micro")
    cells = []
    for category, by_alpha in scores.items():
        ratio = _at(by_alpha, alpha_key(alpha)).key(aggregate)
        if ratio.value is not None:
            value = _ratio(ratio)
            asked = None if category == POOLED else categories.key(category).key("questions").text()
            cells.append(Cell(method, "PCK", category, number, value, protocol, aggregate, asked))
    return cells


def _cells_of_asic(top: Field, path: Path, key: str, aggregate: Aggregate | None) -> list[Cell]:
    named, collection, seed = top.optional("category"), top.optional("collection"), top.optional("seed")
    benchmark = None if collection is None else collection.optional("benchmark")
    category = path.resolve().parent.name
    if named is not None:
        category = named.text()
    elif benchmark is not None:
        category = "/".join(benchmark.text().split("/")[1:2]) or benchmark.text()
    # What follows the name counts cycles and the like, which differ between collections.
    protocol = re.split(r"[,:;]", top.key("protocol").text())[0]
    if aggregate is None:
        aggregate = PROTOCOLS[protocol].aggregate if protocol in PROTOCOLS else "per_point"
    number = None if seed is None else seed.integer(0)
    asked = None if collection is None else collection.optional("questions")
    questions = None if asked is None else asked.text()
    methods = top.key("methods")
    return [
        Cell(method, metric, category, number, _ratio(ratio), protocol, aggregate, questions)
        for method in methods.keys()  # noqa: SIM118 - a Field is no dict
        for metric, ratio in _metrics_of_asic(methods.key(method), key, aggregate)
        if ratio.value is not None
    ]


def _metrics_of_asic(scores: Field, key: str, aggregate: Aggregate) -> Iterator[tuple[str, Field]]:
    if (pck := scores.optional("pck")) is not None:
        yield "PCK", _at(pck, key).key(aggregate)
    if (cycle := scores.optional("cycle")) is not None:
        by_length = _at(cycle, key)
        for k in by_length.keys():  # noqa: SIM118 - a Field is no dict
            for definition in by_length.key(k).keys():  # noqa: SIM118
                yield f"{k}-cycle {definition}", by_length.key(k).key(definition)
    if (grid := scores.optional("grid_cycle")) is not None:
        by_length = _at(grid, key)
        for k in by_length.keys():  # noqa: SIM118
            yield f"{k}-cycle grid", by_length.key(k)
    if (held_out := scores.optional("held_out")) is not None:
        yield "held-out matches", _at(held_out, key)


def _at(by_alpha: Field, key: str) -> Field:
    if key not in by_alpha.keys():  # noqa: SIM118 - a Field is no dict
        raise AnnotationError(
            by_alpha.file,
            by_alpha.place,
            f"expected a score at alpha {key}, got {', '.join(by_alpha.keys()) or 'none'}",
        )
    return by_alpha.key(key)


def _ratio(field: Field) -> float:
    if not 0.0 <= field.number() <= 1.0:
        raise field.error("a ratio from 0 to 1")
    return field.number()


@dataclass(frozen=True)
class Table:
    """Means and standard deviations over seeds, in per cent.

    Args:
        columns: (method, metric) of each column.
        rows: By category, and `average`: for each column mean and standard deviation, None where there is none.
        setting: What holds for all of it, such as the protocol; columns of its own in CSV, and beside the rows in JSON.
    """

    columns: tuple[tuple[str, str], ...]
    rows: Mapping[str, tuple[tuple[float, float | None] | None, ...]]
    setting: Mapping[str, str]

    def render(self, form: TableFormat) -> str:
        """The table as text, ending in a line break.

        Args:
            form: `markdown`, `latex`, `csv` or `json`.
        """
        if form == "json":
            document = {**self.setting, "rows": [self._record(row) for row in self.rows]}
            return json.dumps(document, indent=2) + "\n"
        titles = ["category", *(f"{method} {metric}" for method, metric in self.columns)]
        if form == "csv":
            titles = titles[:1] + [f"{title}{part}" for title in titles[1:] for part in ("", " std")]
            titles += self.setting.keys()
            lines = [
                [
                    row,
                    *("" if part is None else f"{part:.4f}" for cell in cells for part in cell or (None, None)),
                    *self.setting.values(),
                ]
                for row, cells in self.rows.items()
            ]
        else:
            lines = [[row, *(_cell_text(cell) for cell in cells)] for row, cells in self.rows.items()]
        return render_rows(titles, lines, form)

    def _record(self, row: str) -> dict[str, Any]:
        scores = [
            {"method": method, "metric": metric, "mean": cell[0], "std": cell[1]}
            for (method, metric), cell in zip(self.columns, self.rows[row], strict=True)
            if cell is not None
        ]
        return {"category": row, "scores": scores}


def _cell_text(cell: tuple[float, float | None] | None) -> str:
    if cell is None:
        return "-"
    mean, std = cell
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ({std:.2f})"


def render_rows(
    titles: Sequence[str], lines: Sequence[Sequence[str]], form: Literal["markdown", "latex", "csv"]
) -> str:
    """A table of texts, ending in a line break.

    Args:
        titles: The columns' titles. In LaTeX and Markdown the columns after the first are set flush right.
        lines: The rows.
        form: `markdown`, `latex` (booktabs) or `csv`.
    """
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([titles, *lines])
        return text.getvalue()
    if form == "latex":
        title, *body = (" & ".join(_latex(text) for text in line) + r" \\" for line in [titles, *lines])
        columns = "l" + "r" * (len(titles) - 1)
        rows = [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            title,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    else:
        rule = ["---", *("---:" for _ in titles[1:])]
        table = [titles, rule, *lines]
        rows = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in table]
    return "\n".join(rows) + "\n"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def tabulate(cells: Sequence[Cell]) -> Table:
    """The table of any number of runs: categories down, methods and metrics across.

    The average over categories is taken seed by seed, over the categories that the column has, so that its standard
    deviation is that of the average; where the seeds differ between categories it is the mean of the means, alone.
    The mean of everything at once has a row of its own, see `read_summary`. Runs that name no seed are numbered within
    their category, in the order of the cells.

    Raises:
        ValueError: There is no cell, the protocols differ, one category was asked different questions, or one seed of a
            method has two scores for a category.
    """
    if not cells:
        raise ValueError("summaries: expected at least one score, got none")
    if len(protocols := sorted({cell.protocol for cell in cells})) > 1:
        raise ValueError(f"summaries: expected one protocol, got {' and '.join(protocols)}; make a table of each")
    values: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    questions: dict[str, str] = {}
    for cell in cells:
        if cell.questions is not None and questions.setdefault(cell.category, cell.questions) != cell.questions:
            raise ValueError(
                f"summaries: expected {cell.category!r} to be asked the same everywhere, got different pairs, points "
                "or truth; make a table of each"
            )
        seeds = values.setdefault((cell.method, cell.metric), {}).setdefault(cell.category, {})
        seed = len(seeds) if cell.seed is None else cell.seed
        if seed in seeds:
            raise ValueError(
                f"summaries: expected one score of {cell.method!r}, {cell.category!r}, seed {seed}, got two"
            )
        seeds[seed] = cell.value
    categories = sorted({cell.category for cell in cells})
    rows = {}
    for category in categories:
        per_column = [values[column].get(category) for column in values]
        rows[category] = tuple(None if seeds is None else _in_per_cent(list(seeds.values())) for seeds in per_column)
    pooled = rows.pop(POOLED, None)
    rows[AVERAGE] = tuple(
        _average([own for category, own in by_category.items() if category != POOLED])
        for by_category in values.values()
    )
    if pooled is not None:
        rows[POOLED] = pooled
    return Table(tuple(values), rows, {"protocol": protocols[0], "aggregate": cells[0].aggregate})


def _in_per_cent(values: list[float]) -> tuple[float, float | None]:
    mean, std = mean_and_std(values)
    return 100.0 * mean, None if std is None else 100.0 * std


def _average(per_category: list[dict[int, float]]) -> tuple[float, float | None]:
    seeds = set(per_category[0])
    if all(set(own) == seeds for own in per_category):
        return _in_per_cent([_mean([own[seed] for own in per_category]) for seed in sorted(seeds)])
    return 100.0 * _mean([mean_and_std(list(own.values()))[0] for own in per_category]), None
