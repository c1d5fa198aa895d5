from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from asic_flow.alignment import Alignment


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("source,x,y,target\n0.png,60,61.5,3.png\n4.png,10,20,1.png\n")
    return path


def test_points_go_where_the_library_takes_them(asic, run, points) -> None:
    result = asic("transfer", run, "--points", points)
    assert result.code == 0, result.err
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [(row["source"], row["target"]) for row in rows] == [("0.png", "3.png"), ("4.png", "1.png")]
    found = Alignment.load(run).transfer([[60, 61.5], [10, 20]], [0, 4], [3, 1])
    answer = [[float(row["target_x"]), float(row["target_y"])] for row in rows]
    np.testing.assert_allclose(answer, found.points_image, atol=1e-3)
    for field in ("confidence", "probability"):
        np.testing.assert_allclose([float(row[field]) for row in rows], getattr(found, field), atol=1e-4)


def test_a_quoted_header_names_the_same_columns(asic, run, points) -> None:
    points.write_text('"source","x","y","target"\n"0.png",60,61.5,"3.png"\n')
    rows = asic("transfer", run, "--points", points, "--json").json["points"]
    assert [(row["source"], row["target"]) for row in rows] == [("0.png", "3.png")]


def test_json_and_a_file_say_the_same(asic, run, points, tmp_path) -> None:
    document = asic("transfer", run, "--points", points, "--json", "--out", "below/answer.csv").json
    rows = list(csv.DictReader((tmp_path / "below" / "answer.csv").read_text().splitlines()))
    assert [float(row["target_x"]) for row in rows] == [point["target_x"] for point in document["points"]]
    assert json.dumps(document)


def test_without_a_target_all_other_photos_are_meant(asic, run, points) -> None:
    points.write_text("name,x,y,source\nbeak,60,60,2.png\n")
    rows = asic("transfer", run, "--points", points, "--json").json["points"]
    assert [row["target"] for row in rows] == ["0.png", "1.png", "3.png", "4.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,x\n", "line 1: expected the columns source, x, y"),
        ("source,x,y\n7.png,1,2\n", "line 2, column 'source': expected one of the run's 5 photos"),
        ("source,x,y\n0.png,one,2\n", "line 2, column 'x': expected a finite number"),
        ("source,x,y\n0.png,nan,2\n", "line 2, column 'x': expected a finite number"),
        ("source,x,y\n0.png,1,120\n", "line 2, column 'y': expected a pixel of the photo, -0.5 to 119.5"),
        ("source,x,y,target\n0.png,1,2,../0.png\n", "line 2, column 'target'"),
    ],
)
def test_faults_of_the_file_are_named(asic, run, points, text, message) -> None:
    points.write_text(text)
    result = asic("transfer", run, "--points", points)
    assert (result.code, message in result.err) == (2, True), result.err


def test_missing_files_are_named(asic, run, points) -> None:
    assert "nowhere.csv: file: expected a readable file" in asic("transfer", run, "--points", "nowhere.csv").err
    result = asic("transfer", "nowhere", "--points", points)
    assert (result.code, "nowhere: no config.json" in result.err) == (2, True)
