from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import (
    AnnotationError,
    CategoryPredictions,
    KeypointBenchmark,
    Predictions,
    get_protocol,
    score_predictions,
    summarise,
)
from asic_eval.keypoints import benchmark_of_point_pairs
from asic_eval.summary import (
    Cell,
    Table,
    alpha_key,
    compare_predictions,
    questions_of,
    read_summary,
    render_rows,
    tabulate,
)

PROTOCOL = get_protocol("spair-per-point")


def perfect(benchmark: KeypointBenchmark) -> np.ndarray:
    return np.where(benchmark.asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], 0.0)


@pytest.fixture
def benchmarks(benchmark: KeypointBenchmark) -> dict[str, KeypointBenchmark]:
    return {"cat": benchmark, "dog": replace(benchmark, name="dogs", pairs=benchmark.pairs[:2])}


@pytest.fixture
def predictions(benchmarks: dict[str, KeypointBenchmark]) -> Predictions:
    """All right for cats; for dogs the first of two pairs is wrong: 3 of 6 points."""
    dogs = perfect(benchmarks["dog"])
    dogs[0] += 1000.0
    return Predictions(
        "ours",
        {
            "cat": CategoryPredictions.of(benchmarks["cat"], perfect(benchmarks["cat"]), mirrored=np.ones(6)),
            "dog": CategoryPredictions.of(benchmarks["dog"], dogs),
        },
        seed=4,
    )


def test_alpha_keys() -> None:
    assert [alpha_key(alpha) for alpha in (0.1, 0.05, 0.125, 1.0, 0.15)] == ["0.10", "0.05", "0.125", "1.00", "0.15"]


def test_a_summary_on_paper(benchmarks: dict[str, KeypointBenchmark], predictions: Predictions) -> None:
    counts = score_predictions(PROTOCOL, predictions, benchmarks, file="p.npz")
    summary = summarise(PROTOCOL, "ours", 4, benchmarks, counts)
    assert json.loads(json.dumps(summary, allow_nan=False))["method"] == "ours"
    assert (summary["format"], summary["version"], summary["seed"]) == ("asic-eval summary", 1, 4)
    assert summary["protocol"]["name"] == "spair-per-point"
    assert summary["protocol"]["inclusive"] is False
    assert summary["mirror_aware"] is False
    assert list(summary["categories"]) == ["cat", "dog"]
    dog = summary["categories"]["dog"]
    assert (dog["benchmark"], dog["images"], dog["pairs"], dog["points"]) == ("dogs", 3, 2, 6)
    assert dog["pck"]["0.10"] == {"per_point": 0.5, "per_image": 0.5, "hits": 3}
    assert summary["categories"]["cat"]["pck"]["0.01"] == {"per_point": 1.0, "per_image": 1.0, "hits": 16}
    assert summary["overall"]["macro"]["0.10"] == {"per_point": 0.75, "per_image": 0.75}
    assert summary["overall"]["micro"]["0.10"] == {"per_point": 19 / 22, "per_image": 7 / 8, "hits": 19}
    assert summary["headline"]["alpha"] == 0.1
    assert summary["headline"]["value"] == 0.75
    # All pairs of dogs have one source, so how sure the mean of categories is nobody can say.
    assert summary["headline"]["interval"] is None
    assert summary["request"] == {}
    assert summary["missing"] == "error"
    official = summarise(
        get_protocol("spair-official"),
        "ours",
        None,
        benchmarks,
        score_predictions(get_protocol("spair-official"), predictions, benchmarks, file="p"),
        mirror_aware=True,
    )
    assert official["headline"]["value"] == 7 / 8
    low, high = official["headline"]["interval"]
    assert low < 7 / 8 < high == 1.0
    assert official["mirror_aware"] is True


def test_no_points_at_all(benchmark: KeypointBenchmark) -> None:
    nothing = {"cat": replace(benchmark, pairs=np.zeros((0, 2)))}
    empty = Predictions("x", {"cat": CategoryPredictions.of(nothing["cat"], np.zeros((0, 4, 2)))})
    counts = score_predictions(PROTOCOL, empty, nothing, file="p")
    summary = summarise(PROTOCOL, "x", None, nothing, counts)
    assert summary["headline"] == {"alpha": 0.1, "value": None, "interval": None}
    assert summary["overall"]["micro"]["0.10"] == {"per_point": None, "per_image": None, "hits": 0}
    assert compare_predictions(PROTOCOL, counts, counts, nothing)["second_minus_first"] == {}


