"""Whether numbers are finite, at the price of reading them once."""

from __future__ import annotations

import math

from torch import Tensor


def all_finite(numbers: Tensor) -> bool:
    """Say whether all numbers are finite; on a GPU this waits for the answer.

    A sum is finite only if all its terms are, and costs a tenth of asking each; only where it overflows are they asked.
    """
    numbers = numbers.detach()
    return math.isfinite(numbers.sum()) or bool(numbers.isfinite().all())
