"""Answers about photos and pairs on disk, so that what was interrupted or shared out is never computed twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from asic_flow import atomic

_SUFFIX = ".safetensors"
_DIGEST_BYTES = 32


class DescriptionCache:
    """A folder of answers, one file for what a network says about a picture, or for one photo's matches.

    A file's name is the sha256 of what the answer is about and of everything else that decides it, so that several
    processes may fill one folder at once: they write the same content under the same name, each file whole or not at
    all. The first 32 bytes of a file are the sha256 of the rest; a damaged file is as good as none.

    Attributes:
        misses: How many answers were looked for in vain.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Open or make a folder.

        Args:
            folder: Where the files are.
            settings: What decides all answers, whatever they are about; JSON values.

        Raises:
            OSError: The folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.misses = 0
        self._folder = folder
        self._settings = json.dumps(settings, sort_keys=True).encode()

    def key(self, asked: object, *tensors: torch.Tensor) -> str:
        """Name of the answer to what is asked, a JSON value, about tensors on the CPU."""
        digest = hashlib.sha256(self._settings)
        digest.update(json.dumps([asked, *([str(tensor.dtype), *tensor.shape] for tensor in tensors)]).encode())
        for tensor in tensors:
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """Tensors that were saved under a name; None where there are none, or a file is damaged."""
        try:
            data = (self._folder / f"{key}{_SUFFIX}").read_bytes()
            if hashlib.sha256(data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
                return load(data[_DIGEST_BYTES:])
        except (FileNotFoundError, SafetensorError):
            pass
        self.misses += 1
        return None

    def save(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keep tensors under a name.

        Raises:
            OSError: The disk is full, or the folder is gone.
        """
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        atomic.write_bytes(self._folder / f"{key}{_SUFFIX}", hashlib.sha256(data).digest() + data)


def clear_cache(folder: Path) -> None:
    """Remove a folder of answers, and what killed writers left in it; nothing else."""
    if not folder.is_dir():
        return
    atomic.sweep(folder)
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
