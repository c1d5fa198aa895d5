"""The direction of imports, proven in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

MODULES = [
    "alignment",
    "baselines",
    "coarse",
    "collection",
    "config",
    "dense",
    "kernels",
    "matches",
    "paper.training",
    "train",
    "views",
]
FORBIDDEN = ("asic_features", "asic_eval", "asic_cli", "timm", "torchvision", "typer", "triton")


@cache
def loaded_by(*names: str) -> frozenset[str]:
    statement = f"import {', '.join(names)}, sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    # Triton that is already loaded by torch itself would hide an import of ours.
    probe = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    return frozenset(probe.stdout.split())


def test_asic_flow_imports_no_backbone_no_sibling_and_no_triton() -> None:
    brought = loaded_by(*(f"asic_flow.{name}" for name in MODULES)) - loaded_by("torch")
    assert not brought & set(FORBIDDEN)


def test_folders_are_read_without_torch() -> None:
    brought = loaded_by(*(f"asic_flow.{name}" for name in ("collection_folder", "overlap", "run_folder")))
    assert "scipy" in brought
    assert "torch" not in brought


@pytest.mark.parametrize("name", ["asic_eval", "torch", "triton"])
def test_the_probe_can_fail(name: str) -> None:
    pytest.importorskip(name)
    assert name in loaded_by(name)