def test_score_errors(benchmarks: dict[str, KeypointBenchmark], predictions: Predictions) -> None:
    with pytest.raises(
        AnnotationError, match=r"^p: categories: expected 'cow', got \['cat', 'dog'\]; --category scores some of them$"
    ):
        score_predictions(PROTOCOL, predictions, {"cow": benchmarks["cat"]}, file="p")
    with pytest.raises(AnnotationError, match=r"^p: dog: expected `mirrored` for the mirror-aware score, got none$"):
        score_predictions(PROTOCOL, predictions, benchmarks, file="p", mirror_aware=True)
    cats = {"cat": benchmarks["cat"]}
    aware = score_predictions(PROTOCOL, predictions, cats, file="p", mirror_aware=True)
    strict = score_predictions(PROTOCOL, predictions, cats, file="p")
    assert aware["cat"].hits[0, 0] < strict["cat"].hits[0, 0]
    lost = Predictions("x", {"cat": CategoryPredictions.of(benchmarks["cat"], np.full((6, 4, 2), np.nan))})
    with pytest.raises(
        AnnotationError, match=r"^p: cat: predicted: expected a finite position for keypoint 0 of pair 0"
    ):
        score_predictions(PROTOCOL, lost, cats, file="p")
    assert score_predictions(PROTOCOL, lost, cats, file="p", missing="miss")["cat"].hits.sum() == 0


