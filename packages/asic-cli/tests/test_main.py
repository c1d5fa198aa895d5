from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asic_cli.errors import InputError, MachineError, Stopped, explain
from asic_eval import AnnotationError
from asic_features.extract import PhotosError
from asic_features.weights import WeightsError
from asic_flow.collection import CollectionError
from asic_flow.train import AlignmentError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (AnnotationError("x", "x", "x"), 2),
        (PhotosError("x"), 2),
        (CollectionError("x"), 2),
        (AlignmentError("x"), 2),
        (MachineError("x"), 3),
        (WeightsError("x"), 3),
        (MemoryError(), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 3),
        (ValueError("x"), 1),
        (type("CollectionError", (ValueError,), {})("somebody else's"), 1),
        (Stopped(signal.SIGINT), 130),
        (Stopped(signal.SIGTERM), 143),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert explain(error)[0] == code


def test_a_full_disk_is_called_one() -> None:
    assert "disk is full" in explain(OSError(errno.ENOSPC, "No space left on device", "out/x"))[1]


def test_a_bug_shows_its_traceback_only_on_request(asic, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("oh \x1b[31mdear")

    monkeypatch.setattr("asic_cli.doctor.list_weights", fail)
    result = asic("doctor")
    assert (result.code, "Traceback" in result.err) == (1, False)
    assert "bug: RuntimeError: oh \\x1b[31mdear" in result.err
    monkeypatch.setenv("ASIC_DEBUG", "1")
    assert "Traceback" in asic("doctor").err


def test_a_reader_that_leaves_is_no_error() -> None:
    for command in ("weights list", "weights list --json"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m asic_cli {command} | true"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_handlers_of_signals_are_put_back(asic) -> None:
    before = signal.getsignal(signal.SIGTERM)
    asic("--version")
    assert signal.getsignal(signal.SIGTERM) is before


def test_doctor(asic) -> None:
    found = asic("doctor", "--json").json
    assert set(found) == {"versions", "devices", "threads", "caches", "weights"}
    assert found["versions"]["torch"]
    assert found["devices"]["cpu"]
    text = asic("doctor").out
    assert "gradients: needs none" in text


def test_weights(asic, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    listed = asic("weights", "list", "--json").json
    rows = {row["backbone"]: row for row in listed if "backbone" in row}
    assert {row["masks"] for row in listed if "backbone" not in row} == {"birefnet", "isnet"}
    assert rows["dino_vits8"]["path"] is None
    assert rows["dino_vits8"]["licence"] == "apache-2.0"
    assert "not here" in asic("weights", "list").out
    missing = asic("weights", "verify", "dino_vits8")
    assert (missing.code, "asic weights fetch dino_vits8" in missing.err) == (3, True)
    assert asic("weights", "verify", "dino vits9").code == 2
    assert asic("weights", "fetch", "gradients").code == 3


def test_no_colour_for_a_pipe(asic) -> None:
    result = asic("weights", "list")
    assert "\x1b" not in result.out + result.err


def test_names_cannot_move_the_cursor() -> None:
    from asic_cli.console import printable

    assert printable("a\x1b[2Jb\r\n\udcff🐦") == "a\\x1b[2Jb\\r\\n\\udcff🐦"


def test_progress_speaks_up_where_there_is_no_terminal(capsys) -> None:
    import time

    from asic_cli.console import Stages

    with Stages(heartbeat_seconds=0.02) as stages:
        stages("descriptors", 3, 20)
        time.sleep(0.2)
    assert "descriptors 3/20 (" in capsys.readouterr().err


def test_progress_draws_bars_on_a_terminal(monkeypatch) -> None:
    from asic_cli import console

    terminal = io.StringIO()
    monkeypatch.setattr(
        console, "_stderr", lambda: console._Console(file=terminal, force_terminal=True, markup=False, width=80)
    )
    with console.Stages() as stages:
        stages("descriptors", 20, 20)
    assert "descriptors" in terminal.getvalue()
    assert "20/20" in terminal.getvalue()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_is_no_error(closed) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m asic_cli weights list --json {closed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stream_of_few_letters_shows_the_others_by_their_numbers() -> None:
    script = (
        "from asic_cli.console import open_streams, say, show, write_data\n"
        "from rich.table import Table\n"
        "open_streams(); say('h\u00f6rt'); write_data('v\u00f6gel'); show(Table('v\u00f6gel'))\n"
    )
    outside = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=outside)
    assert (done.returncode, done.stderr) == (0, "h\\xf6rt\n")
    assert done.stdout.count("v\\xf6gel") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_what_cannot_be_said_stops_no_work(collection, tmp_path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "asic_cli", "train", str(collection), "--out", str(tmp_path / "x")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'x'}\n")


def test_stderr_that_is_gone_stops_nothing() -> None:
    script = (
        "import os, sys\n"
        "from asic_cli.console import say, write_data\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 2)\n"
        "say('nobody hears'); say('nobody hears'); write_data('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.parametrize("command", [("view",), ("transfer", "--points", "points.csv"), ("animate",)])
def test_a_file_that_cannot_be_written_is_named_before_any_work(asic, tmp_path, command) -> None:
    name, *flags = command
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for out, message in (
        ("folder", "--out folder: expected a file to write, got a folder"),
        ("file/page.html", "file is no folder"),
    ):
        result = asic(name, "no-run", *flags, "--out", out)
        assert (result.code, message in result.err) == (2, True), result.err


def test_a_folder_without_leave_to_write_is_the_machines_matter(asic, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("asic_cli.options.os.access", lambda *_: False)
    result = asic("view", "no-run", "--out", tmp_path / "page.html")
    assert (result.code, "cannot be written to" in result.err) == (3, True), result.err
