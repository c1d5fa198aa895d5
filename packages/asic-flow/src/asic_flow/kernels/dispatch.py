"""Which implementation of an operation runs, by name or by device."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import Literal

import torch

Implementation = Literal["auto", "triton", "torch", "reference"]


def load_implementation(operation: str, impl: Implementation, device: torch.device) -> ModuleType:
    """Return the module of an operation that runs on a device; a named one never falls back to another.

    Args:
        operation: the operation's folder, `"match_cosine"` say.
        impl: `"auto"` takes Triton on CUDA, blocked torch on the CPU and the reference on any other device.
        device: where the operation's tensors are.

    Raises:
        ValueError: an unknown name, or one that cannot run on the device.
    """
    if impl == "auto":
        impl = {"cuda": "triton", "cpu": "torch"}.get(device.type, "reference")  # type: ignore[assignment]
    if impl not in ("triton", "torch", "reference"):
        raise ValueError(f"impl must be auto, triton, torch or reference, got {impl!r}; auto chooses by device")
    if impl == "torch" and device.type != "cpu":
        raise ValueError(f"impl='torch' is the CPU path, got tensors on {device}; move them with .cpu() or use auto")
    if impl == "triton" and device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"impl='triton' needs CUDA tensors, got {device}; use auto, or set TRITON_INTERPRET=1 to test")
    file = "reference" if impl == "reference" else f"_{impl}"
    return import_module(f"asic_flow.kernels.{operation}.{file}")


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast, in which an operation computes in the precision that it says."""
    kind = device.type
    changed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if changed else nullcontext()
