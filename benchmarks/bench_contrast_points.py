"""Loss and both gradients of the match contrastive loss for a training step's pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Provider, main

from asic_flow.kernels import contrast_points

PAIRS, MATCHES = 10, 1000


def cases(device: torch.device) -> list[Case]:
    """Return 10 pairs of 1,000 matches."""
    generator = torch.Generator().manual_seed(0)
    u = (torch.rand(PAIRS, MATCHES, 2, generator=generator) * 2 - 1).to(device)
    v = (u + 0.05 * torch.randn(u.shape, generator=generator).to(device)).requires_grad_()
    u.requires_grad_()
    partner = torch.arange(MATCHES, device=device).expand(PAIRS, -1)

    def cross_entropy(distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        own, back = distance(u, v.detach()), distance(v, u.detach())
        entropy = torch.nn.functional.cross_entropy
        return entropy(-own.transpose(1, 2), partner, reduction="sum") + entropy(
            -back.transpose(1, 2), partner, reduction="sum"
        )

    def broadcast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        distance: torch.Tensor = torch.linalg.vector_norm(a[:, :, None] - b[:, None], dim=-1)
        return distance

    def stepped(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), (u, v))

    # As many at a time as stay in a cache, the GPU's being larger.
    numbers = torch.rand((MATCHES if device.type == "cpu" else PAIRS * MATCHES) // 4, MATCHES, device=device)
    results = torch.empty_like(numbers)

    def roots_and_exponentials() -> None:
        for _ in range(2 * PAIRS * MATCHES**2 // numbers.numel()):
            torch.sqrt(numbers, out=results)
            torch.exp(results, out=results)

    providers = [
        Provider("floor: as many roots and exponentials", roots_and_exponentials),
        Provider("broadcast norm and cross_entropy", stepped(lambda: cross_entropy(broadcast))),
        Provider("cdist and cross_entropy", stepped(lambda: cross_entropy(torch.cdist))),
        Provider("contrast_points", stepped(lambda: contrast_points(u, v).sum()), True),
    ]
    # FLOP: about 16 for every distance, its exponential and its share of the gradient, from either end.
    work = 2.0 * 16 * PAIRS * MATCHES**2
    name = f"{PAIRS} pairs of {MATCHES:,} matches, both gradients"
    return [Case(name, work, "FLOP/s", "cdist and cross_entropy", providers, graph=True)]


if __name__ == "__main__":
    main("contrast_points", cases)
