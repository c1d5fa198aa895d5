"""Work shared out over the machine's cores.

Torch's own threads wait for each other after every operation. Here most operations are small, and cores are shared with
whatever else a laptop does: with two cores, of which something else used one, an alignment took ten times as long as
with torch on one thread, most of it waiting. So torch computes alone, and what is shared out are whole pieces of work.

How many threads torch takes is a matter of each thread, but what new ones begin with belongs to the whole process, as
the time of a thread's turn does. Threads may use all of this at once: the first one notes what was set, and with the
last one it is so again.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Protocol, TypeVar

MOST_TOKENS_A_CORE = 4096
"""Photos of more tokens are for all cores together: their operations are large, and so is what each core would hold."""

_T = TypeVar("_T")
_R = TypeVar("_R")
_SWITCH_SECONDS = 0.0005
_lock = threading.Lock()
# What was set before, one entry for each thread that changed it, all the same.
_usual_threads: list[int] = []
_usual_turns: list[float] = []


class _ThisThread(threading.local):
    alone = False  # whether torch was left alone in it


_this_thread = _ThisThread()


@contextmanager
def all_cores() -> Iterator[Executor]:
    """As many threads as torch may use, in each of which torch computes alone; torch is not imported for that.

    Whoever leaves before the end does not wait for work that has not begun.
    """
    torch = sys.modules.get("torch")
    alone = nullcontext() if torch is None else torch_alone()
    # A thread's first product would else be shared by as many threads as there are cores.
    begin = None if torch is None else _leave_alone
    with alone, _taking_turns(), ThreadPoolExecutor(allowed_threads(), initializer=begin) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def torch_alone() -> Iterator[None]:
    """Torch with one thread; `all_cores` within still has as many as torch had."""
    import torch

    if _this_thread.alone:
        yield
        return
    with _lock:
        _usual_threads.append(_usual_threads[0] if _usual_threads else torch.get_num_threads())
        _leave_alone()
    try:
        yield
    finally:
        with _lock:
            torch.set_num_threads(_usual_threads.pop())
            _this_thread.alone = False


def _leave_alone() -> None:
    import torch

    torch.set_num_threads(1)
    _this_thread.alone = True


def allowed_threads() -> int:
    """How many threads torch may use, left alone or not: for others that share their work out by themselves."""
    torch = sys.modules.get("torch")
    with _lock:
        if _usual_threads:
            return _usual_threads[0]
        return _threads() if torch is None else torch.get_num_threads()


@contextmanager
def torch_together() -> Iterator[None]:
    """Torch with the threads it had before it was left alone: for operations so large that one at a time is enough."""
    import torch

    if not _this_thread.alone:
        yield
        return
    torch.set_num_threads(allowed_threads())
    try:
        yield
    finally:
        torch.set_num_threads(1)


class Map(Protocol):
    """Like the built-in `map` of one iterable."""

    def __call__(self, function: Callable[[_T], _R], items: Iterable[_T], /) -> Iterator[_R]:
        """The function's values, in the order of the items."""


@contextmanager
def mapping(*, apart: bool) -> Iterator[Map]:
    """A `map`: each item by a core of its own, or one after the other by all of torch's threads."""
    if apart:
        with all_cores() as cores:
            yield cores.map
    else:
        with torch_together():
            yield map


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Threads that ask for Python's lock wait less for one that computes in Python than the usual 5 ms."""
    with _lock:
        _usual_turns.append(_usual_turns[0] if _usual_turns else sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        with _lock:
            usual = _usual_turns.pop()
            if not _usual_turns:
                sys.setswitchinterval(usual)


def _threads() -> int:
    """How many threads torch would take: what OMP_NUM_THREADS says, or one a core that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    # Not on every system can a process be held to some of the cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