def test_comparison(benchmarks: dict[str, KeypointBenchmark], predictions: Predictions) -> None:
    ours = score_predictions(PROTOCOL, predictions, benchmarks, file="p")
    right = Predictions("x", {name: CategoryPredictions.of(own, perfect(own)) for name, own in benchmarks.items()})
    theirs = score_predictions(PROTOCOL, right, benchmarks, file="q")
    result = compare_predictions(PROTOCOL, ours, theirs, benchmarks, resamples=50)
    assert (result["protocol"], result["alpha"]) == ("spair-per-point", 0.1)
    rows = result["second_minus_first"]
    assert list(rows) == ["cat", "dog", "all"]
    assert rows["cat"] == {"difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0, "real": False}
    # Dogs have one source image, of which nothing can be drawn; categories count alike.
    assert rows["dog"] == {"difference": 0.5, "low": None, "high": None, "p_value": None, "real": None}
    assert rows["all"] == rows["dog"] | {"difference": 0.25}
    assert (result["aggregate"], result["over_categories"], result["resamples"]) == ("per_point", "macro", 50)
    pooled = compare_predictions(get_protocol("spair-dift"), ours, theirs, benchmarks, resamples=50)
    # Sources are drawn whole and never shared between categories: 3 of cats and 1 of dogs.
    everything = pooled["second_minus_first"]["all"]
    assert everything["difference"] == pytest.approx(3 / 22)
    assert everything["low"] == 0.0
    assert not everything["real"]


def test_what_a_mean_of_categories_is_sure_of(benchmark: KeypointBenchmark) -> None:
    """Many easy cats and few hard dogs: their mean lies between, that of all points does not."""
    many = replace(benchmark, pairs=np.tile(benchmark.pairs, (40, 1)))
    benchmarks = {"cat": many, "dog": replace(benchmark, name="dogs")}
    wrong = perfect(benchmarks["dog"])
    wrong[::2] += 1000.0
    better = perfect(many)
    better[:20] += 1000.0
    first, second = (
        score_predictions(
            PROTOCOL,
            Predictions("x", {n: CategoryPredictions.of(benchmarks[n], own) for n, own in answers.items()}),
            benchmarks,
            file="p",
        )
        for answers in ({"cat": perfect(many), "dog": wrong}, {"cat": better, "dog": perfect(benchmark)})
    )
    headline = summarise(PROTOCOL, "x", None, benchmarks, first)["headline"]
    low, high = headline["interval"]
    assert headline["value"] == (1.0 + 7 / 16) / 2
    assert low <= headline["value"] <= high < 0.9
    rows = compare_predictions(PROTOCOL, first, second, benchmarks, resamples=200)["second_minus_first"]
    assert rows["all"]["difference"] == pytest.approx((rows["cat"]["difference"] + rows["dog"]["difference"]) / 2)
    assert rows["all"]["low"] > 0.0
    pooled = compare_predictions(get_protocol("spair-dift"), first, second, benchmarks, resamples=200)
    assert pooled["second_minus_first"]["all"]["difference"] < 0.0


def test_a_source_of_many_pairs_is_one_source_by_its_name(benchmark: KeypointBenchmark) -> None:
    """As PF-PASCAL is read, where an image stands in `images` once for each of its pairs."""
    ends = [(benchmark.images[source], benchmark.images[target]) for source, target in benchmark.pairs.tolist()]
    apart = {"own": benchmark_of_point_pairs("own", ends, benchmark.keypoint_names)}
    together = {"own": benchmark}
    answers = perfect(benchmark)
    answers[benchmark.pairs[:, 0] == 0] += 1000.0
    protocol = get_protocol("pf-pascal")
    intervals = [
        summarise(protocol, "x", None, own, {"own": protocol.score(answers, own["own"])})["headline"]["interval"]
        for own in (apart, together)
    ]
    assert intervals[0] == intervals[1]
    assert intervals[0][1] - intervals[0][0] == 1.0


def test_what_was_asked_is_told_apart(benchmark: KeypointBenchmark) -> None:
    assert len(questions_of(benchmark)) == 16
    assert questions_of(replace(benchmark, name="other")) == questions_of(benchmark)
    fewer = benchmark.asked.copy()
    fewer[0, 0] = False
    moved = (replace(benchmark.images[0], points_image=benchmark.images[0].points_image + 1.0), *benchmark.images[1:])
    others = [
        replace(benchmark, pairs=benchmark.pairs[::-1]),
        replace(benchmark, pair_visible=fewer),
        replace(benchmark, images=moved),
        replace(benchmark, images=(replace(benchmark.images[0], name="a/9.png"), *benchmark.images[1:])),
        replace(benchmark, keypoint_names=("x", *benchmark.keypoint_names[1:])),
    ]
    assert len({questions_of(own) for own in [benchmark, *others]}) == 6


def write(folder: Path, name: str, document: dict[str, Any]) -> Path:
    (folder / name).write_text(json.dumps(document))
    return folder / name


def test_summaries_are_read_back(
    tmp_path: Path, benchmarks: dict[str, KeypointBenchmark], predictions: Predictions
) -> None:
    counts = score_predictions(PROTOCOL, predictions, benchmarks, file="p")
    path = write(tmp_path, "s.json", summarise(PROTOCOL, "ours", 4, benchmarks, counts))
    cells = read_summary(path, alpha=0.1, aggregate="per_point")
    name = PROTOCOL.name
    cats, dogs = (questions_of(own) for own in benchmarks.values())
    assert cells == [
        Cell("ours", "PCK", "cat", 4, 1.0, name, "per_point", cats),
        Cell("ours", "PCK", "dog", 4, 0.5, name, "per_point", dogs),
    ]
    assert read_summary(path, alpha=0.1) == cells
    unseeded = write(tmp_path, "t.json", summarise(PROTOCOL, "ours", None, benchmarks, counts))
    assert {cell.seed for cell in read_summary(unseeded, alpha=0.01, aggregate="per_image")} == {None}
    aware = summarise(PROTOCOL, "ours", 4, benchmarks, counts, mirror_aware=True, geometry_aware=True)
    assert read_summary(write(tmp_path, "a.json", aware), alpha=0.1, aggregate="per_point")[0].protocol == (
        f"{name}, mirror-aware, geometry-aware"
    )
    with pytest.raises(
        AnnotationError, match=r"s\.json: categories\.cat\.pck: expected a score at alpha 0\.30, got 0\.01, .*, 0\.20$"
    ):
        read_summary(path, alpha=0.3, aggregate="per_point")


def test_the_mean_of_everything_at_once_is_read_back(
    tmp_path: Path, benchmarks: dict[str, KeypointBenchmark], predictions: Predictions
) -> None:
    official = get_protocol("spair-official")
    counts = score_predictions(official, predictions, benchmarks, file="p")
    path = write(tmp_path, "s.json", summarise(official, "ours", 4, benchmarks, counts))
    cells = read_summary(path, alpha=0.1)
    assert [(cell.category, cell.value, cell.aggregate) for cell in cells] == [
        ("cat", 1.0, "per_image"),
        ("dog", 0.5, "per_image"),
        ("all (micro)", 7 / 8, "per_image"),
    ]
    assert cells[2].questions is None
    table = tabulate(cells)
    assert {row: cell[0] for row, cell in table.rows.items()} == {
        "cat": (100.0, None),
        "dog": (50.0, None),
        "average": (75.0, None),
        "all (micro)": (87.5, None),
    }
    assert table.setting == {"protocol": "spair-official", "aggregate": "per_image"}
    one = summarise(official, "ours", 4, {"cat": benchmarks["cat"]}, {"cat": counts["cat"]})
    assert [cell.category for cell in read_summary(write(tmp_path, "o.json", one), alpha=0.1)] == ["cat"]


RUN = {
    "format": "asic-summary",
    "version": 1,
    "protocol": "cub-asic-256, per point and per image; all 380 2-cycles",
    "collection": {"benchmark": "cub/001.Auk", "photos": 20},
    "default": "canonical",
    "methods": {
        "canonical": {
            "pck": {"0.10": {"per_point": 0.5, "per_image": 0.25}},
            "cycle": {"0.10": {"2": {"end": 0.75, "every_hop": 0.875}, "3": {"end": None, "every_hop": None}}},
        },
        "box_copy": {"pck": None, "cycle": None},
        "nearest_neighbour": {"pck": {"0.10": {"per_point": 1, "per_image": 0}}},
    },
}
FOLDER = {
    "format": "asic-summary",
    "version": 1,
    "protocol": "no keypoints: a grid of at most 36 points",
    "collection": {"benchmark": None},
    "methods": {
        "combined": {
            "pck": None,
            "cycle": None,
            "grid_cycle": {"0.10": {"2": 0.5, "3": None}},
            "held_out": {"0.10": 0.25},
        },
        "box_copy": {"grid_cycle": {"0.10": {}}, "held_out": None},
    },
}


def test_summaries_of_the_asic_command(tmp_path: Path) -> None:
    path = write(tmp_path, "s.json", RUN)
    assert read_summary(path, alpha=0.1, aggregate="per_image") == [
        Cell("canonical", "PCK", "001.Auk", None, 0.25, "cub-asic-256", "per_image"),
        Cell("canonical", "2-cycle end", "001.Auk", None, 0.75, "cub-asic-256", "per_image"),
        Cell("canonical", "2-cycle every_hop", "001.Auk", None, 0.875, "cub-asic-256", "per_image"),
        Cell("nearest_neighbour", "PCK", "001.Auk", None, 0.0, "cub-asic-256", "per_image"),
    ]
    with pytest.raises(AnnotationError, match=r"methods\.canonical\.pck: expected a score at alpha 0\.20, got 0\.10$"):
        read_summary(path, alpha=0.2, aggregate="per_image")


@pytest.mark.parametrize(
    ("changes", "category", "seed"),
    [
        ({"category": "cow", "seed": 3}, "cow", 3),
        ({"collection": {"benchmark": "spair/cow/test"}}, "cow", None),
        ({"collection": {"benchmark": "stanford_dogs"}}, "stanford_dogs", None),
        ({"collection": None}, "my-run", None),
    ],
)
def test_what_a_run_is_about(tmp_path: Path, changes: dict[str, Any], category: str, seed: int | None) -> None:
    (tmp_path / "my-run").mkdir()
    cells = read_summary(write(tmp_path / "my-run", "s.json", RUN | changes), alpha=0.1, aggregate="per_point")
    assert {(cell.category, cell.seed) for cell in cells} == {(category, seed)}


def test_a_run_names_its_questions(tmp_path: Path) -> None:
    named = RUN | {"collection": {"benchmark": "cub/001.Auk", "questions": "0123"}}
    assert {cell.questions for cell in read_summary(write(tmp_path, "s.json", named), alpha=0.1)} == {"0123"}


def test_runs_without_keypoints(tmp_path: Path) -> None:
    (tmp_path / "mugs").mkdir()
    assert read_summary(write(tmp_path / "mugs", "s.json", FOLDER), alpha=0.1, aggregate="per_point") == [
        Cell("combined", "2-cycle grid", "mugs", None, 0.5, "no keypoints", "per_point"),
        Cell("combined", "held-out matches", "mugs", None, 0.25, "no keypoints", "per_point"),
    ]


OWN = {
    "format": "asic-eval summary",
    "version": 1,
    "method": "m",
    "protocol": {"name": "p", "aggregate": "per_point", "over_categories": "macro"},
}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, r"format: expected a value, got no such key$"),
        (RUN | {"methods": {"m": {"held_out": {}}}}, r"m\.held_out: expected a score at alpha 0\.10, got none$"),
        (RUN | {"methods": {"m": {"grid_cycle": {"0.05": {}}}}}, r"expected a score at alpha 0\.10, got 0\.05$"),
        (RUN | {"methods": {"m": {"cycle": {"0.05": {}}}}}, r"expected a score at alpha 0\.10, got 0\.05$"),
        ({"format": "x"}, r"format: expected 'asic-eval summary' or 'asic-summary', got 'x'$"),
        ({"format": "asic-summary", "version": 1, "methods": {}}, r"protocol: expected a value, got no such key$"),
        (RUN | {"version": 2}, r"version: expected version 1; another version wrote this file, got 2$"),
        (OWN | {"version": 2}, r"version: expected version 1; another version wrote this file, got 2$"),
        (
            OWN | {"protocol": {"name": "p", "aggregate": "x"}},
            r"protocol\.aggregate: expected 'per_point' or 'per_image', got 'x'$",
        ),
        (RUN | {"methods": []}, r"methods: expected an object, got \[\]$"),
        (RUN | {"seed": -1}, r"seed: expected a whole number from 0, got -1$"),
        (
            OWN | {"categories": {"c": {"pck": {"0.10": {"per_point": 1.5}}}}},
            r"categories\.c\.pck\.0\.10\.per_point: expected a ratio from 0 to 1, got 1\.5$",
        ),
        (
            OWN | {"categories": {"c": {"pck": {"0.10": {"per_point": -0.5}}}}},
            r"per_point: expected a ratio from 0 to 1, got -0\.5$",
        ),
        (
            RUN | {"methods": {"m": {"pck": {"0.10": {"per_point": "x"}}}}},
            r"expected a finite number, got 'x'$",
        ),
    ],
)
def test_other_documents(tmp_path: Path, document: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=r"s\.json: .*" + message):
        read_summary(write(tmp_path, "s.json", document), alpha=0.1)


