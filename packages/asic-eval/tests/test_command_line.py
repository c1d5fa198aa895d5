from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from asic_eval import PROTOCOLS, CategoryPredictions, KeypointBenchmark, Predictions, random_pairs, write_predictions
from asic_eval.__main__ import main
from asic_eval.benchmarks.reading import READERS, Request, read_benchmarks
from asic_eval.benchmarks.spair import write_spair_annotations
from asic_eval.benchmarks.synthetic import draw_collection


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn benchmark in SPair's layout, a perfect answer to it, and one that is wrong for every second pair."""
    folder = tmp_path_factory.mktemp("spair")
    benchmark = draw_collection(0, num_images=5, size=48).benchmark
    write_spair_annotations(folder, benchmark, "creature")
    right = np.where(benchmark.asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], np.nan)
    wrong = right.copy()
    wrong[::2] += 500.0
    for name, points in (("right", right), ("wrong", wrong)):
        answers = CategoryPredictions.of(benchmark, points, mirrored=np.zeros(len(points), dtype=bool))
        write_predictions(folder / f"{name}.npz", Predictions(name, {"creature": answers}, seed=1))
    (folder / "benchmark.json").write_text(json.dumps(benchmark.to_json()))
    return folder


def spair(root: Path) -> list[str]:
    return ["--benchmark", "spair", "--root", str(root), "--category", "creature"]


def test_score_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(root / "wrong.npz"), *spair(root), "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert captured.err == ""
    assert (summary["method"], summary["seed"]) == ("wrong", 1)
    assert summary["protocol"]["name"] == "spair-official"
    assert summary["headline"]["value"] == 0.5


