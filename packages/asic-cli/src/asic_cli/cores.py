"""Work shared out over the machine's cores."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def all_cores() -> Iterator[Executor]:
    """As many threads as torch may use, in each of which torch computes alone.

    Torch's own threads wait for each other after every operation: with small tensors, and a core that something else
    uses as well, two of them took seven times as long as one.
    """
    allowed = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(allowed) as pool:
            yield pool
    finally:
        torch.set_num_threads(allowed)