def test_empty_categories_have_no_cell(tmp_path: Path) -> None:
    document = OWN | {"categories": {"c": {"questions": "x", "pck": {"0.10": {"per_point": None}}}}}
    assert read_summary(write(tmp_path, "s.json", document), alpha=0.1, aggregate="per_point") == []


CELLS = [
    Cell("a|b", "PCK", "dog", 0, 0.5, "p", "per_point"),
    Cell("a|b", "PCK", "dog", 1, 0.7, "p", "per_point"),
    Cell("a|b", "PCK", "cat", 0, 0.1, "p", "per_point"),
    Cell("a|b", "PCK", "cat", 1, 0.1, "p", "per_point"),
    Cell("m_2", "PCK", "dog", 0, 0.25, "p", "per_point"),
    Cell("m_2", "PCK", "cat", 5, 0.75, "p", "per_point"),
    Cell("m_2", "2-cycle end", "cat", 5, 1.0, "p", "per_point"),
]


def test_tables_take_means_over_seeds() -> None:
    table = tabulate(CELLS)
    assert table.columns == (("a|b", "PCK"), ("m_2", "PCK"), ("m_2", "2-cycle end"))
    assert list(table.rows) == ["cat", "dog", "average"]
    first, second, third = table.rows["dog"]
    assert first is not None
    assert first == (pytest.approx(60.0), pytest.approx(100 * 0.02**0.5))
    assert (second, third) == ((25.0, None), None)
    # Seed by seed: (0.5 + 0.1) / 2 and (0.7 + 0.1) / 2.
    assert table.rows["average"][0] == (pytest.approx(35.0), pytest.approx(100 * 0.005**0.5))
    assert table.rows["average"][1] == (50.0, None)
    assert table.rows["average"][2] == (100.0, None)
    with pytest.raises(ValueError, match=r"^summaries: expected at least one score, got none$"):
        tabulate([])
    with pytest.raises(ValueError, match=r"^summaries: expected one score of 'a\|b', 'dog', seed 0, got two$"):
        tabulate([*CELLS, CELLS[0]])
    with pytest.raises(ValueError, match=r"^summaries: expected one protocol, got p and q; make a table of each$"):
        tabulate([*CELLS, replace(CELLS[0], protocol="q")])
    asked = [replace(cell, questions=cell.category) for cell in CELLS]
    assert tabulate(asked).rows == table.rows
    with pytest.raises(ValueError, match=r"^summaries: expected 'dog' to be asked the same everywhere, got different"):
        tabulate([*asked[1:], replace(asked[0], questions="others")])


