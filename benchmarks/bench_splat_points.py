"""Heat maps and pictures of keypoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from harness import Case, Provider, main

from asic_flow.kernels import splat_points
from asic_flow.kernels.dispatch import Implementation

Mode = Literal["add", "over"]
PHOTOS, SIDE, POINTS = 8, 256, 200


def cases(device: torch.device) -> list[Case]:
    """Return 200 points on 8 photos, added and painted over."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(PHOTOS, 3, SIDE, SIDE, device=device)
    points = (torch.rand(PHOTOS, POINTS, 2, generator=generator) * SIDE).to(device)
    values = torch.rand(PHOTOS, POINTS, 3, generator=generator).to(device)

    def drawn(mode: Mode, impl: Implementation) -> Callable[[], object]:
        return lambda: splat_points(images, points, values, sigma_px=2.0, mode=mode, impl=impl)

    modes: tuple[Mode, ...] = ("add", "over")

    # FLOP: a product and a sum for every point, channel and pixel of the full drawing.
    work = 2.0 * PHOTOS * 3 * POINTS * SIDE * SIDE
    return [
        Case(
            f"{POINTS} points on {PHOTOS} photos of {SIDE} x {SIDE} x 3, {mode}",
            work,
            "FLOP/s",
            "every point on every pixel",
            [
                Provider("floor: a copy of the images", images.clone),
                Provider("every point on every pixel", drawn(mode, "reference")),
                Provider("splat_points", drawn(mode, "auto"), True),
            ],
            graph=True,
        )
        for mode in modes
    ]


if __name__ == "__main__":
    main("splat_points", cases)
