from __future__ import annotations

import pytest
import torch

from asic_features.logbin import log_bin
from asic_flow.collection import TokenGrid


def literal(maps: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """One token, loop by loop. ``maps`` is (rows, cols, D)."""
    rows, cols, _ = maps.shape
    parts = [maps[row, column]]
    for distance, pooled in ((1, False), (3, True)):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if down == right == 0:
                    continue
                i = min(max(row + distance * down, 0), rows - 1)
                j = min(max(column + distance * right, 0), cols - 1)
                if pooled:
                    parts.append(maps[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean(dim=(0, 1)))
                else:
                    parts.append(maps[i, j])
    return torch.cat(parts)


@pytest.mark.parametrize(("rows", "cols"), [(5, 7), (2, 3), (1, 1)])
def test_equals_a_literal_loop(rows: int, cols: int) -> None:
    maps = torch.randn(2, rows, cols, 4)
    binned = log_bin(maps.flatten(1, 2), TokenGrid(rows, cols, 8.0, 3.5)).view(2, rows, cols, 68)
    for photo in range(2):
        for row in range(rows):
            for column in range(cols):
                torch.testing.assert_close(binned[photo, row, column], literal(maps[photo], row, column))
