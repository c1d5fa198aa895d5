"""Numbers are finite or not, however large their sum."""

from __future__ import annotations

import pytest
import torch

from asic_flow.kernels.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_that_is_not_finite_is_seen_and_a_sum_that_overflows_is_none(dtype):
    largest = torch.finfo(dtype).max
    assert all_finite(torch.full((3, 2), largest, dtype=dtype))
    assert all_finite(torch.zeros(0, 2, dtype=dtype))
    for bad in ([float("nan"), 0.0], [float("inf"), 0.0], [float("inf"), -float("inf")], [-float("inf"), largest]):
        assert not all_finite(torch.tensor(bad, dtype=dtype, requires_grad=True))
