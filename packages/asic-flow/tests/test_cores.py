"""Work shared out over the machine's cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest
import torch

from asic_flow.config import AlignmentConfig
from asic_flow.consensus import ConsensusTokens, agree
from asic_flow.cores import all_cores, allowed_threads, torch_alone, torch_together
from asic_flow.partners import find_partners
from asic_flow.sides import SecondMaps
from asic_flow.tokens import ForegroundTokens
from asic_flow.train import centred_descriptors

if TYPE_CHECKING:
    from conftest import DrawnCollection


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
    turns = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), all_cores():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2
    assert sys.getswitchinterval() == turns


@pytest.mark.usefixtures("two_threads")
def test_work_is_shared_out_while_torch_is_alone() -> None:
    with torch_alone():
        assert torch.get_num_threads() == 1
        with torch_alone(), all_cores() as cores:
            assert cores._max_workers == 2  # type: ignore[attr-defined]
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_large_operations_have_all_threads_again() -> None:
    with torch_together():
        assert torch.get_num_threads() == 2
    with torch_alone():
        with torch_together():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("later", [[all_cores], [torch_alone, torch_together], [torch_together]])
def test_of_users_that_overlap_the_last_one_restores(later: list[Callable[[], AbstractContextManager[object]]]) -> None:
    turns = sys.getswitchinterval()
    begun, joined, left = (threading.Event() for _ in range(3))

    def first() -> int:
        with all_cores():
            begun.set()
            joined.wait(10)
        left.set()
        return torch.get_num_threads()

    def second() -> None:
        begun.wait(10)
        with ExitStack() as stack:
            for use in later:
                stack.enter_context(use())
            joined.set()
            left.wait(10)

    with ThreadPoolExecutor(2) as pool:
        threads, _ = pool.submit(first), pool.submit(second).result()
        assert threads.result() == 2
    assert sys.getswitchinterval() == turns
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


@pytest.mark.usefixtures("two_threads")
def test_others_may_ask_how_many_threads_are_allowed() -> None:
    assert allowed_threads() == 2
    with torch_alone():
        assert allowed_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(allowed_threads).result() == 2


@pytest.mark.usefixtures("two_threads")
def test_what_a_shared_piece_of_work_calls_leaves_torch_alone_too() -> None:
    def work(_: int) -> int:
        with torch_alone():
            pass
        return torch.get_num_threads()

    with all_cores() as cores:
        assert set(cores.map(work, range(4))) == {1}


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


@pytest.mark.usefixtures("two_threads")
def test_whoever_leaves_does_not_wait_for_work_that_has_not_begun() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    def leave() -> None:
        with all_cores() as cores:
            cores.map(work, range(1000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert len(begun) < 500


@pytest.mark.usefixtures("two_threads")
def test_comparing_on_several_cores_says_the_same(drawn: DrawnCollection) -> None:
    collection, pairs = drawn.collection, torch.from_numpy(drawn.matches.pairs).long()
    foreground = ForegroundTokens.of(collection)
    descriptors = centred_descriptors(collection, foreground)
    canonical = foreground.points_norm

    def compared(threads: int) -> tuple[torch.Tensor, ...]:
        torch.set_num_threads(threads)
        found = find_partners(descriptors, canonical, foreground, pairs, 1.4)
        second = SecondMaps.none(collection.size_hw)
        mirrored = torch.zeros(len(collection), dtype=torch.bool)
        tokens = ConsensusTokens.on_maps(collection, foreground, descriptors, canonical, second, mirrored)
        return found.row, found.partner, found.mutual, *agree(tokens, descriptors, pairs, AlignmentConfig())

    for alone, together in zip(compared(1), compared(2), strict=True):
        assert torch.equal(alone, together)
