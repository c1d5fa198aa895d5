"""The flow network: a plain U-Net from RGB to a displacement of every pixel in canonical space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asic_flow.paper.synchronised import BatchNorm

_LEVELS = 5
_FIRST_WIDTH = 64


class FlowNetwork(nn.Module):
    """A U-Net of five levels, two 3 x 3 convolutions with batch normalisation and ReLU each.

    The last layer starts at zero, so that every photo's map starts as the identity. Source: Ronneberger et al.,
    "U-Net", 2015; Gupta et al., ICCV 2023.
    """

    def __init__(self, width: float, *, quarter: bool, channels: int = 3) -> None:
        """Builds the network.

        Args:
            width: Multiple of 64 channels in the first level; each next level has twice as many.
            quarter: Whether the flow stops at a quarter of the input's resolution.
            channels: Of the input.
        """
        super().__init__()
        widths = [max(1, round(_FIRST_WIDTH * width)) * 2**level for level in range(_LEVELS)]
        self.down = nn.ModuleList(
            [_block(inner, outer) for inner, outer in zip([channels, *widths], widths, strict=False)]
        )
        last = 2 if quarter else 0
        levels = range(_LEVELS - 2, last - 1, -1)
        self.lift = nn.ModuleList(
            [nn.ConvTranspose2d(widths[level + 1], widths[level], kernel_size=2, stride=2) for level in levels]
        )
        self.up = nn.ModuleList([_block(2 * widths[level], widths[level]) for level in levels])
        self.head = nn.Conv2d(widths[last], 2, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S), RGB in [-1, 1], to displacements (B, 2, S, S), or (B, 2, S / 4, S / 4) with a quarter head."""
        passed = []
        signal = images
        for level, block in enumerate(self.down):
            signal = block(signal if level == 0 else nn.functional.max_pool2d(signal, 2))
            passed.append(signal)
        for depth, (lift, block) in enumerate(zip(self.lift, self.up, strict=True)):
            signal = block(torch.cat((passed[-2 - depth], lift(signal)), 1))
        displacement: Tensor = self.head(signal)
        return displacement


def flow_of(displacement: Tensor) -> Tensor:
    """(B, h, w, 2) canonical xy of the pixels of a field: the identity in [-1, 1] plus (B, 2, h, w) displacements."""
    height, width = displacement.shape[-2:]
    moved = displacement.permute(0, 2, 3, 1).float()
    return (identity_grid((height, width), displacement.device) + moved).contiguous()


def identity_grid(size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w, 2) float32: every pixel's own xy in [-1, 1], corners aligned."""
    y, x = (torch.linspace(-1, 1, length, device=device) for length in size_hw)
    return torch.stack((x[None].expand(size_hw), y[:, None].expand(size_hw)), -1)


def _block(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel_size=3, padding=1, bias=False),
        BatchNorm(outer),
        nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, kernel_size=3, padding=1, bias=False),
        BatchNorm(outer),
        nn.ReLU(inplace=True),
    )
