"""Writing a file so that a reader finds the old content or the new, never a part."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".asic-tmp-"


def write_bytes(path: Path, data: bytes) -> str:
    """Writes `data` to `path` through a temporary file in the same folder, flushed to disk and renamed.

    Args:
        path: The file to create or replace. Its folder must exist.
        data: The whole content.

    Returns:
        The sha256 of `data`, in hexadecimal.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full. `path` is then as it was.
    """
    temporary = _stage(path, data)
    try:
        with _naming(path):
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def write_together(contents: Mapping[Path, bytes], index: tuple[Path, bytes], stale: Sequence[Path] = ()) -> None:
    """Writes files that belong together, and the index that says so.

    Everything is flushed to temporary files first. Then the old index goes, the files take their places, and the new
    index comes last: whoever finds an index finds all that it names.

    Args:
        contents: Files and their whole contents; their folders are created where missing.
        index: The index and its content.
        stale: Files to remove with the old index.

    Raises:
        OSError: A folder is not writable, or the disk is full: every file is then as it was. Or a file cannot take its
            place, where there is a folder, say: others may have taken theirs, and there is no index.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, data in [*contents.items(), index]:
            path.parent.mkdir(parents=True, exist_ok=True)
            staged[path] = _stage(path, data)
        index[0].unlink(missing_ok=True)
        for path in stale:
            path.unlink(missing_ok=True)
        for path, temporary in staged.items():
            with _naming(path):
                temporary.replace(path)
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def _stage(path: Path, data: bytes) -> Path:
    """Writes a temporary file beside `path`, flushed to disk; others may read it as far as the umask lets them."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    with _naming(path):
        # No private one by mkstemp: to learn the umask is to change it for all threads.
        stream = temporary.open("xb")
    try:
        with stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the file that was to be written, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


def sweep(folder: Path) -> None:
    """Removes what killed writers left in `folder`; call it while holding the folder's lock."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)
