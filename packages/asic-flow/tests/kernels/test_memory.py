"""Matching needs memory for the sets and a tile, not for all their similarities."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from asic_flow.kernels import match_cosine

TOKENS, WIDTH = 12_000, 64
SETS_MB = 2 * TOKENS * WIDTH * 4 / 2**20
SIMILARITIES_MB = TOKENS**2 * 4 / 2**20
# A tile and its maxima, and a handful of numbers a row.
TILE_MB = 16
ALLOWED_MB = TILE_MB + 2 * SETS_MB

# The growth of the peak of a fresh process, in MB: a tile that has run once warms up what torch keeps for itself.
PROGRAM = """
import resource
import torch
from asic_flow.kernels import match_cosine

torch.set_num_threads(1)
a = torch.randn({tokens}, {width}, generator=torch.Generator().manual_seed(0)).half()
b = torch.randn({tokens}, {width}, generator=torch.Generator().manual_seed(1)).half()
a[{equal}:] = b[{equal}:] = a[0]
match_cosine(a[:64], b[:64], precision={precision!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
match_cosine(a, b, precision={precision!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted in other units elsewhere")
@pytest.mark.parametrize(("precision", "equal"), [("float32", TOKENS), ("half", TOKENS), ("half", TOKENS // 2)])
def test_the_peak_is_a_few_copies_of_the_sets_and_no_similarity_matrix(precision, equal):
    program = PROGRAM.format(tokens=TOKENS, width=WIDTH, precision=precision, equal=equal)
    grown = float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert grown < ALLOWED_MB < SIMILARITIES_MB / 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_the_peak_on_a_gpu_is_a_few_copies_of_the_sets(precision):
    a, b = (torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed)).cuda() for seed in (0, 1))
    match_cosine(a[:64], b[:64], precision=precision)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    match_cosine(a, b, precision=precision)
    assert (torch.cuda.max_memory_allocated() - before) / 2**20 < TILE_MB + 6 * SETS_MB < SIMILARITIES_MB / 10
