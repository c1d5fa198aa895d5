"""Batch normalisation with ReLU and pooling, forward and backward, at a network's first level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Provider, main
from torch import Tensor
from torch.nn.functional import batch_norm, max_pool2d, relu

from asic_flow.kernels import batch_norm_relu_pool


def cases(device: torch.device) -> list[Case]:
    """Return the first level of `paper` on a GPU, of `paper-small` on a CPU."""
    on_gpu = device.type == "cuda"
    photos, channels, side = (40, 32, 256) if on_gpu else (20, 8, 64)
    kind, layout = (torch.bfloat16, torch.channels_last) if on_gpu else (torch.float32, torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)

    def drawn(size: int) -> Tensor:
        values = torch.randn(photos, channels, size, size, generator=generator)
        return values.to(device, kind).contiguous(memory_format=layout)

    signal, cotangents = drawn(side).requires_grad_(), (drawn(side), drawn(side // 2))
    weight, bias = (torch.ones(channels, device=device).requires_grad_() for _ in range(2))
    running = [torch.ones(channels, device=device) for _ in range(2)]

    def one_after_the_other(signal: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = running
        out = relu(batch_norm(signal, mean, variance, weight, bias, training=True))
        return out, max_pool2d(out, 2)

    def ours(signal: Tensor) -> tuple[Tensor, Tensor]:
        return batch_norm_relu_pool(signal, weight, bias, *running)

    def stepped(normalise: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(normalise(signal), (signal, weight, bias), cotangents)

    # Forward the signal is read twice and written once, and a quarter written; backward signal and gradient are read
    # twice and one is written, and a quarter is read twice. A copy reads half of it and writes half.
    values = signal.numel() * 35 // 4
    passed = torch.zeros(values // 2, device=device, dtype=kind)
    received = torch.empty_like(passed)
    providers = [
        Provider("floor: a copy of as many bytes", lambda: received.copy_(passed)),
        Provider("torch, one after the other", stepped(one_after_the_other)),
        Provider("batch_norm_relu_pool", stepped(ours), True),
    ]
    if on_gpu:
        providers.append(Provider("torch.compile of it", stepped(torch.compile(one_after_the_other))))
    name = f"{photos} x {channels} x {side} x {side}, {str(kind).removeprefix('torch.')}, pooled, all gradients"
    work = float(values * signal.itemsize)
    return [Case(name, work, "B/s", "torch, one after the other", providers, graph=True)]


if __name__ == "__main__":
    main("batch_norm_relu", cases)
