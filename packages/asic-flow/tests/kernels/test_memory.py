"""Matching needs memory for the sets and a tile, not for all their similarities."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The growth of the peak of a fresh process, in MB: a tile that has run once warms up what torch keeps for itself.
PROGRAM = """
import resource
import torch
from asic_flow.kernels import match_cosine

torch.set_num_threads(1)
a = torch.randn({tokens}, 64, generator=torch.Generator().manual_seed(0)).half()
b = torch.randn({tokens}, 64, generator=torch.Generator().manual_seed(1)).half()
match_cosine(a[:64], b[:64], precision={precision!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
match_cosine(a, b, precision={precision!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted in other units elsewhere")
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_the_peak_stays_far_below_the_similarity_matrix(precision):
    tokens = 12_000
    program = PROGRAM.format(tokens=tokens, precision=precision)
    grown = float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert grown < 100
    assert tokens**2 * 4 / 2**20 > 500
