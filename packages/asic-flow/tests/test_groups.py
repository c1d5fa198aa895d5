from __future__ import annotations

import numpy as np
import pytest

from asic_flow.groups import rows_of_each


@pytest.mark.parametrize("values", [[], [4], [3, -1, 3, 7, -1, 3]])
def test_every_row_is_with_its_value_in_order(values: list[int]) -> None:
    expected = [(value, [row for row, other in enumerate(values) if other == value]) for value in sorted(set(values))]
    found = rows_of_each(np.array(values, np.int64))
    assert [(value, rows.tolist()) for value, rows in found] == expected