def test_score_as_tables(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(root / "wrong.npz"), *spair(root), "--protocol", "asic-published"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0] == (
        "| category | wrong PCK@0.01 per_point | wrong PCK@0.05 per_point | wrong PCK@0.10 per_point "
        "| wrong PCK@0.15 per_point |"
    )
    assert main(["score", str(root / "wrong.npz"), *spair(root)]) == 0
    assert "| all (micro) | 50.0 | 50.0 | 50.0 | 50.0 |" in capsys.readouterr().out
    assert [line.split(" | ")[0] for line in text.splitlines()[2:5]] == ["| creature", "| all (macro)", "| all (micro)"]
    assert "Protocol asic-published: What the published ASIC code scored" in text
    assert text.count("\nFault: ") == 2
    assert "Mirror-aware" not in text
    assert main(["score", str(root / "right.npz"), *spair(root), "--csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[1][:2] == ["creature", "100.0000"]
    assert len(rows) == 4
    assert main(["score", str(root / "right.npz"), *spair(root), "--latex"]) == 0
    assert capsys.readouterr().out.startswith("\\begin{tabular}{lrrrr}\n")
    benchmark = ["--benchmark", "json", "--annotations", str(root / "benchmark.json")]
    assert main(["score", str(root / "right.npz"), *benchmark]) == 2
    assert capsys.readouterr().err.endswith(
        "categories: expected 'own', got ['creature']; --category scores some of them\n"
    )


def test_mirror_aware(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(root / "right.npz"), *spair(root), "--mirror-aware"]) == 0
    assert "| creature | 100.0 | 100.0 | 100.0 | 100.0 |" in capsys.readouterr().out
    benchmark = draw_collection(0, num_images=5, size=48).benchmark
    right = np.where(benchmark.asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], np.nan)
    answers = CategoryPredictions.of(benchmark, right, mirrored=np.zeros(len(right), dtype=bool))
    write_predictions(root / "own.npz", Predictions("own", {"own": answers}))
    command = ["score", str(root / "own.npz"), "--benchmark", "json", "--annotations", str(root / "benchmark.json")]
    assert main([*command, "--mirror-aware"]) == 0
    assert "\nMirror-aware: left and right swapped where the file says mirrored; not the strict score.\n" in (
        capsys.readouterr().out
    )
    assert main([*command, "--mirror-aware", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["mirror_aware"] is True
    assert summary["protocol"]["name"] == "box-per-point"


def test_missing_answers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = draw_collection(0, num_images=5, size=48).benchmark
    nothing = CategoryPredictions.of(benchmark, np.full((20, len(benchmark.keypoint_names), 2), np.nan))
    write_predictions(root / "nothing.npz", Predictions("nothing", {"creature": nothing}))
    assert main(["score", str(root / "nothing.npz"), *spair(root)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {root / 'nothing.npz'}: creature: predicted: expected a finite position")
    assert "missing='miss' counts it as wrong" in error
    both = [str(root / "nothing.npz"), str(root / "right.npz")]
    assert main(["compare", *both, *spair(root)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {root / 'nothing.npz'}: creature: ")
    assert main(["compare", *both, *spair(root), "--missing", "miss"]) == 0
    assert json.loads(capsys.readouterr().out)["second_minus_first"]["all"]["difference"] == 1.0
    assert main(["score", str(root / "nothing.npz"), *spair(root), "--missing", "miss", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["headline"]["value"] == 0.0


def test_compare(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(root / "wrong.npz"), str(root / "right.npz")]
    assert main(["compare", *files, *spair(root), "--resamples", "100"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["first"], result["second"]) == ("wrong", "right")
    assert result["second_minus_first"]["all"]["difference"] == 0.5
    assert result["second_minus_first"]["all"]["real"] is True
    assert result["second_minus_first"]["all"]["p_value"] == pytest.approx(2 / 101)  # of 100 draws
    assert main(["compare", *files, *spair(root), "--resamples", "0"]) == 2
    assert capsys.readouterr().err == "error: --resamples: expected 1 to 1000000, got 0\n"
    assert main(["compare", *files, *spair(root), "--resamples", str(10**12)]) == 2
    assert capsys.readouterr().err == f"error: --resamples: expected 1 to 1000000, got {10**12}\n"


def test_published(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("| benchmark | metric | value | method | setting | source |\n")
    assert "| SPair-71k | PCK@0.10 | 36.5 (1.06) | ASIC (code) |" in text
    assert len(text.splitlines()) == 50
    assert main(["published", "--per-category", "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 58
    main(["score", str(root / "wrong.npz"), *spair(root), "--json"])
    (root / "summary.json").write_text(capsys.readouterr().out)
    assert main(["published", "--json", "--with", str(root / "summary.json")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 49
    assert rows[-1]["method"] == "wrong"
    assert rows[-1]["benchmark"] == "creature"
    assert rows[-1]["metric"] == "PCK@0.10"
    assert rows[-1]["value"] == pytest.approx(50.0, abs=5.0)
    assert rows[-1]["setting"] == "spair-official, per image"
    assert rows[-1]["source"] == f"{root / 'summary.json'}, seed 1"
    (root / "run.json").write_text(json.dumps(RUN))
    assert main(["published", "--json", "--with", str(root / "run.json")]) == 0
    own = json.loads(capsys.readouterr().out)[48:]
    assert [(row["method"], row["metric"], row["value"]) for row in own] == [
        ("canonical", "PCK@0.10", 50.0),
        ("canonical", "2-cycle end PCK@0.10", 75.0),
        ("box_copy", "PCK@0.10", 25.0),
    ]
    assert {(row["benchmark"], row["source"]) for row in own} == {("001.Auk", str(root / "run.json"))}


def test_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("right", "wrong"):
        main(["score", str(root / f"{name}.npz"), *spair(root), "--json"])
        (root / f"{name}.json").write_text(capsys.readouterr().out)
    files = [str(root / "right.json"), str(root / "wrong.json")]
    assert main(["table", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| category | right PCK | wrong PCK |"
    assert lines[2].startswith("| creature | 100.0 | ")
    assert lines[3].startswith("| average | 100.0 | ")
    assert main(["table", *files, "--alpha", "0.05", "--aggregate", "per_image", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["scores"][1]["mean"] == 50.0
    assert main(["table", files[0], files[0]]) == 2
    assert capsys.readouterr().err == f"error: summaries: expected each file once, got {files[0]} twice\n"
    (root / "copy.json").write_bytes((root / "right.json").read_bytes())
    assert main(["table", files[0], str(root / "copy.json")]) == 2
    assert capsys.readouterr().err == "error: summaries: expected one score of 'right', 'creature', seed 1, got two\n"


RUN = {
    "format": "asic-summary",
    "version": 1,
    "protocol": "cub-asic-256, per point and per image",
    "collection": {"benchmark": "cub/001.Auk"},
    "methods": {
        "canonical": {
            "pck": {"0.10": {"per_point": 0.5, "per_image": 0.25}},
            "cycle": {"0.10": {"2": {"end": 0.75}}},
        },
        "box_copy": {"pck": {"0.10": {"per_point": 0.25, "per_image": 0.5}}},
    },
}


def test_table_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = RUN | {"collection": {"benchmark": "cub/002.Auklet"}}
    for name, document in (("a", RUN), ("b", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(document))
    files = [str(tmp_path / name / "summary.json") for name in "ab"]
    assert main(["table", *files, "--method", "canonical", "--metric", "PCK"]) == 0
    assert capsys.readouterr().out == (
        "| category | canonical PCK |\n| --- | ---: |\n| 001.Auk | 50.0 |\n| 002.Auklet | 50.0 |\n| average | 50.0 |\n"
        "\nProtocol cub-asic-256, alpha 0.10, per_point; percent.\n"
    )
    assert main(["table", *files, "--method", "box_copy", "--latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "% Protocol cub-asic-256, alpha 0.10, per_point; percent."
    assert lines[1] == "\\begin{tabular}{lr}"
    assert main(["table", *files, "--csv"]) == 0
    assert capsys.readouterr().out.startswith("category,canonical PCK,canonical PCK std,canonical 2-cycle end,")
    assert main(["table", *files, "--method", "combined"]) == 2
    assert capsys.readouterr().err == (
        "error: --method, --metric: expected some of box_copy, canonical and 2-cycle end, PCK\n"
    )
    (tmp_path / "c.json").write_text(json.dumps(other | {"protocol": "spair-official, per point"}))
    assert main(["table", *files, str(tmp_path / "c.json")]) == 2
    assert "expected one protocol, got cub-asic-256 and spair-official; make a table of each" in capsys.readouterr().err


def test_the_table_of_a_protocol_over_everything_at_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["score", str(root / "wrong.npz"), *spair(root), "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert summary["request"]["benchmark"] == "spair"
    assert summary["asic_eval"] == importlib.metadata.version("asic-eval")
    # A second category of ten times as many pairs, all right.
    cells = summary["categories"]
    cells["zebra"] = json.loads(json.dumps(cells["creature"]))
    cells["zebra"]["pck"]["0.10"] = {"per_point": 1.0, "per_image": 1.0, "hits": 9}
    summary["overall"]["micro"]["0.10"] = {"per_point": 0.9, "per_image": 0.95, "hits": 9}
    (tmp_path / "all.json").write_text(json.dumps(summary))
    assert main(["table", str(tmp_path / "all.json")]) == 0
    *rows, _, note = capsys.readouterr().out.splitlines()
    assert rows[-2:] == ["| average | 75.0 |", "| all (micro) | 95.0 |"]
    assert note == "Protocol spair-official, alpha 0.10, per_image; percent."
    for name in ("creature", "zebra"):
        (tmp_path / f"{name}.json").write_text(json.dumps(summary | {"categories": {name: cells[name]}}))
    assert main(["table", str(tmp_path / "creature.json"), str(tmp_path / "zebra.json")]) == 0
    assert capsys.readouterr().out.endswith(
        "per_image; percent. The protocol's own mean is over everything at once, 'all (micro)' in a summary of all "
        "categories.\n"
    )


def test_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols", "--csv"]) == 0
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(capsys.readouterr().out))}
    assert rows["protocol"] == ["length", "border", "mean over", "categories", "whose it is"]
    assert rows["spair-official"][:4] == ["box", "<=", "per_image", "micro"]
    assert rows["cub-asic-256"][:4] == ["crop", "<", "per_point", "macro"]
    assert set(rows) == {"protocol", *PROTOCOLS}
    assert main(["protocols", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == asdict(PROTOCOLS["spair-official"]) | {
        "alphas": [*(index / 100 for index in range(1, 11)), 0.15, 0.2],
        "faults": [],
    }
    assert main(["protocols"]) == 0
    assert capsys.readouterr().out.startswith("| protocol | length | border | mean over | categories | whose it is |\n")


def test_output_that_cannot_be_written() -> None:
    command = [sys.executable, "-m", "asic_eval", "published"]
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as out:
            finished = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
        assert (finished.returncode, finished.stderr) == (3, "error: the output: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        finished = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_console_that_lacks_characters_and_one_that_is_closed(tmp_path: Path) -> None:
    benchmark = draw_collection(0, num_images=3, size=48).benchmark
    right = np.where(benchmark.asked[..., None], benchmark.points_image[benchmark.pairs[:, 1]], np.nan)
    write_predictions(
        tmp_path / "p.npz", Predictions("m\u00e9thode \u2192", {"own": CategoryPredictions.of(benchmark, right)})
    )
    (tmp_path / "b.json").write_text(json.dumps(benchmark.to_json()))
    command = [sys.executable, "-m", "asic_eval", "score", "p.npz", "--benchmark", "json", "--annotations", "b.json"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    finished = subprocess.run(command, cwd=tmp_path, env=ascii_only, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith("| category | m\\xe9thode \\u2192 PCK@0.01 per_point |")
    closed = subprocess.run(
        ["sh", "-c", f"{shlex.join(command)} >&-"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (3, "error: the output: closed\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert re.fullmatch(r"asic-eval \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_geometry_aware(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", str(root / "right.npz"), *spair(root)]
    assert main([*command, "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert main([*command, "--geometry-aware", "--json"]) == 0
    subset = json.loads(capsys.readouterr().out)
    assert (every["geometry_aware"], subset["geometry_aware"]) == (False, True)
    assert 0 < subset["categories"]["creature"]["points"] < every["categories"]["creature"]["points"]
    assert subset["categories"]["creature"]["benchmark"] == "spair/creature/test/geometry-aware"
    assert main([*command, "--geometry-aware", "--mirror-aware"]) == 0  # as nothing was mirrored
    capsys.readouterr()
    assert main([*command, "--geometry-aware"]) == 0
    assert "\nGeometry-aware subset: only keypoints of which the target shows" in capsys.readouterr().out


HELP = {
    (): ("Scores of semantic correspondence.", "score", "compare", "published", "table"),
    ("score",): (
        "swap left and right where the file says mirrored",
        "the data set's folder",
        "the annotation file, where the benchmark is one file",
        "may be repeated; default: all",
        "only the first images of each category",
        "of drawn pairs or a drawn collection; default: 0",
        "a list of pairs to ask for",
        "draw so many pairs",
        "only keypoints of which the target shows one that looks alike",
        "default: the benchmark's own",
        "what a NaN answer is",
        "{error,miss}",
        "{spair,cub,",
        "{spair-official,",
    ),
    ("compare",): (
        "how often to draw; default: 2000",
        "the first method's .npz file",
        "the second's, on the same pairs",
    ),
    ("published",): ("ASIC's 18 categories of SPair-71k", "--with SUMMARY"),
    ("table",): ("{per_point,per_image}", "JSON files of `score --json` or of `asic eval`", "default: 0.1"),
}


@pytest.mark.parametrize("command", HELP)
def test_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in HELP[command]:
        assert part in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "p.npz"],
        ["score", "p.npz", "--benchmark", "nothing"],
        ["score", "p.npz", "--benchmark", "spair", "--missing", "x"],
        ["score", "p.npz", "--benchmark", "spair", "--protocol", "x"],
        ["score", "p.npz", "--benchmark", "spair", "--json", "--csv"],
        ["table", "s.json", "--aggregate", "x"],
        ["table"],
        [],
    ],
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m asic_eval" in capsys.readouterr().err


def test_defaults_of_the_command_line() -> None:
    from asic_eval.__main__ import _parser

    score = _parser().parse_args(["score", "p.npz", "--benchmark", "spair"])
    assert (score.seed, score.missing, score.category, score.form, score.limit) == (None, "error", [], "markdown", None)
    assert (score.pairs, score.random_pairs, score.geometry_aware) == (None, None, False)
    compare = _parser().parse_args(["compare", "p.npz", "q.npz", "--benchmark", "spair"])
    assert (compare.resamples, compare.others) == (2000, Path("q.npz"))
    table = _parser().parse_args(["table", "s.json"])
    assert (table.alpha, table.aggregate, table.method, table.metric) == (0.10, None, [], [])


def test_errors_are_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(root / "nowhere.npz"), *spair(root)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err
        == f"error: {root / 'nowhere.npz'}: file: expected a readable file, got No such file or directory\n"
    )
    with pytest.raises(SystemExit) as stopped:
        main(["score"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("name", "request_", "message"),
    [
        ("nothing", Request(), r"^--benchmark: expected one of spair, .*, synthetic, got 'nothing'$"),
        ("spair", Request(), r"^--root: expected the data set's folder, got none$"),
        ("spair", Request(split="training"), r"^--split: expected one of test, val, trn, got 'training'$"),
        ("cub", Request(), r"^--category: expected a species; all of them only with --pairs or --random-pairs$"),
        ("cub", Request(categories=("1",), split="val"), r"^--split: expected one of train, test, got 'val'$"),
        ("coco", Request(categories=("cat",)), r"^--annotations: expected the annotation file, got none$"),
        ("ap10k", Request(), r"^--category: expected at least one category, got none$"),
        ("ap10k-pairs", Request(Path(), ("cat",), "train"), r"^--split: expected one of test, val, trn, test_cross_sp"),
        (
            "pf-pascal",
            Request(limit=3),
            r"^--limit: does not go with --benchmark pf-pascal, which takes --root, --annotations, --category$",
        ),
        (
            "synthetic",
            Request(categories=("cat",)),
            r"^--category: does not go with --benchmark synthetic, which takes ",
        ),
        ("spair", Request(annotations=Path("x")), r"^--annotations: does not go with --benchmark spair"),
        ("tracks", Request(seed=0), r"^--seed: does not go with --benchmark tracks"),
        ("cub", Request(pairs=Path("x"), random_pairs=3), r"^--pairs, --random-pairs: expected one of them, got both$"),
        ("cub", Request(random_pairs=0), r"^--random-pairs: expected at least 1, got 0$"),
        ("cub", Request(limit=0), r"^--limit: expected at least 1, got 0$"),
        ("cub", Request(seed=-1), r"^--seed: expected at least 0, got -1$"),
    ],
)
def test_requests_that_lack_something(name: str, request_: Request, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_benchmarks(name, request_)


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_reader_is_reached(name: str, tmp_path: Path) -> None:
    if name == "synthetic":
        assert read_benchmarks(name, Request(seed=3))["creature"].name == "synthetic/3"
        return
    takes = READERS[name].takes
    request = Request(
        root=tmp_path if "root" in takes else None,
        categories=("1",) if "categories" in takes and name != "pf-pascal" else (),
        annotations=tmp_path / "x" if "annotations" in takes else None,
    )
    with pytest.raises(ValueError, match=r"expected a readable file|expected pair annotations of '1'"):
        read_benchmarks(name, request)


def test_pairs_may_be_chosen(root: Path, tmp_path: Path) -> None:
    request = Request(annotations=root / "benchmark.json")
    assert len(read_benchmarks("json", request)["own"].pairs) == 20
    drawn = read_benchmarks("json", replace(request, random_pairs=7, seed=3))["own"]
    assert len(drawn.pairs) == 7
    assert drawn.pairs.tolist() == random_pairs(5, 7, 3).tolist()
    assert len(read_benchmarks("json", replace(request, random_pairs=1, seed=0))["own"].pairs) == 1
    unseeded = read_benchmarks("json", replace(request, random_pairs=7))["own"]
    assert unseeded.pairs.tolist() == random_pairs(5, 7, 0).tolist()
    (tmp_path / "pairs.txt").write_text("creature/003.png creature/001.png\n")
    listed = read_benchmarks("json", replace(request, pairs=tmp_path / "pairs.txt"))["own"]
    assert listed.pairs.tolist() == [[3, 1]]
    few = read_benchmarks("json", replace(request, limit=2))["own"]
    assert (len(few.images), few.pairs.tolist()) == (2, [[0, 1], [1, 0]])
    assert len(read_benchmarks("json", replace(request, limit=9))["own"].images) == 5
    limited = read_benchmarks("spair", Request(root=root, categories=("creature",), limit=3))["creature"]
    assert len(limited.images) == 3


def test_pairs_chosen_on_the_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = KeypointBenchmark.from_json(json.loads((root / "benchmark.json").read_text()), file="b")
    own = replace(benchmark, pair_visible=benchmark.asked & (np.arange(20) != 1)[:, None])
    (tmp_path / "b.json").write_text(json.dumps(own.to_json()))
    answers = CategoryPredictions.of(benchmark, benchmark.points_image[benchmark.pairs[:, 1]])
    write_predictions(tmp_path / "p.npz", Predictions("m", {"own": answers}))
    command = [
        "score",
        str(tmp_path / "p.npz"),
        "--benchmark",
        "json",
        "--annotations",
        str(tmp_path / "b.json"),
        "--json",
    ]

    def points(*flags: str) -> tuple[int, int]:
        assert main([*command, "--missing", "miss", *flags]) == 0
        found = json.loads(capsys.readouterr().out)["categories"]["own"]
        return found["pairs"], found["points"]

    every = benchmark.asked.sum(axis=1)
    assert points() == (20, every.sum() - every[1])
    (tmp_path / "list.txt").write_text("creature/000.png creature/002.png\n")
    assert points("--pairs", str(tmp_path / "list.txt")) == (1, every[1])  # all that both photos show
    drawn = random_pairs(5, 7, 3).tolist()
    asked = sum(int((benchmark.visible[source] & benchmark.visible[target]).sum()) for source, target in drawn)
    assert points("--random-pairs", "7", "--seed", "3") == (7, asked)


def test_pairs_of_all_species(tmp_path: Path) -> None:
    put_cub(tmp_path)
    drawn = read_benchmarks("cub", Request(root=tmp_path, random_pairs=5))["cub"]
    assert (len(drawn.images), len(drawn.pairs)) == (3, 5)
    (tmp_path / "list.txt").write_text("3 1\n2 001.A/a.jpg\n")
    listed = read_benchmarks("cub", Request(root=tmp_path, pairs=tmp_path / "list.txt"))["cub"]
    assert listed.pairs.tolist() == [[2, 0], [1, 0]]
    one = Request(root=tmp_path, categories=("001.A",), pairs=tmp_path / "list.txt")
    with pytest.raises(
        ValueError, match=r"list\.txt: line 1, column 'source': expected one of the benchmark's 4 images"
    ):
        read_benchmarks("cub", one)
    assert len(read_benchmarks("cub", replace(one, pairs=None))["001.A"].pairs) == 2
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 0\n3 0\n")
    for split, names in (("train", ["001.A/a.jpg"]), ("test", ["001.A/b.jpg"])):
        own = read_benchmarks("cub", Request(root=tmp_path, categories=("1",), split=split))["1"]
        assert [image.name for image in own.images] == names
    first = read_benchmarks("cub", Request(root=tmp_path, categories=("1",), limit=1))["1"]
    assert [image.name for image in first.images] == ["001.A/a.jpg"]


def put_cub(root: Path) -> None:
    texts = {
        "classes.txt": "1 001.A\n2 002.B\n",
        "images.txt": "1 001.A/a.jpg\n2 001.A/b.jpg\n3 002.B/c.jpg\n",
        "image_class_labels.txt": "1 1\n2 1\n3 2\n",
        "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 1 2 3 4\n3 5.5 6.5 7.5 8.5\n",
        "parts/parts.txt": "1 back\n2 left eye\n3 right eye\n",
        "parts/part_locs.txt": "".join(f"{i} {p} {i}.5 {p}.0 1\n" for i in (1, 2, 3) for p in (1, 2, 3)),
    }
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x40\x00\x00\x00\x40"
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    for name in ("001.A/a.jpg", "001.A/b.jpg", "002.B/c.jpg"):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / name).write_bytes(png)


@pytest.mark.real_data
def test_real_benchmarks_by_name(real_data: Path) -> None:
    cub = read_benchmarks("cub", Request(root=real_data / "CUB_200_2011", categories=("2",), limit=4))
    assert cub["2"].name == "cub/002.Laysan_Albatross"
    assert len(cub["2"].images) == 4
    dogs = read_benchmarks("stanford-dogs", Request(root=real_data / "stanford_dogs"))
    assert len(dogs["dog"].images) == 25
    breed = "n02099601-golden_retriever"
    one = read_benchmarks("stanford-dogs", Request(root=real_data / "stanford_dogs", categories=(breed,)))
    assert len(one[breed].images) == 7


def test_as_a_module(root: Path) -> None:
    command = [sys.executable, "-m", "asic_eval", "score", str(root / "right.npz"), *spair(root), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout)["headline"]["value"] == 1.0
