from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asic_eval import CategoryPredictions, Predictions, write_predictions
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
    assert capsys.readouterr().err.endswith("categories: expected 'own', got ['creature']\n")


def test_mirror_aware(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(root / "right.npz"), *spair(root), "--mirror-aware"]) == 2
    assert "expected a benchmark with a mirror permutation" in capsys.readouterr().err
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
    assert main(["compare", *files, *spair(root), "--resamples", "0"]) == 2
    assert capsys.readouterr().err == "error: --resamples: expected at least 1, got 0\n"


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
    assert rows[-1]["setting"] == "this run's protocol: see its summary"
    assert rows[-1]["source"] == f"{root / 'summary.json'}, seed 1"


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
    assert json.loads(capsys.readouterr().out)[0]["scores"][1]["mean"] == 50.0
    assert main(["table", files[0], files[0]]) == 2
    assert capsys.readouterr().err == "error: summaries: expected one score of 'right', 'creature', seed 1, got two\n"


HELP = {
    (): ("Scores of semantic correspondence.", "score", "compare", "published", "table"),
    ("score",): (
        "swap left and right where the file says mirrored",
        "the data set's folder",
        "the annotation file, where the benchmark is one file",
        "may be repeated; default: all",
        "only the first images of each category",
        "of a drawn collection",
        "default: the benchmark's own",
        "what a NaN answer is",
        "{error,miss}",
        "{spair,cub,",
        "{spair-official,",
    ),
    ("published",): ("ASIC's 18 categories of SPair-71k", "--with SUMMARY"),
    ("table",): ("{per_point,per_image}",),
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
    assert (score.seed, score.missing, score.category, score.form, score.limit) == (0, "error", [], "markdown", None)
    compare = _parser().parse_args(["compare", "p.npz", "q.npz", "--benchmark", "spair"])
    assert (compare.resamples, compare.others) == (2000, Path("q.npz"))
    table = _parser().parse_args(["table", "s.json"])
    assert (table.alpha, table.aggregate) == (0.10, "per_point")


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
        ("spair", Request(split="training"), r"^--split: expected trn, val or test, got 'training'$"),
        ("cub", Request(), r"^--category: expected at least one category, got none$"),
        ("coco", Request(categories=("cat",)), r"^--annotations: expected the annotation file, got none$"),
        ("ap10k", Request(), r"^--category: expected at least one category, got none$"),
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
    request = Request(root=tmp_path, categories=("1",), annotations=tmp_path / "x")
    if name.startswith("pf-pascal"):
        request = replace(request, categories=())
    with pytest.raises(ValueError, match=r"expected a readable file|expected pair annotations of '1'"):
        read_benchmarks(name, request)


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
