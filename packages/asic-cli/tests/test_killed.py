"""Commands that are killed, interrupted or run out of disk: nothing half-written is ever taken for finished."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

SMALL = ("--size", "96", "--stride", "8")


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        # Logs tell the seconds.
        if path.is_file() and path.name not in (".asic.lock", "log.jsonl", "unfinished-log.jsonl")
    }


@pytest.fixture(scope="module")
def clean(commands, photos, tmp_path_factory):
    """The folders that commands write when left in peace, and the seconds they take. Not to be changed."""
    folder = tmp_path_factory.mktemp("clean")
    made = {}
    for name, arguments in _commands(photos, folder / "x", folder / "y").items():
        started = time.monotonic()
        assert commands.run(*arguments).code == 0
        made[name] = (folder / ("x" if name == "features" else "y"), time.monotonic() - started)
    return made


def _commands(photos: Path, collection: Path, run: Path) -> dict[str, tuple[object, ...]]:
    return {
        "features": ("features", photos, "--out", collection, *SMALL),
        "train": ("train", collection, "--out", run),
    }


@pytest.mark.parametrize("name", ["features", "train"])
def test_killed_and_given_again_it_ends_as_if_left_in_peace(commands, photos, clean, tmp_path, name) -> None:
    generator = random.Random(0)
    made, seconds = clean[name]
    wanted = tree(made)
    for round_index in range(6):
        run, collection = tmp_path / f"{round_index}" / "y", tmp_path / f"{round_index}" / "x"
        arguments = _commands(photos, collection, run)
        if name == "train":
            shutil.copytree(clean["features"][0], collection)
        child = commands.start(*arguments[name])
        time.sleep(generator.uniform(0.02, 1.0) * seconds)
        child.kill(signal.SIGKILL)
        child.wait()
        again = commands.run(*arguments[name])
        assert again.code == 0, again.err
        assert tree(collection if name == "features" else run) == wanted


def test_killed_while_starting_over_leaves_the_old_or_nothing(commands, photos, clean, tmp_path) -> None:
    generator = random.Random(1)
    made, seconds = clean["features"]
    wanted = tree(made)
    for round_index in range(4):
        out = tmp_path / str(round_index)
        command = ("features", photos, "--out", out, *SMALL)
        assert commands.run(*command, "--masks", "none").code == 0
        old = tree(out)
        child = commands.start(*command, "--fresh")
        time.sleep(generator.uniform(0.3, 1.0) * seconds)
        child.kill(signal.SIGKILL)
        child.wait()
        again = commands.run(*command)
        found = tree(out)
        assert (again.code, found) == (0, wanted) or (again.code == 2 and _without_leftovers(found) == old), again.err


def _without_leftovers(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if ".asic-tmp-" not in name}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_its_code_and_the_command_that_goes_on(commands, photos, tmp_path, signum, code) -> None:
    out = tmp_path / "a b"
    child = commands.start("features", photos, "--out", out, *SMALL)
    while not (out / ".asic.lock").exists():
        time.sleep(0.005)
    time.sleep(0.05)
    child.kill(signum)
    outcome = child.wait()
    assert outcome.code == code, outcome.err
    assert f"asic features {photos} --out '{out}' --size 96 --stride 8" in outcome.err
    assert "Traceback" not in outcome.err
    assert commands.run("features", photos, "--out", out, *SMALL).code == 0


def test_a_full_disk_is_told_and_loses_nothing(commands, photos, collection, clean, tmp_path) -> None:
    before = tree(photos), tree(collection)
    out, run = tmp_path / "x", tmp_path / "y"
    full = commands.run("features", photos, "--out", out, *SMALL, largest_file=20_000)
    assert (full.code, "disk is full" in full.err, str(out) in full.err) == (3, True, True), full.err
    assert not (out / "collection.json").exists()
    assert not list(out.rglob(".asic-tmp-*"))
    assert commands.run("features", photos, "--out", out, *SMALL).code == 0
    assert tree(out) == tree(clean["features"][0])
    full = commands.run("train", out, "--out", run, largest_file=20_000)
    assert (full.code, "disk is full" in full.err) == (3, True), full.err
    assert not (run / "config.json").exists()
    assert commands.run("train", out, "--out", run).code == 0
    done = tree(out), tree(run)
    for command in (("features", photos, "--out", out, *SMALL, "--fresh"), ("train", out, "--out", run, "--fresh")):
        assert commands.run(*command, largest_file=20_000).code == 3
    assert (tree(out), tree(run)) == done
    assert (tree(photos), tree(collection)) == before


def test_a_full_disk_at_the_last_flush(asic, photos, tmp_path, monkeypatch) -> None:
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    result = asic("features", photos, "--out", "x", *SMALL)
    assert (result.code, "x: the disk is full" in result.err) == (3, True), result.err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert not asic("features", photos, "--out", "x", *SMALL, "--json").json["reused"]


def test_a_disk_that_fills_up_last_leaves_an_added_run_and_its_collection(
    asic, clean, draw, tmp_path, monkeypatch
) -> None:
    more = draw(tmp_path / "more", [f"{index}.png" for index in range(7)])
    flush, flushed = os.fsync, []

    def count(descriptor: int) -> None:
        flushed.append(1)
        if len(flushed) == most:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    most = 0
    monkeypatch.setattr(os, "fsync", count)
    assert asic("add", clean["train"][0], more / "5.png", "--out", "x").code == 0
    before = tree(tmp_path / "x"), tree(tmp_path / "x-collection")
    most = len(flushed)
    flushed.clear()
    full = asic("add", clean["train"][0], more / "6.png", "--out", "x", "--fresh")
    assert (full.code, "disk is full" in full.err) == (3, True), full.err
    assert (tree(tmp_path / "x"), tree(tmp_path / "x-collection")) == before


def test_two_at_once(commands, photos, tmp_path) -> None:
    first = commands.start("features", photos, "--out", tmp_path / "x", *SMALL)
    while not (tmp_path / "x" / ".asic.lock").exists():
        time.sleep(0.005)
    second = commands.run("features", photos, "--out", tmp_path / "x", *SMALL)
    # It is refused, or it comes late enough to find all done.
    assert second.code in (0, 3), second.err
    assert "another asic process" in second.err or "already done" in second.err
    assert first.wait().code == 0


def test_killed_while_describing_it_goes_on_with_the_photos_left(commands, photos, network, tmp_path) -> None:
    command = ("features", photos, *network, *SMALL, "--masks", "none", "--out")
    assert commands.run(*command, tmp_path / "clean").code == 0
    out = tmp_path / "x"
    child = commands.start(*command, out)
    while len(list(out.glob("described/*.safetensors"))) < 2:
        time.sleep(0.002)
    child.kill(signal.SIGKILL)
    child.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("described/*.safetensors")}
    assert not (out / "collection.json").exists()
    # The first two are used as they are: a shard of all photos writes the others alone.
    assert commands.run(*command, out, "--shard", "1/1").code == 0
    found = {path: path.stat().st_mtime_ns for path in out.glob("described/*.safetensors")}
    assert len(found) == 5
    assert kept.items() <= found.items()
    assert commands.run(*command, out).code == 0
    assert tree(out) == tree(tmp_path / "clean")


def test_shards_at_once_end_as_one_command(commands, photos, network, tmp_path) -> None:
    command = ("features", photos, *network, *SMALL, "--masks", "none", "--out")
    assert commands.run(*command, tmp_path / "clean").code == 0
    out = tmp_path / "x"
    children = [commands.start(*command, out, "--shard", share) for share in ("1/2", "2/2", "2/2")]
    assert [child.wait().code for child in children] == [0] * 3
    # All photos; and, where one command came after its like had ended, some pairs.
    assert len(list((out / "described").iterdir())) >= 5
    # Given again they match pairs: one file for each photo that has others after it.
    children = [commands.start(*command, out, "--shard", share) for share in ("1/2", "2/2", "1/2")]
    assert [child.wait().code for child in children] == [0] * 3
    assert len(list((out / "described").iterdir())) == 5 + 4
    assert commands.run(*command, out).code == 0
    assert tree(out) == tree(tmp_path / "clean")
