"""Where a run's records and pictures go beside `log.jsonl`: TensorBoard, Weights & Biases, both or neither."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from asic_cli.errors import MachineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FOLDERS = {"tensorboard": "tensorboard", "wandb": "wandb"}


class _Sink(Protocol):
    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None: ...

    def close(self) -> None: ...


class Tracker:
    """Passes records and pictures on to the services that were asked for; with none it does nothing."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, tensorboard: bool, wandb: bool) -> None:
        """Opens the services.

        Args:
            folder: Of the run; each service keeps its files in a folder of its name there.
            settings: What W&B shows as the run's configuration.
            tensorboard: Whether to write event files.
            wandb: Whether to write a W&B run: offline, for `wandb sync` to send, unless `WANDB_MODE` says otherwise.

        Raises:
            MachineError: A service's package is not installed.
        """
        self._step = 0
        self._sinks: list[_Sink] = []
        if tensorboard:
            self._sinks.append(_TensorBoard(folder / _FOLDERS["tensorboard"]))
        if wandb:
            self._sinks.append(_Wandb(folder / _FOLDERS["wandb"], settings))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self._sinks:
            sink.close()

    @property
    def wanted(self) -> bool:
        """Whether anybody is listening."""
        return bool(self._sinks)

    def write(self, record: Mapping[str, Any]) -> None:
        """Passes on the numbers of a record of the log, nested ones as `losses/matches`, at its step or round."""
        self._step = int(record.get("step", record.get("round", self._step)))
        numbers = dict(_numbers(record, ""))
        for sink in self._sinks:
            sink.scalars(numbers, self._step)

    def picture(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Passes on an (H, W, 3) picture, at the last record's step."""
        for sink in self._sinks:
            sink.picture(name, pixels, self._step)


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        _need("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._wandb: Any = _need("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        # Neither a login nor a network is ever waited for.
        mode = os.environ.get("WANDB_MODE", "offline")
        quiet = self._wandb.Settings(silent=True, console="off", disable_git=True)
        self._run = self._wandb.init(project="asic", dir=str(folder), mode=mode, config=dict(settings), settings=quiet)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        self._run.log({name: self._wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MachineError(f"--{package}: not installed; pip install 'asic-cli[{package}]'") from None


def _numbers(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name not in ("step", "round"):
            yield f"{prefix}{name}", float(value)
