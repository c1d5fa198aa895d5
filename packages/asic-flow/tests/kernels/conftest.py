"""What all kernel tests share: where an operation runs, poisoned allocations, and float64 as the judge.

Tests that take a `backend` run on the CPU paths, on a GPU where there is one (marked `gpu`), and, with
`TRITON_INTERPRET=1`, on Triton's interpreter alone.
"""

from __future__ import annotations

import os
from typing import NamedTuple

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class Backend(NamedTuple):
    impl: str
    device: str


def _backends():
    if INTERPRETED:
        return [pytest.param(Backend("triton", "cpu"), id="interpreted")]
    on_the_cpu = [pytest.param(Backend(impl, "cpu"), id=impl) for impl in ("torch", "reference")]
    on_the_gpu = [pytest.param(Backend("triton", "cuda"), id="triton", marks=pytest.mark.gpu)]
    return on_the_cpu + on_the_gpu * torch.cuda.is_available()


@pytest.fixture(params=_backends())
def backend(request):
    return request.param


def pytest_configure(config):
    if INTERPRETED:
        # Triton 3.6's interpreter does this itself, and NumPy from 2.0 on does not like it.
        config.addinivalue_line("filterwarnings", "ignore:Conversion of an array with ndim > 0:DeprecationWarning")


def pytest_ignore_collect(collection_path, config):
    """Compile the kernels only when asked by name: it takes longer than all else here."""
    asked = any("test_compile" in argument for argument in config.args)
    return True if collection_path.name == "test_compile.py" and not asked else None


def pytest_collection_modifyitems(config, items):
    if not INTERPRETED:
        return
    kept = [item for item in items if "backend" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(autouse=True)
def poisoned_allocations():
    """Fill memory that `torch.empty` and its kin hand out with NaN or the largest integer, so that gaps show."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def draw():
    """Draw normal numbers on the CPU from a seed, in float64."""

    def normal(*shape, seed=0):
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return normal
