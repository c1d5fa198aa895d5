"""Several processes that train as one: statistics and gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' photos, on any device.

    With one process it is torch's own. All processes must hold equally many photos. Torch's synchronised version runs
    on GPUs only, so it could not be tested against one process on a CPU.
    """

    def forward(self, signal: Tensor) -> Tensor:
        """Normalises (B, C, H, W)."""
        world = world_size()
        if not self.training or world == 1:
            return super().forward(signal)
        values = signal.float()
        moments = torch.stack((values.mean((0, 2, 3)), values.square().mean((0, 2, 3))))
        mean, square = (_Total.apply(moments) / world).unbind()
        variance = (square - mean.square()).clamp_min(0)
        count = world * signal.numel() // signal.shape[1]
        with torch.no_grad():
            momentum = self.momentum or 0.0
            for buffer, now in ((self.running_mean, mean), (self.running_var, variance * count / max(1, count - 1))):
                if buffer is not None:
                    buffer.lerp_(now, momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out: Tensor = values * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return out.to(signal.dtype)


class _Total(torch.autograd.Function):
    """The sum over all processes; every process's loss depends on it, so gradients are summed likewise."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:  # noqa: ARG004 - nothing to keep
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:  # noqa: ARG004
        total = grad.clone()
        dist.all_reduce(total)
        return total


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces every gradient by its mean over all processes."""
    world = world_size()
    if world > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world


@torch.no_grad()
def average(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
        values /= world_size()
    return values
