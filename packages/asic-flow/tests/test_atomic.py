from __future__ import annotations

import hashlib
import os
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


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failure_before_the_rename_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_sweep_removes_what_a_killed_writer_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{atomic.TEMPORARY_PREFIX}x").write_bytes(b"half")
    (tmp_path / "kept").write_bytes(b"whole")
    atomic.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
