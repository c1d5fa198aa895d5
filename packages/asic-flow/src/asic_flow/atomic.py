"""Writing a file so that a reader finds the old content or the new, never a part."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

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


class Staging:
    """Files that belong together, and the indices that say so: all are on the disk before the first takes its place.

    `add` flushes each to a temporary file, `seal` ends a set of them with its index, and `commit` puts all where they
    belong, one set after the other. A block that is left without `commit` leaves every file as it was.
    """

    def __init__(self) -> None:
        self._open: dict[Path, Path] = {}
        self._sealed: list[tuple[dict[Path, Path], Path, Sequence[Path]]] = []

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for files in (self._open, *(files for files, _, _ in self._sealed)):
            for temporary in files.values():
                temporary.unlink(missing_ok=True)

    def add(self, path: Path, data: bytes) -> str:
        """Stages a file with its whole content; its folder is created where missing.

        Returns:
            The sha256 of `data`, in hexadecimal.

        Raises:
            OSError: The folder is not writable, or the disk is full.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open[path] = _stage(path, data)
        return hashlib.sha256(data).hexdigest()

    def staged(self, path: Path) -> Path:
        """Where a file that was added lies until it takes its place."""
        return self._open[path]

    def seal(self, index: Path, data: bytes, stale: Sequence[Path] = ()) -> str:
        """Ends a set: all files since the last one belong to an index, which is staged as well.

        Args:
            index: The index.
            data: Its content.
            stale: Files to remove with the old index.

        Returns:
            The sha256 of the index.

        Raises:
            OSError: As for `add`.
        """
        digest = self.add(index, data)
        self._sealed.append((self._open, index, stale))
        self._open = {}
        return digest

    def commit(self) -> None:
        """Of each set removes the old index, lets the files take their places, and writes the new index last.

        Whoever finds an index finds all that it names.

        Raises:
            OSError: A file cannot take its place, where there is a folder, say: others may have taken theirs, and there
                is no index.
        """
        for files, index, stale in self._sealed:
            index.unlink(missing_ok=True)
            for path in stale:
                path.unlink(missing_ok=True)
            for path, temporary in files.items():
                with _naming(path):
                    temporary.replace(path)


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
