"""The `asic` command: runs one command and turns whatever happens into an exit code."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from asic_cli.errors import Stopped, explain

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Importing torch makes half a million objects that stay; looking through them for garbage as often as Python does
# takes a quarter of that time.
_OBJECTS_BETWEEN_SEARCHES = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What follows `asic`; the process's own when None.

    Returns:
        The exit code; see `asic_cli.errors`.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES)
    given = list(sys.argv[1:] if arguments is None else arguments)
    stopped: list[Stopped] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        del frame
        stopped.append(Stopped(signum))
        raise stopped[0]

    before = {signum: signal.signal(signum, stop) for signum in _SIGNALS}
    try:
        # Typer takes a tenth of a second to import; a signal must find its handler before that.
        from asic_cli.app import app
        from asic_cli.console import open_streams, show_library_warnings

        open_streams()
        show_library_warnings()
        app(given, prog_name="asic")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except BaseException as error:
        return _fail(stopped[0] if stopped else error, given)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return 0


def _fail(error: BaseException, arguments: list[str]) -> int:
    from asic_cli.console import say

    if os.environ.get("ASIC_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    code, message = explain(error)
    say(f"asic: {message}")
    if isinstance(error, Stopped):
        say(f"Nothing is half written. To go on from what is finished: asic {shlex.join(arguments)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
