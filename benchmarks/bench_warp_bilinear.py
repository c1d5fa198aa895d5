"""Forward and backward of the warp at the training shape: a shared canonical image seen by every photo."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Provider, main
from torch.nn.functional import grid_sample, interpolate

from asic_flow.kernels import warp_bilinear

PHOTOS, CHANNELS, SIDE, CANONICAL = 40, 4, 128, 256
# Side of the field of points that a flow network gives, before it is resized.
COARSE = 32


def field(side: int, device: torch.device) -> torch.Tensor:
    """Return the points (PHOTOS, side, side, 2) of a grid, moved a little."""
    steps = torch.linspace(-1, 1, side)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    moved = 0.05 * torch.randn(PHOTOS, side, side, 2, generator=torch.Generator().manual_seed(0))
    return (torch.stack((columns, rows), -1) + moved).to(device).requires_grad_()


def cases(device: torch.device) -> list[Case]:
    """Return forward and backward over 40 x 128 x 128 samples, at points given and at points resized and masked."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(CHANNELS, CANONICAL, CANONICAL, generator=generator).to(device).requires_grad_()
    points, coarse = field(SIDE, device), field(COARSE, device)
    mask = (torch.rand(PHOTOS, SIDE, SIDE, generator=generator) > 0.5).to(device, torch.float32)
    cotangent = torch.randn(PHOTOS, CHANNELS, SIDE, SIDE, generator=generator).to(device)

    def repeated(at: torch.Tensor) -> torch.Tensor:
        images = image[None].expand(PHOTOS, -1, -1, -1)
        return grid_sample(images, at, padding_mode="border", align_corners=True)

    def one_after_the_other(at: torch.Tensor) -> torch.Tensor:
        resized = interpolate(at.permute(0, 3, 1, 2), (SIDE, SIDE), mode="bilinear", align_corners=True)
        return repeated(resized.permute(0, 2, 3, 1)) * mask[:, None]

    def ours(at: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        return warp_bilinear(image, at, deterministic=deterministic)

    def fused(at: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        return warp_bilinear(image, at, mask=mask, size_hw=(SIDE, SIDE), deterministic=deterministic)

    def case(
        name: str, at: torch.Tensor, values: int, peer: Callable[..., torch.Tensor], own: Callable[..., torch.Tensor]
    ) -> Case:
        passed = torch.zeros(values, device=device)
        received = torch.empty_like(passed)

        def stepped(sample: Callable[..., torch.Tensor], **options: bool) -> Callable[[], object]:
            return lambda: torch.autograd.grad(sample(at, **options), (image, at), cotangent)

        providers = [
            Provider("floor: a copy of as many bytes", lambda: received.copy_(passed)),
            Provider("F.grid_sample of the repeated image", stepped(peer)),
            Provider("warp_bilinear", stepped(own), True),
        ]
        if device.type == "cuda":
            providers.append(Provider("warp_bilinear, atomic", stepped(own, deterministic=False), True))
            providers.append(Provider("torch.compile of F.grid_sample", stepped(torch.compile(peer))))
        return Case(name, 8.0 * values, "B/s", "F.grid_sample of the repeated image", providers, 1 / 3, graph=True)

    # Values: points, mask, samples and their gradients, each moved once, so that a copy reads half and writes half;
    # the image and its gradient stay in the cache.
    samples = PHOTOS * SIDE * SIDE * CHANNELS
    image_words = f"a shared {CHANNELS} x {CANONICAL} x {CANONICAL} image, both gradients"
    return [
        case(f"{PHOTOS} x {SIDE} x {SIDE} samples of {image_words}", points, samples + points.numel(), repeated, ours),
        case(
            f"the same at points {COARSE} x {COARSE}, resized, and masked",
            coarse,
            samples + coarse.numel() + mask.numel() // 2,
            one_after_the_other,
            fused,
        ),
    ]


if __name__ == "__main__":
    main("warp_bilinear", cases)
