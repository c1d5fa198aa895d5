"""Folders that commands write: one writer at a time, nobody else's files, nothing redone and nothing mixed up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from asic_cli.errors import InputError, MachineError, explain_os_error

Kind = Literal["collection", "run", "demo", "edit", "frames"]
INDEX_FILES: Mapping[Kind, str] = {
    "collection": "collection.json",
    "run": "config.json",
    "demo": "demo.json",
    "edit": "edit.json",
    "frames": "frames.json",
}
LOCK_FILE = ".asic.lock"
DEFAULT_PARENT = Path("asic-out")
_MOST_DIFFERENCES = 12
_ABSENT = object()


def default_folder(title: str) -> Path:
    """Where a command writes when no `--out` is given."""
    return DEFAULT_PARENT / (re.sub(r"[^\w.-]+", "_", title).strip("._") or "photos")


def check_ownership(folder: Path, kind: Kind) -> None:
    """Makes sure that nobody's files are written over.

    Raises:
        InputError: The folder is a file, holds something else of ours, or holds files that are not ours.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder to write to; choose another --out")
    names = {path.name for path in folder.iterdir()}
    for other, index in INDEX_FILES.items():
        if other != kind and index in names:
            raise InputError(f"{folder} holds a {other} ({index}), not a {kind}; choose another --out")
    if names and not names & {LOCK_FILE, INDEX_FILES[kind]}:
        raise InputError(f"{folder} is not empty and holds no {INDEX_FILES[kind]}; choose another --out")


@contextmanager
def writing(folder: Path, kind: Kind) -> Iterator[None]:
    """Holds a folder for writing: makes it, locks it, and sweeps out what killed writers left.

    Raises:
        InputError: See `check_ownership`.
        MachineError: It cannot be written, the disk is full, or another process holds it.
    """
    from asic_flow.atomic import sweep

    check_ownership(folder, kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK_FILE, timeout=0):
            for part in (folder, folder / "images", folder / "masks", folder / "parts"):
                sweep(part)
            yield
    except Timeout:
        raise MachineError(
            f"{folder}: another asic process is writing there; wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise MachineError(f"cannot write {folder}: {explain_os_error(error)}") from error


def read_files_index(index: Path, field: str) -> dict[str, Any] | None:
    """An index whose field names files by their sha256; None where it is missing or damaged."""
    try:
        stored = json.loads(index.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return stored if isinstance(stored, dict) and isinstance(stored.get(field), dict) else None


def is_whole(file: Path, sha256: object) -> bool:
    """Whether a file is there, with the content that was recorded."""
    from asic_features.weights import sha256_of

    try:
        return sha256_of(file) == sha256
    except OSError:
        return False


def made_by_asic(folder: Path) -> bool:
    """Whether a command of ours writes, or wrote, this folder."""
    return (folder / LOCK_FILE).exists()


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for every setting that differs, nested ones by their dotted names."""
    lines: list[str] = []
    for key in dict.fromkeys([*stored, *wanted]):
        old, new = stored.get(key, _ABSENT), wanted.get(key, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old is _ABSENT:
            lines.append(f"{prefix}{key}: not in the folder, now {new!r}")
        elif new is _ABSENT:
            lines.append(f"{prefix}{key}: {old!r} in the folder, now gone")
        elif old != new:
            lines.append(f"{prefix}{key}: {old!r} in the folder, now {new!r}")
    return lines


def refuse_other_settings(folder: Path, lines: list[str]) -> None:
    """Stops at a folder that was made with other settings or from other photos.

    Raises:
        InputError: There are differences; they are listed.
    """
    if not lines:
        return
    shown = [f"  {line}" for line in lines[:_MOST_DIFFERENCES]]
    if len(lines) > _MOST_DIFFERENCES:
        shown.append(f"  and {len(lines) - _MOST_DIFFERENCES} more")
    raise InputError(
        "\n".join(
            [
                f"{folder} was made with other settings:",
                *shown,
                "Give --fresh to make it again with the new ones, or choose another --out.",
            ]
        )
    )
