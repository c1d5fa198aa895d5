from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asic_flow.run_log import LOG_FILE, RunLog


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_every_record_is_a_line_with_its_seconds(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write({"step": 1, "loss": 0.5})
    assert lines(tmp_path)[0]["loss"] == 0.5
    log.write({"step": 2})
    first, second = lines(tmp_path)
    assert 0 <= first["seconds"] <= second["seconds"]


def test_going_on_drops_what_will_be_told_again_and_what_was_cut_off(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.write({"step": step})
    with (tmp_path / LOG_FILE).open("a") as stream:
        stream.write('{"step": 4, "lo')
    RunLog(tmp_path, after_step=2).write({"step": 3})
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3]
    RunLog(tmp_path).write({"step": 1})
    assert [record["step"] for record in lines(tmp_path)] == [1]


def test_going_on_without_a_log_starts_one(tmp_path: Path) -> None:
    RunLog(tmp_path, after_step=5).write({"step": 6})
    assert [record["step"] for record in lines(tmp_path)] == [6]


def test_a_record_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunLog(tmp_path).write({"loss": float("nan")})
