"""Speaking to the user: data on stdout, everything else on stderr, names that cannot do harm."""

from __future__ import annotations

import codecs
import json
import logging
import os
import sys
import threading
import time
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEARTBEAT_SECONDS = 30.0
_PIPED_WIDTH = 120


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Goes on in silence: whoever listened has left, and the work is not theirs alone."""
        self.quiet = True
        _discard(sys.stderr if self.stderr else sys.stdout)


def printable(text: object) -> str:
    r"""Text with every control character written out, so that a file's name cannot move the cursor or fake a line.

    >>> printable("cat\x1b[2J\n.jpg")
    'cat\\x1b[2J\\n.jpg'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def say(message: str) -> None:
    """Tells the user something on stderr; line ends are kept, other control characters are written out."""
    console = _stderr()
    try:
        for line in message.split("\n"):
            console.print(printable(line))
    except OSError:  # a full disk, say: the work goes on in silence
        _discard(sys.stderr)


def warn(message: str) -> None:
    """Tells the user about something that may not be what they want."""
    say(f"warning: {message}")


def write_data(text: str) -> None:
    """Writes a result to stdout; a reader that has left is no error."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def write_json(document: Any) -> None:
    """Writes one JSON document to stdout."""
    write_data(to_json(document))


def to_json(document: Any) -> str:
    """A JSON document as text: ASCII, no NaN."""
    return json.dumps(document, indent=1, allow_nan=False)


def show(table: RenderableType) -> None:
    """Draws a table on stdout."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    _Console(highlight=False, markup=False, emoji=False, width=width).print(table)


class Stages:
    """Progress of named stages: bars on a terminal, a line every 30 seconds elsewhere.

    Call it with a stage's name, the steps done and the steps in all.
    """

    def __init__(self, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._now = "starting"
        self._started = time.monotonic()
        self._period = heartbeat_seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Stages:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = _stderr()
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=console, transient=True)
            self._bars.start()
        else:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bars is not None:
            self._bars.stop()
        if self._thread is not None:
            self._thread.join()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Notes that `done` of `total` steps of a stage are done."""
        self._now = f"{stage} {done}/{total}"
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)

    def _beat(self) -> None:
        while not self._ended.wait(self._period):
            say(f"{self._now} ({time.monotonic() - self._started:.0f} s)")


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Shows what a library warns of."""
        warn(record.getMessage())


def open_streams() -> None:
    """Makes sure that whatever is said can be written: a stream that is closed swallows it, and one of few letters
    shows the others by their numbers.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it stays open
        elif isinstance(stream, TextIOWrapper):
            utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            # A file's name may hold bytes that are no text; they come out as they went in.
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def show_library_warnings() -> None:
    """Sends the libraries' logged warnings to the user, once."""
    for name in ("asic_features", "asic_flow"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
            logger.addHandler(_Warnings(logging.WARNING))
            logger.propagate = False


def _stderr() -> _Console:
    return _Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _discard(stream: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
