"""Files of a network's weights, of which nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class StateDictError(ValueError):
    """A file that holds no weights; the message begins with its path."""


def read_state_dict(path: Path) -> dict[Any, Any]:
    """Reads the dictionary in a file of weights, on the CPU.

    Args:
        path: `.safetensors`, or else what `torch.save` wrote; pickles that would run code are refused.

    Raises:
        StateDictError: The file is missing, or is none.
    """
    try:
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError as error:
        raise StateDictError(f"{path}: {error.strerror or error}; give the file of the weights") from error
    except MemoryError:
        raise
    # The zip, pickle and safetensors readers raise errors of many types on hostile bytes; what torch says of them
    # advises to let the file run.
    except Exception as error:
        raise StateDictError(f"{path}: expected a state dictionary of tensors, got {_kind_of(path)}") from error
    if not isinstance(found, dict):
        raise StateDictError(f"{path}: expected a state dictionary of tensors, got {type(found).__name__}")
    return found


def _kind_of(path: Path) -> str:
    with path.open("rb") as stream:
        begins = stream.read(len(_LFS_POINTER))
    if not begins:
        return "an empty file"
    if begins == _LFS_POINTER:
        return "a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    return "something else, or a damaged one"
