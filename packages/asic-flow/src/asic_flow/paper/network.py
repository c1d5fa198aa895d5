"""The flow network: a plain U-Net from RGB to a displacement of every pixel in canonical space."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from asic_flow.kernels import head_conv, stem_conv, thin_conv, upconv_concat
from asic_flow.kernels.thin_conv.api import MOST_IMAGE_CHANNELS, MOST_THIN_CHANNELS
from asic_flow.paper.synchronised import BatchNormRelu

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
        stem = _Block(channels, widths[0], _Stem)
        self.down = nn.ModuleList([stem, *(_Block(*pair) for pair in pairwise(widths[:-1]))])
        self.deepest = _Block(widths[-2], widths[-1])
        last = 2 if quarter else 0
        levels = range(_LEVELS - 2, last - 1, -1)
        self.lift = nn.ModuleList(
            [_Lift(widths[level + 1], widths[level], kernel_size=2, stride=2) for level in levels]
        )
        self.up = nn.ModuleList([_Block(2 * widths[level], widths[level]) for level in levels])
        self.head = _Head(widths[last], 2, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S), RGB in [-1, 1], to displacements (B, 2, S, S), or (B, 2, S / 4, S / 4) with a quarter head."""
        passed = []
        signal = images
        for block in self.down:
            out, signal = cast("_Block", block).pooled(signal)
            passed.append(out)
        signal = self.deepest(signal)
        for lift, block in zip(self.lift, self.up, strict=True):
            signal = block(lift(passed.pop(), signal))
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


class _Lift(nn.ConvTranspose2d):
    """Doubles a signal's resolution and joins it to what was passed across."""

    def forward(self, skip: Tensor, low: Tensor) -> Tensor:  # type: ignore[override]
        return upconv_concat(skip, low, self.weight, cast("Tensor", self.bias))


class _Stem(nn.Conv2d):
    """The first convolution: in the precision of autocast, where that is on."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] > MOST_IMAGE_CHANNELS or images.requires_grad:
            return super().forward(images)
        kind = images.device.type
        reduced = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return stem_conv(images, self.weight, dtype=torch.get_autocast_dtype(kind) if reduced else images.dtype)


class _Inner(nn.Conv2d):
    """Any other 3 x 3 convolution; in half precision, that of a thin signal has a weight gradient of its own."""

    def forward(self, signal: Tensor) -> Tensor:
        if signal.is_cuda and signal.itemsize == 2 and signal.shape[1] <= MOST_THIN_CHANNELS:
            return thin_conv(signal, self.weight)
        return super().forward(signal)


class _Head(nn.Conv2d):
    """The last convolution, to a float32 field."""

    def forward(self, signal: Tensor) -> Tensor:
        return head_conv(signal, self.weight, cast("Tensor", self.bias))


class _Block(nn.Module):
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, inner: int, outer: int, convolution: type[nn.Conv2d] = _Inner) -> None:
        super().__init__()
        self.first = convolution(inner, outer, kernel_size=3, padding=1, bias=False)
        self.first_norm = BatchNormRelu(outer)
        self.second = _Inner(outer, outer, kernel_size=3, padding=1, bias=False)
        self.second_norm = BatchNormRelu(outer)

    def forward(self, signal: Tensor) -> Tensor:
        out: Tensor = self.second_norm(self._convolved(signal))
        return out

    def pooled(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the same, and the largest of every 2 x 2 pixels of it."""
        return self.second_norm.pooled(self._convolved(signal))

    def _convolved(self, signal: Tensor) -> Tensor:
        out: Tensor = self.second(self.first_norm(self.first(signal)))
        return out
