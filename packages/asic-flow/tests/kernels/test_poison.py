"""The poison works: without it, a kernel that leaves a gap could pass by luck."""

from __future__ import annotations

import torch


def test_memory_that_nobody_wrote_is_nan_or_the_largest_integer():
    assert torch.empty(7).isnan().all()
    assert torch.empty_like(torch.ones(7)).isnan().all()
    assert torch.ones(2).new_empty(7).isnan().all()
    assert (torch.empty(7, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()
