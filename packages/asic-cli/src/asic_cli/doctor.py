"""`asic doctor`: what this machine offers."""

from __future__ import annotations

import os
import platform
from typing import Any

from asic_cli.console import printable, write_data, write_json
from asic_cli.options import Json
from asic_cli.versions import installed_version
from asic_features.backbones import WEIGHT_FREE
from asic_features.weights import cache_folder, list_weights

_PACKAGES = (
    "asic-cli",
    "asic-eval",
    "asic-features",
    "asic-flow",
    "torch",
    "timm",
    "triton",
    "numpy",
    "scipy",
    "pillow",
    "safetensors",
)


def doctor(as_json: Json = False) -> None:
    """Show versions, devices, threads, caches and weights.

    Example: `asic doctor --json`
    """
    found = examine()
    if as_json:
        write_json(found)
        return
    for topic, facts in found.items():
        write_data(f"{topic}:")
        for name, fact in facts.items():
            write_data(f"  {name}: {printable('no' if fact is None else fact)}")


def examine() -> dict[str, dict[str, Any]]:
    """Versions, devices, threads, caches and weights, by topic."""
    import torch

    packages = {name: installed_version(name) for name in _PACKAGES}
    gpus = {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    cache = cache_folder()
    return {
        "versions": {"python": platform.python_version(), "platform": platform.platform(), **packages},
        "devices": {"cpu": platform.machine(), **gpus, "mps": torch.backends.mps.is_available() or None},
        "threads": {
            "torch": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "caches": {"weights": str(cache), "exists": cache.is_dir()},
        "weights": {
            WEIGHT_FREE: "needs none",
            **{
                status.backbone.name: None if status.path is None else str(status.path)
                for status in list_weights()
                if status.backbone.needs_weights
            },
        },
    }
