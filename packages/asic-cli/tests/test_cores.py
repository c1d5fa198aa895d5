"""Work shared out over the machine's cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from asic_cli.cores import all_cores


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
