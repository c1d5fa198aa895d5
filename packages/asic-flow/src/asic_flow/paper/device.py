"""Traffic with a GPU that neither side waits for: batches on their way there, and whether numbers are finite back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def sent(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors of the CPU on a device; to a GPU they travel while the program goes on."""
    if device.type != "cuda":
        return {name: value.to(device) for name, value in values.items()}
    return {name: value.pin_memory().to(device, non_blocking=True) for name, value in values.items()}


@dataclass(frozen=True, eq=False)
class FiniteCheck:
    """Whether a step's tensors are finite: known at once on the CPU; on a GPU, asked now and answered later.

    Attributes:
        step: whose tensors they are.
        names: of the tensors.
        lengths: (len(names),) their Euclidean lengths, on the CPU; finite only where all of a tensor is.
        arrived: on a GPU, set when `lengths` holds the answer.
    """

    step: int
    names: list[str]
    lengths: Tensor
    arrived: torch.cuda.Event | None = None

    @classmethod
    def of(cls, step: int, tensors: Mapping[str, Tensor]) -> FiniteCheck:
        """Asks about tensors of one device."""
        lengths = torch.stack(torch._foreach_norm([tensor.detach() for tensor in tensors.values()]))
        if lengths.device.type != "cuda":
            return cls(step, list(tensors), lengths)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        answer = torch.empty_like(lengths, device="cpu", pin_memory=True).copy_(lengths, non_blocking=True)
        arrived.record()
        return cls(step, list(tensors), answer, arrived)

    def strange(self) -> str | None:
        """The first tensor that is not finite, if any; waits for the answer."""
        if self.arrived is not None:
            self.arrived.synchronize()
        finite = self.lengths.isfinite().tolist()
        return next((name for name, fine in zip(self.names, finite, strict=True) if not fine), None)
