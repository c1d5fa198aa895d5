"""Means and spread around pixels, against torch's pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, max_pool2d

from asic_cli.viewer.planes import box_mean, cell_means, grown


@pytest.fixture
def planes() -> torch.Tensor:
    return torch.rand(3, 23, 37, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_means_and_spread_are_those_of_pooling(planes: torch.Tensor, side: int) -> None:
    pooled = avg_pool2d(planes, side, 1, side // 2, count_include_pad=False)
    np.testing.assert_allclose(box_mean(planes.numpy(), side), pooled, rtol=1e-6)
    masks = planes > 0.9
    np.testing.assert_array_equal(grown(masks.numpy(), side), max_pool2d(masks.float(), side, 1, side // 2) > 0)


@pytest.mark.parametrize("side", [1, 8, 23, 64])
def test_cells_cover_planes_of_any_size(planes: torch.Tensor, side: int) -> None:
    np.testing.assert_allclose(cell_means(planes.numpy(), side), adaptive_avg_pool2d(planes, side), rtol=1e-5)