def test_runs_without_seeds_are_numbered_within_their_category() -> None:
    values = {"cat": (0.2, 0.4), "dog": (0.6, 1.0)}
    cells = [
        Cell("m", "PCK", category, None, value, "p", "per_point") for category, own in values.items() for value in own
    ]
    rows = tabulate(cells).rows
    assert rows["cat"][0] == (pytest.approx(30.0), pytest.approx(100 * 0.02**0.5))
    # First runs average 0.4, second ones 0.7.
    assert rows["average"][0] == (pytest.approx(55.0), pytest.approx(100 * 0.045**0.5))


def test_markdown() -> None:
    assert tabulate(CELLS).render("markdown") == (
        "| category | a\\|b PCK | m_2 PCK | m_2 2-cycle end |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| cat | 10.0 (0.00) | 75.0 | 100.0 |\n"
        "| dog | 60.0 (14.14) | 25.0 | - |\n"
        "| average | 35.0 (7.07) | 50.0 | 100.0 |\n"
    )


def test_latex() -> None:
    assert tabulate(CELLS[4:6]).render("latex") == (
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "category & m\\_2 PCK \\\\\n"
        "\\midrule\n"
        "cat & 75.0 \\\\\n"
        "dog & 25.0 \\\\\n"
        "average & 50.0 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )
    assert render_rows(["\\&%$#_{}<"], [], "latex").splitlines()[2] == (
        "\\textbackslash{}\\&\\%\\$\\#\\_\\{\\}\\textless{} \\\\"
    )


def test_csv() -> None:
    rows = list(csv.reader(io.StringIO(tabulate(CELLS).render("csv"))))
    assert rows[0] == [
        "category",
        "a|b PCK",
        "a|b PCK std",
        "m_2 PCK",
        "m_2 PCK std",
        "m_2 2-cycle end",
        "m_2 2-cycle end std",
        "protocol",
        "aggregate",
    ]
    assert rows[2] == ["dog", "60.0000", "14.1421", "25.0000", "", "", "", "p", "per_point"]
    assert tabulate(CELLS).render("csv").endswith("\n")


def test_json() -> None:
    table = Table((("m", "PCK"), ("n", "PCK")), {"cat": ((50.0, None), None)}, {"protocol": "p"})
    assert json.loads(table.render("json")) == {
        "protocol": "p",
        "rows": [{"category": "cat", "scores": [{"method": "m", "metric": "PCK", "mean": 50.0, "std": None}]}],
    }
    assert table.render("json").startswith('{\n  "protocol": "p"')
    assert table.render("json").endswith("}\n")
