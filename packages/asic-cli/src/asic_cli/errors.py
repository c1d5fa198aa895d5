"""What can go wrong, and which exit code says so.

0 done; 1 a bug of ours; 2 bad usage or input; 3 the machine (weights, device, disk, memory, a folder in use); 4 done,
with photos skipped; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import errno
import signal

BUG = 1
BAD_INPUT = 2
MACHINE = 3
PHOTOS_SKIPPED = 4

# The libraries' own errors by name: their modules import torch, and a command that failed before that must stay fast.
_INPUT_ERRORS = frozenset(
    {"AlignmentError", "AnnotationError", "CollectionError", "MaskError", "PhotoError", "PhotosError", "RunError"}
)
_MACHINE_ERRORS = frozenset({"ExtraError", "OutOfMemoryError", "PeerError", "WeightsError"})
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class InputError(Exception):
    """The user's input or usage cannot be worked with; the message names what and says what to do."""


class MachineError(Exception):
    """This machine lacks something; the message names it and says what to do."""


class Stopped(BaseException):
    """A signal asked the process to stop.

    Attributes:
        signum: Which one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the message of an error."""
    if isinstance(error, Stopped):
        return 128 + error.signum, "interrupted" if error.signum == signal.SIGINT else "terminated"
    if isinstance(error, InputError) or _is_named(error, _INPUT_ERRORS):
        return BAD_INPUT, str(error)
    if isinstance(error, MachineError) or _is_named(error, _MACHINE_ERRORS):
        return MACHINE, str(error)
    if isinstance(error, MemoryError):
        return MACHINE, "out of memory: use fewer photos, a smaller --size or a larger --stride"
    if isinstance(error, OSError):
        return MACHINE, explain_os_error(error)
    return BUG, f"this is a bug: {type(error).__name__}: {error}\nASIC_DEBUG=1 shows where; please report it"


def explain_os_error(error: OSError) -> str:
    """What the operating system refused, and where."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _DISK_FULL:
        return f"{where}the disk is full ({error.strerror}); free some space, then give the same command again"
    return f"{where}{error.strerror or error}"


def _is_named(error: BaseException, names: frozenset[str]) -> bool:
    ours = ("asic_", "torch")
    return any(kind.__name__ in names and kind.__module__.startswith(ours) for kind in type(error).__mro__)
