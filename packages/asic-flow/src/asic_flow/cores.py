"""Work shared out over the machine's cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

_SWITCH_SECONDS = 0.0005


@contextmanager
def all_cores() -> Iterator[Executor]:
    """As many threads as torch may use, in each of which torch computes alone; torch is not imported for that.

    Whoever leaves before the end does not wait for work that has not begun.
    """
    torch = sys.modules.get("torch")
    threads = _threads() if torch is None else torch.get_num_threads()
    with nullcontext() if torch is None else _torch_alone(), _taking_turns(), ThreadPoolExecutor(threads) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Threads that ask for Python's lock wait less for one that computes in Python than the usual 5 ms."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@contextmanager
def _torch_alone() -> Iterator[None]:
    """Torch with one thread.

    Torch's own threads wait for each other after every operation: with small tensors, and a core that something else
    uses as well, two of them took seven times as long as one.
    """
    import torch

    allowed = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(allowed)


def _threads() -> int:
    """How many threads torch would take: what OMP_NUM_THREADS says, or one a core that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    # Not on every system can a process be held to some of the cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
