"""The state of training in one file: the tensors, and what else there is as its metadata.

`checkpoint.safetensors` is all that a training in progress needs to go on; `network.safetensors` is what one that has
ended leaves in its run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from asic_flow import atomic
from asic_flow.run_folder import RunError, read_run_file

CHECKPOINT_FILE = "checkpoint.safetensors"
NETWORK_FILE = "network.safetensors"
FORMAT_VERSION = 2
ANEW = "run `asic train` with --fresh to train anew"


class CheckpointError(RunError):
    """A checkpoint that cannot be used; the message names the file and what differs."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that the next steps depend on.

    Attributes:
        step: Steps done.
        settings: Whatever must be the same for training to go on: settings and the collection's identity, as JSON.
        progress: Scores so far and the like, as JSON.
        tensors: By name: weights, averaged weights, the optimiser's moments, the generator's state.
    """

    step: int
    settings: dict[str, Any]
    progress: dict[str, Any]
    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all.

        Raises:
            OSError: The folder cannot be written, or the disk is full.
        """
        atomic.write_bytes(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        document = {
            "format": "asic-checkpoint",
            "version": FORMAT_VERSION,
            "step": self.step,
            "settings": self.settings,
            "progress": self.progress,
        }
        # One storage may stand behind two names, which the format does not allow.
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in self.tensors.items()}
        return save(tensors, {"asic": json.dumps(document)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads the file.

        Raises:
            CheckpointError: It is not there, damaged, or not a checkpoint of this version.
        """
        try:
            return cls.from_bytes(path.read_bytes(), path)
        except OSError as error:
            raise CheckpointError(f"{path}: expected a checkpoint, got {error!r}; {ANEW}") from error

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Checkpoint:
        """Reads the content of the file that lies at `path`.

        Raises:
            CheckpointError: It is damaged, or not a checkpoint of this version.
        """
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            document = json.loads(header["__metadata__"]["asic"])
            if (document["format"], document["version"]) != ("asic-checkpoint", FORMAT_VERSION):
                raise CheckpointError(
                    f"{path}, field 'version': expected {FORMAT_VERSION}, got {document['version']!r}; {ANEW}"
                )
            return cls(int(document["step"]), dict(document["settings"]), dict(document["progress"]), tensors)
        except CheckpointError:
            raise
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: expected a checkpoint, got {error!r}; {ANEW}") from error


def is_of_the_run(folder: Path) -> bool:
    """Whether a run folder's checkpoint is the end of the training that left its network there: it is not needed."""
    try:
        checkpoint = Checkpoint.load(folder / CHECKPOINT_FILE)
        network = Checkpoint.from_bytes(read_run_file(folder, NETWORK_FILE), folder / NETWORK_FILE)
    except RunError:
        return False
    weights = unpack("best", checkpoint.tensors) or unpack("averaged", checkpoint.tensors)
    kept = unpack("averaged", network.tensors)
    return (
        (checkpoint.step, checkpoint.settings) == (network.step, network.settings)
        and weights.keys() == kept.keys()
        and all(torch.equal(weights[name], value) for name, value in kept.items())
    )


def pack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under names that begin with `prefix`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def unpack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `pack` put under `prefix`."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file, for comparison: tuples as lists."""
    returned: dict[str, Any] = json.loads(json.dumps(settings))
    return returned
