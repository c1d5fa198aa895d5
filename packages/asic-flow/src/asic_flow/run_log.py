"""The log of a run, `log.jsonl`: one JSON document a line, readable while it grows.

Where a finished run is made again, the new log grows beside the old one, as `unfinished-log.jsonl`, until it ends.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from asic_flow import atomic
from asic_flow.run_folder import INDEX_FILE

LOG_FILE = "log.jsonl"
UNFINISHED_FILE = f"unfinished-{LOG_FILE}"


class RunLog:
    """Appends records to a folder's log; each is on disk's way when `write` returns.

    A log is gone on with from a step: later lines of an earlier process, and a last line that was cut off, are dropped,
    so that no step is told twice.
    """

    def __init__(self, folder: Path, *, after_step: int = 0) -> None:
        """Opens the log.

        Args:
            folder: Of the run; must exist.
            after_step: Records with a `step` up to here stay; 0 starts the log anew.
        """
        self._path = folder / (UNFINISHED_FILE if (folder / INDEX_FILE).exists() else LOG_FILE)
        self._started = time.monotonic()
        kept = [] if after_step < 1 else [line for line in self._lines() if _step_of(line) <= after_step]
        atomic.write_bytes(self._path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record of JSON values, with the seconds since this log was opened."""
        line = json.dumps({**record, "seconds": round(time.monotonic() - self._started, 3)}, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")

    @staticmethod
    def finish(folder: Path) -> None:
        """Gives a log that grew beside another one its place; call it when the run is written."""
        with suppress(FileNotFoundError):
            (folder / UNFINISHED_FILE).replace(folder / LOG_FILE)

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text("utf-8", "replace").split("\n")
        except FileNotFoundError:
            return []


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
