"""The three thin convolutions of a flow network, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from harness import Case, Provider, main
from torch import Tensor
from torch.nn.functional import conv2d

from asic_flow.kernels import head_conv, stem_conv, thin_conv

SEEN, FIELD = 3, 2


def cases(device: torch.device) -> list[Case]:
    """Return the convolutions at full resolution of `paper` on a GPU, of `paper-small` on a CPU."""
    on_gpu = device.type == "cuda"
    photos, channels, side = (40, 32, 256) if on_gpu else (20, 8, 64)
    kind, layout = (torch.bfloat16, torch.channels_last) if on_gpu else (torch.float32, torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    def signal() -> Tensor:
        return drawn(photos, channels, side, side).to(kind).contiguous(memory_format=layout)

    def rounded(weight: Tensor) -> Tensor:
        return weight.to(kind, memory_format=layout)

    images, inner = drawn(photos, SEEN, side, side), signal().requires_grad_()
    stem, thin = (drawn(channels, count, 3, 3).requires_grad_() for count in (SEEN, channels))
    head, bias = drawn(FIELD, channels, 1, 1).requires_grad_(), drawn(FIELD).requires_grad_()
    cotangent, of_field = signal(), drawn(photos, FIELD, side, side)

    def torch_stem() -> Tensor:
        return conv2d(images.to(kind, memory_format=layout), rounded(stem), padding=1)

    def torch_head() -> Tensor:
        return conv2d(inner, rounded(head), bias.to(kind)).float().contiguous()

    def case(
        name: str, values: int, leaves: tuple[Tensor, ...], given: Tensor, peer: Callable[[], Tensor], own: Provider
    ) -> Case:
        # A copy reads half of the bytes and writes half.
        passed = torch.zeros(values // 2, device=device, dtype=kind)
        received = torch.empty_like(passed)

        def stepped(convolve: Callable[[], object]) -> Callable[[], object]:
            return lambda: torch.autograd.grad(cast("Tensor", convolve()), leaves, given)

        providers = [
            Provider("floor: a copy of as many bytes", lambda: received.copy_(passed)),
            Provider("F.conv2d", stepped(peer)),
            Provider(own.name, stepped(own.run), True),
        ]
        return Case(name, float(values * received.itemsize), "B/s", "F.conv2d", providers, graph=True)

    words = f"{photos} x {side} x {side}, {str(kind).removeprefix('torch.')}, gradients"
    # Each signal is moved once, and so is each gradient: the stem's images have none; fields are float32.
    few = images.numel() * images.itemsize // inner.itemsize
    field = of_field.numel() * of_field.itemsize // inner.itemsize
    count = inner.numel()
    return [
        case(
            f"{SEEN} to {channels} channels, {words}",
            2 * (count + few),
            (stem,),
            cotangent,
            torch_stem,
            Provider("stem_conv", lambda: stem_conv(images, stem, dtype=kind)),
        ),
        case(
            f"{channels} to {channels} channels, {words}",
            5 * count,
            (inner, thin),
            cotangent,
            lambda: conv2d(inner, rounded(thin), padding=1),
            Provider("thin_conv", lambda: thin_conv(inner, thin)),
        ),
        case(
            f"{channels} to {FIELD} channels, {words}",
            3 * count + 2 * field,
            (inner, head, bias),
            of_field,
            torch_head,
            Provider("head_conv", lambda: head_conv(inner, head, bias)),
        ),
    ]


if __name__ == "__main__":
    torch.backends.cudnn.benchmark = True
    main("thin_conv", cases)
