"""Several processes that train as one: statistics and gradients of the whole batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import max_pool2d, relu

from asic_flow.kernels import batch_norm_relu, batch_norm_relu_pool

_MOMENTUM = 0.1  # of running statistics, torch's own choice


class PeerError(RuntimeError):
    """Another process of this training is gone."""


def processes_started() -> int:
    """How many processes a launcher such as torchrun has started for this command, by its `WORLD_SIZE`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Joins the processes that a launcher has started, if it has, and yields the torch device of this one.

    A numbered CUDA device becomes the current one: kernels are launched there, wherever their tensors are.

    Args:
        device: A torch device; of several CUDA devices each process takes that of its `LOCAL_RANK`.
    """
    on_gpu = torch.device(device).type == "cuda"
    together = processes_started() > 1
    mine = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu and together else device
    if on_gpu and torch.device(mine).index is not None:
        torch.cuda.set_device(mine)
    if not together:
        yield mine
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield mine
    finally:
        dist.destroy_process_group()


def agreed(value: bool) -> bool:
    """What the first process says; the others wait for it.

    Raises:
        PeerError: It is gone.
    """
    if world_size() == 1:
        return value
    said = [value]
    with _waiting():
        dist.broadcast_object_list(said)
    return said[0]


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def _waiting() -> Iterator[None]:
    """What a backend says of a peer that is gone is the backend's own, and of many types."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerError("another process of this training has stopped; what it said tells why") from error


def _sum(values: Tensor) -> None:
    """Replaces a tensor by its sum over all processes."""
    with _waiting():
        dist.all_reduce(values)


class BatchNormRelu(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' photos, and ReLU, on any device.

    All processes must hold equally many photos. Torch's synchronised version runs on GPUs only, so it could not be
    tested against one process on a CPU.
    """

    def forward(self, signal: Tensor) -> Tensor:
        """Normalises (B, C, H, W) and cuts it off at zero."""
        if not self.training:
            return relu(super().forward(signal))
        if world_size() > 1:
            return relu(self._by_all(signal))
        return batch_norm_relu(signal, *self._held(), momentum=_MOMENTUM, eps=self.eps)

    def pooled(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the same, and the largest of every 2 x 2 pixels of it."""
        if self.training and world_size() == 1:
            return batch_norm_relu_pool(signal, *self._held(), momentum=_MOMENTUM, eps=self.eps)
        out = self(signal)
        return out, max_pool2d(out, 2)

    def _held(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.weight, self.bias, cast("Tensor", self.running_mean), cast("Tensor", self.running_var)

    def _by_all(self, signal: Tensor) -> Tensor:
        world = world_size()
        values = signal.float()
        moments = torch.stack((values.mean((0, 2, 3)), values.square().mean((0, 2, 3))))
        mean, square = (_Total.apply(moments) / world).unbind()
        variance = (square - mean.square()).clamp_min(0)
        count = world * signal.numel() // signal.shape[1]
        weight, bias, running_mean, running_var = self._held()
        with torch.no_grad():
            running_mean.lerp_(mean, _MOMENTUM)
            running_var.lerp_(variance * count / max(1, count - 1), _MOMENTUM)
        scale = weight * torch.rsqrt(variance + self.eps)
        out: Tensor = values * scale[:, None, None] + (bias - mean * scale)[:, None, None]
        return out.to(signal.dtype)


class _Total(torch.autograd.Function):
    """The sum over all processes; every process's loss depends on it, so gradients are summed likewise."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:  # noqa: ARG004 - nothing to keep
        total = values.clone()
        _sum(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:  # noqa: ARG004
        total = grad.clone()
        _sum(total)
        return total


class _Gathered(torch.autograd.Function):
    """The rows of all processes; whatever any of them makes of a row counts in its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:  # noqa: ARG004
        parts = [torch.empty_like(values) for _ in range(world_size())]
        with _waiting():
            dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:  # noqa: ARG004
        total = grad.clone()
        _sum(total)
        return total.chunk(world_size())[rank()]


def gather(values: Tensor) -> Tensor:
    """The rows of all processes' tensors of one shape, in the order of the processes; differentiable."""
    if world_size() == 1:
        return values
    gathered: Tensor = _Gathered.apply(values)
    return gathered


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces every gradient by its mean over all processes."""
    world = world_size()
    if world > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                _sum(parameter.grad)
                parameter.grad /= world


@torch.no_grad()
def average(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes."""
    if world_size() > 1:
        values = values.clone()
        _sum(values)
        values /= world_size()
    return values
