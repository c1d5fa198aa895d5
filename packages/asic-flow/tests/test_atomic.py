from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from asic_flow import atomic


def test_content_digest_and_mode_are_as_promised(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    previous = os.umask(0o027)
    try:
        digest = atomic.write_bytes(path, b"new")
    finally:
        os.umask(previous)
    assert path.read_bytes() == b"new"
    assert digest == hashlib.sha256(b"new").hexdigest()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_the_umask_is_never_another_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise AssertionError("a umask is every thread's")

    monkeypatch.setattr(os, "umask", refuse)
    atomic.write_bytes(tmp_path / "a.bin", b"new")


def test_a_failure_before_the_rename_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_files_that_belong_together_come_together(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(b"1")
    with atomic.Staging() as staging:
        assert staging.add(tmp_path / "a" / "x.bin", b"x") == hashlib.sha256(b"x").hexdigest()
        assert staging.seal(tmp_path / "index", b"i", [tmp_path / "old.bin"]) == hashlib.sha256(b"i").hexdigest()
        assert (tmp_path / "old.bin").exists()
        staging.commit()
    assert {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    } == {
        "a/x.bin": b"x",
        "index": b"i",
    }


def test_files_that_were_staged_and_not_committed_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    with atomic.Staging() as staging:
        staging.add(tmp_path / "a.bin", b"new")
        staging.add(tmp_path / "b.bin", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.bin": b"old"}


def test_several_sets_take_their_places_after_the_last_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with atomic.Staging() as staging:
            for folder in ("a", "b"):
                staging.add(tmp_path / folder / "x.bin", b"x")
                assert staging.staged(tmp_path / folder / "x.bin").read_bytes() == b"x"
                staging.seal(tmp_path / folder / "index", b"i")
            staging.commit()

    calls = []

    def fill(_: int) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fill)
        with pytest.raises(OSError, match="No space left"):
            write()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    write()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "a/index",
        "a/x.bin",
        "b/index",
        "b/x.bin",
    ]


def _write_new(folder: Path, stale: Sequence[Path] = ()) -> None:
    with atomic.Staging() as staging:
        for name in ("a.bin", "b.bin"):
            staging.add(folder / name, b"new")
        staging.seal(folder / "index", b"new", stale)
        staging.commit()


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_disk_that_fills_up_leaves_all_of_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    names = ("a.bin", "b.bin", "index")
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    calls = []

    def fill(_: int) -> None:
        calls.append(1)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(OSError, match="No space left"):
        _write_new(tmp_path, [tmp_path / "a.bin"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, b"old")


def test_a_file_that_cannot_take_its_place_leaves_no_index(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"old")
    (tmp_path / "b.bin").mkdir()
    with pytest.raises(OSError, match=r"b\.bin"):
        _write_new(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.bin"]


def test_sweep_removes_what_a_killed_writer_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{atomic.TEMPORARY_PREFIX}x").write_bytes(b"half")
    (tmp_path / "kept").write_bytes(b"whole")
    atomic.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_errors_name_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as told:
        atomic.write_bytes(tmp_path / "folder", b"x")
    assert told.value.filename == str(tmp_path / "folder")
    with pytest.raises(FileNotFoundError) as told:
        atomic.write_bytes(tmp_path / "nowhere" / "file", b"x")
    assert told.value.filename == str(tmp_path / "nowhere" / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]
