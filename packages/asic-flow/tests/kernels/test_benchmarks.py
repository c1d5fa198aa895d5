"""The result files under `benchmarks/results` say what they must, and the table is made from them alone."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the package is tested outside its repository", allow_module_level=True)
FILES = sorted((BENCHMARKS / "results").glob("*/*.json"))
OPERATIONS = {
    "batch_norm_relu",
    "contrast_points",
    "match_cosine",
    "nearest_canonical",
    "splat_points",
    "thin_conv",
    "training",
    "upconv_concat",
    "warp_bilinear",
}
# Every field and its type; a list's type is that of its items.
RESULT = {
    "operation": str,
    "version": str,
    "device": str,
    "threads": int,
    "commit": str,
    "libraries": dict,
    "cases": list,
    "schema": int,
}
CASE = {"name": str, "work": float, "unit": str, "floor": str, "target": (float, type(None)), "measurements": list}
MEASUREMENT = {
    "provider": str,
    "ours": bool,
    "median_s": float,
    "p20_s": float,
    "p80_s": float,
    "peak_extra_mb": float,
    "rate": float,
    "ratio_to_floor": float,
    "quality": str,
    "graph_s": (float, type(None)),
}


def check_fields(where: str, found: dict, fields: dict) -> None:
    if found.keys() != fields.keys():
        raise ValueError(f"{where}: expected the fields {sorted(fields)}, got {sorted(found)}")
    for name, kind in fields.items():
        if not isinstance(found[name], kind):
            raise TypeError(f"{where}: {name} must be {kind}, got {found[name]!r}")


def check_result(where: str, result: dict) -> None:
    """Raise where a result lacks a field, contradicts itself or was not measured."""
    check_fields(where, result, RESULT)
    if result["schema"] != 2 or result["operation"] not in OPERATIONS or not result["cases"]:
        raise ValueError(f"{where}: expected schema 2, a known operation and cases")
    if not re.fullmatch(r"[0-9a-f]{40}(\+changes)?", result["commit"]) or "torch" not in result["libraries"]:
        raise ValueError(f"{where}: expected a commit and torch's version")
    for case in result["cases"]:
        check_fields(f"{where}: case", case, CASE)
        medians = {}
        for measured in case["measurements"]:
            check_fields(f"{where}: {case['name']}", measured, MEASUREMENT)
            if not 0 < measured["p20_s"] <= measured["median_s"] <= measured["p80_s"]:
                raise ValueError(f"{where}: {measured['provider']}: percentiles out of order")
            medians[measured["provider"]] = measured["median_s"]
        if case["floor"] not in medians or not any(measured["ours"] for measured in case["measurements"]):
            raise ValueError(f"{where}: {case['name']}: expected the floor and one of ours among the providers")
        for measured in case["measurements"]:
            if measured["ratio_to_floor"] != pytest.approx(measured["median_s"] / medians[case["floor"]]):
                raise ValueError(f"{where}: {measured['provider']}: the ratio is not that of the medians")
            if measured["rate"] != pytest.approx(case["work"] / measured["median_s"]):
                raise ValueError(f"{where}: {measured['provider']}: the rate is not the work over the median")


def check_file(file: Path) -> dict:
    result = json.loads(file.read_text())
    check_result(file.name, result)
    slug = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
    if (file.parent.name, file.stem) != (result["version"], f"{result['operation']}--{slug}"):
        raise ValueError(f"{file}: name and content differ")
    return result


def compare_module():
    spec = importlib.util.spec_from_file_location("compare", BENCHMARKS / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The evaluation's results have a schema of their own.
@pytest.mark.parametrize("file", [f for f in FILES if f.stem.split("--")[0] in OPERATIONS], ids=lambda file: file.stem)
def test_a_result_file_is_whole(file):
    check_file(file)


def example() -> dict:
    measured = {
        "provider": "floor: peer",
        "ours": False,
        "median_s": 2.0,
        "p20_s": 1.5,
        "p80_s": 3.0,
        "peak_extra_mb": 1.0,
        "rate": 5.0,
        "ratio_to_floor": 1.0,
        "quality": "",
        "graph_s": None,
    }
    ours = {**measured, "provider": "ours", "ours": True, "median_s": 1.0, "p20_s": 1.0, "rate": 10.0}
    ours = {**ours, "p80_s": 1.0, "ratio_to_floor": 0.5}
    case = {
        "name": "one",
        "work": 10.0,
        "unit": "FLOP/s",
        "floor": "floor: peer",
        "target": None,
        "measurements": [measured, ours],
    }
    return {
        "operation": "splat_points",
        "version": "0.0.1",
        "device": "Some CPU",
        "threads": 2,
        "commit": "0" * 40,
        "libraries": {"torch": "2"},
        "cases": [case],
        "schema": 2,
    }


def broken(path: tuple, value: object) -> dict:
    result = copy.deepcopy(example())
    place = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return result


MEASURED = ("cases", 0, "measurements", 1)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("extra",), 1, "expected the fields"),
        (("threads",), "2", "threads must be"),
        (("schema",), 1, "expected schema 2"),
        (("operation",), "sort", "a known operation"),
        (("commit",), "main", "expected a commit"),
        (("cases", 0, "floor"), "nobody", "expected the floor"),
        ((*MEASURED, "ours"), False, "one of ours"),
        ((*MEASURED, "p20_s"), 1.5, "percentiles out of order"),
        ((*MEASURED, "ratio_to_floor"), 0.4, "the ratio is not"),
        ((*MEASURED, "rate"), 11.0, "the rate is not"),
        ((*MEASURED, "quality"), None, "quality must be"),
    ],
)
def test_a_result_that_is_not_whole_is_seen(path, value, match):
    check_result("example", example())
    with pytest.raises((TypeError, ValueError), match=match):
        check_result("example", broken(path, value))


def test_tables_hold_every_measurement_and_no_gpu_is_made_up(tmp_path):
    compare = compare_module()
    for version, median in (("0.0.9", 1.0), ("0.0.10", 0.5)):
        result = example()
        result["cases"][0]["measurements"][1]["median_s"] = median
        folder = tmp_path / version
        folder.mkdir()
        (folder / "splat_points--some-cpu.json").write_text(json.dumps(result))
    assert compare.newest(tmp_path) == "0.0.10"
    assert compare.newest(tmp_path / "absent") == "none"
    assert compare.table("none", tmp_path).count("not measured") == 18
    table = compare.table("0.0.10", tmp_path)
    row = "| `splat_points` | one (Some CPU, 2 threads) | **ours** | 500 ms (1.00 s to 1.00 s) |  | 0.5 | 0.25 | 1 MB |"
    assert row in table
    assert table.count("not measured") == 17
    on_gpu = {**example(), "device": "NVIDIA H200"}
    on_gpu["cases"][0]["measurements"][1]["graph_s"] = 0.25
    (tmp_path / "0.0.10" / "splat_points--nvidia-h200.json").write_text(json.dumps(on_gpu))
    both = compare.table("0.0.10", tmp_path)
    assert "| `splat_points` | one (NVIDIA H200) | **ours** | 1.00 s (1.00 s to 1.00 s) | 250 ms |" in both
    assert both.count("not measured") == 16
    changed = compare.change("0.0.9", "0.0.10", tmp_path)
    assert "| `splat_points` | one (Some CPU) | ours | 1.00 s | 500 ms | 0.50 |" in changed
    assert "peer" not in changed


def test_the_table_in_the_readme_is_the_newest_results():
    compare = compare_module()
    readme = (BENCHMARKS / "README.md").read_text()
    written = re.search(r"<!-- table -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert written is not None
    assert written.group(1) == compare.table(compare.newest())
