"""Descriptors of single photos on disk, so that what was interrupted or shared out is never computed twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from asic_flow import atomic

_SUFFIX = ".safetensors"
_DIGEST_BYTES = 32


class DescriptionCache:
    """A folder of descriptors, one file for what one network says about one picture.

    A file's name is the sha256 of the picture the network saw and of everything that decides the answer, so that
    several processes may fill one folder at once: they write the same content under the same name, each file whole or
    not at all. The first 32 bytes of a file are the sha256 of the rest; a damaged file is as good as none.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Open or make a folder.

        Args:
            folder: Where the files are.
            settings: Everything that decides the answer beside the picture; JSON values.

        Raises:
            OSError: The folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = json.dumps(settings, sort_keys=True).encode()

    def key(self, image: torch.Tensor, requests: Sequence[object]) -> str:
        """Name of the answer to some requests about one (S, S, 3) uint8 picture."""
        digest = hashlib.sha256(self._settings)
        digest.update(json.dumps([requests, image.shape]).encode())
        digest.update(image.contiguous().numpy().data)
        return digest.hexdigest()

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """Tensors that were saved under a name; None where there are none, or a file is damaged."""
        try:
            data = (self._folder / f"{key}{_SUFFIX}").read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
            return None
        try:
            return load(data[_DIGEST_BYTES:])
        except SafetensorError:
            return None

    def save(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keep tensors under a name.

        Raises:
            OSError: The disk is full, or the folder is gone.
        """
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        atomic.write_bytes(self._folder / f"{key}{_SUFFIX}", hashlib.sha256(data).digest() + data)


def clear_cache(folder: Path) -> None:
    """Remove a folder of descriptors, and what killed writers left in it; nothing else."""
    if not folder.is_dir():
        return
    atomic.sweep(folder)
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
