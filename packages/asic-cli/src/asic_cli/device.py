"""Where to compute: a device asked for by name and absent is an error, never a fall-back."""

from __future__ import annotations

import re

from asic_cli.errors import InputError, MachineError

_NAMES = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def check_device_name(name: str) -> None:
    """Checks the spelling, without importing torch.

    Raises:
        InputError: It names no device.
    """
    if not _NAMES.fullmatch(name):
        raise InputError(f"--device: expected auto, cpu, cuda, cuda:<number> or mps, got {name!r}")


def choose_device(name: str) -> str:
    """The torch device of a name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: It names no device.
        MachineError: This machine has no such device.
    """
    check_device_name(name)
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    kind, _, number = name.partition(":")
    if not present[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise MachineError(
            f"--device {name}: torch {torch.__version__} sees no such device here; --device auto takes what is there"
        )
    return name
