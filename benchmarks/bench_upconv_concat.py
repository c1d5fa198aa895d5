"""A U-Net's last step up, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Provider, main
from torch import Tensor
from torch.nn.functional import conv_transpose2d

from asic_flow.kernels import upconv_concat


def cases(device: torch.device) -> list[Case]:
    """Return the step to full resolution of `paper` on a GPU, to a quarter of `paper-small`'s on a CPU."""
    on_gpu = device.type == "cuda"
    photos, channels, side = (40, 32, 256) if on_gpu else (20, 32, 16)
    kind, layout = (torch.bfloat16, torch.channels_last) if on_gpu else (torch.float32, torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int, size: int) -> Tensor:
        values = torch.randn(photos, count, size, size, generator=generator)
        return values.to(device, kind).contiguous(memory_format=layout)

    leaves = (
        drawn(channels, side).requires_grad_(),
        drawn(2 * channels, side // 2).requires_grad_(),
        torch.randn(2 * channels, channels, 2, 2, generator=generator).to(device).requires_grad_(),
        torch.randn(channels, generator=generator).to(device).requires_grad_(),
    )
    cotangent = drawn(2 * channels, side)

    def one_after_the_other() -> Tensor:
        skip, low, weight, bias = leaves
        lifted = conv_transpose2d(low, weight.to(kind, memory_format=layout), bias.to(kind), stride=2)
        return torch.cat((skip, lifted), 1)

    def stepped(join: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(join(), leaves, cotangent)

    # Values: skip, low signal and joined ones, each moved once, and as many gradients; the skip's is a part of the
    # joined one's.
    values = 2 * (leaves[0].numel() + leaves[1].numel() + cotangent.numel()) - leaves[0].numel()
    passed = torch.zeros(values // 2, device=device, dtype=kind)
    received = torch.empty_like(passed)
    providers = [
        Provider("floor: a copy of as many bytes", lambda: received.copy_(passed)),
        Provider("conv_transpose2d and cat", stepped(one_after_the_other)),
        Provider("upconv_concat", stepped(lambda: upconv_concat(*leaves)), True),
    ]
    name = (
        f"{photos} x {channels} x {side} x {side} and as many made, {str(kind).removeprefix('torch.')}, all gradients"
    )
    work = float(values * cotangent.itemsize)
    return [Case(name, work, "B/s", "conv_transpose2d and cat", providers, graph=True)]


if __name__ == "__main__":
    torch.backends.cudnn.benchmark = True
    main("upconv_concat", cases)
