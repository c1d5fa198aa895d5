"""A training step's losses and gradients as one CUDA graph: a thousand small launches become one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asic_flow.paper.data import Batch

_WARM_UPS = 3  # what compiles, chooses algorithms or allocates does so before the graph is recorded


class CapturedStep:
    """Replays, with other batches of one shape, what was done with the first.

    Gradients stay where the recording has put them: they must not be set to None in between.
    """

    def __init__(self, step: Callable[[Batch], dict[str, Tensor]], first: Batch, model: nn.Module) -> None:
        """Records a step; the model's buffers are then what they were before.

        Args:
            step: From a batch to its losses, having set the model's gradients anew; waits for nothing.
            first: On the GPU; its tensors are where every later batch is put.
            model: What `step` reads and moves.
        """
        self._batch = first
        before = [buffer.clone() for buffer in model.buffers()]
        chosen, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        try:
            self._record(step, model)
        finally:
            torch.backends.cudnn.benchmark = chosen
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)

    def _record(self, step: Callable[[Batch], dict[str, Tensor]], model: nn.Module) -> None:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                step(self._batch)
        torch.cuda.current_stream().wait_stream(aside)
        model.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = step(self._batch)

    def fits(self, batch: Batch) -> bool:
        """Whether a batch has the recorded shape."""
        return [value.shape for value in self._batch.tensors()] == [value.shape for value in batch.tensors()]

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch of the CPU; its gradients are the parameters' own."""
        for place, value in zip(self._batch.tensors(), batch.tensors(), strict=True):
            place.copy_(value.pin_memory(), non_blocking=True)
        self._graph.replay()
        return {name: value.clone() for name, value in self._losses.items()}
