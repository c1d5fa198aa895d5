"""Writing a file so that a reader finds the old content or the new, never a part."""

from __future__ import annotations

import hashlib
import os
import tempfile
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
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            # mkstemp makes the file private; a file that others may read is what the umask says.
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def sweep(folder: Path) -> None:
    """Removes what killed writers left in `folder`; call it while holding the folder's lock."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
