"""Forward and backward of the warp at the training shape: a shared canonical image seen by every photo."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Provider, main

from asic_flow.kernels import warp_bilinear

PHOTOS, CHANNELS, SIDE, CANONICAL = 40, 4, 128, 256


def cases(device: torch.device) -> list[Case]:
    """Return forward and backward over 40 x 128 x 128 samples of one 4 x 256 x 256 image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(CHANNELS, CANONICAL, CANONICAL, generator=generator).to(device).requires_grad_()
    steps = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack((columns, rows), -1) + 0.05 * torch.randn(PHOTOS, SIDE, SIDE, 2, generator=generator)
    points = points.to(device).requires_grad_()
    cotangent = torch.randn(PHOTOS, CHANNELS, SIDE, SIDE, generator=generator).to(device)

    def repeated() -> torch.Tensor:
        images = image[None].expand(PHOTOS, -1, -1, -1)
        return torch.nn.functional.grid_sample(images, points, padding_mode="border", align_corners=True)

    def stepped(sample: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(sample(), (image, points), cotangent)

    passed = torch.zeros(PHOTOS * SIDE * SIDE * (2 + CHANNELS), device=device)
    received = torch.empty_like(passed)
    providers = [
        Provider("floor: a copy of as many bytes", lambda: received.copy_(passed)),
        Provider("F.grid_sample of the repeated image", stepped(repeated)),
        Provider("warp_bilinear", stepped(lambda: warp_bilinear(image, points)), True),
    ]
    if device.type == "cuda":
        atomic = stepped(lambda: warp_bilinear(image, points, deterministic=False))
        providers.append(Provider("warp_bilinear, atomic", atomic, True))
        providers.append(Provider("torch.compile of F.grid_sample", stepped(torch.compile(repeated))))
    # Bytes: points, samples and their gradients once each way; the image and its gradient stay in the cache.
    moved = 4.0 * PHOTOS * SIDE * SIDE * (2 + CHANNELS) * 2
    name = (
        f"{PHOTOS} x {SIDE} x {SIDE} samples of a shared {CHANNELS} x {CANONICAL} x {CANONICAL} image, both gradients"
    )
    return [Case(name, moved, "B/s", "F.grid_sample of the repeated image", providers, 1 / 3)]


if __name__ == "__main__":
    main("warp_bilinear", cases)
