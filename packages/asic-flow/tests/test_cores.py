"""Work shared out over the machine's cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from asic_flow.cores import all_cores


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_torch_computes_alone_in_each_thread() -> None:
    with all_cores() as cores:
        assert set(cores.map(lambda _: torch.get_num_threads(), range(4))) == {1}


@pytest.mark.usefixtures("two_threads")
def test_torch_has_its_threads_back_afterwards_whatever_happened() -> None:
    with pytest.raises(ZeroDivisionError), all_cores():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("none", None)])
def test_without_torch_there_are_as_many_threads_as_it_would_take(asked: str, threads: int | None) -> None:
    script = (
        "import os, sys\n"
        "from asic_flow.cores import all_cores\n"
        "with all_cores() as cores: print(cores._max_workers)\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": asked}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) == (threads or len(os.sched_getaffinity(0)))
