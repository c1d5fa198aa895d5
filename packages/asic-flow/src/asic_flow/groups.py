"""Rows that belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rows_of_each(values: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """For each of the different values (M,), rising, the rows that hold it, rising."""
    order = np.argsort(values, kind="stable")
    found, first = np.unique(values[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, first[1:]), strict=False))
