"""Dense conditional random field by mean field, without a compiler.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials" (2011): every pixel
is tied to every other by a kernel of place and one of place and colour. With kernels of a few pixels the far pairs
weigh nothing, so that sums over a window replace the high-dimensional filter of the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from asic_features.colour import blur

_REACH = 2.5  # of the kernel's width, beyond which pairs are left out


@dataclass(frozen=True)
class CrfSettings:
    """Kernels of the field; the values are those ASIC (ICCV 2023) takes for parts.

    Attributes:
        smooth_px: Width of the kernel of place.
        smooth_weight: Its weight.
        bilateral_px: Width in place of the kernel of place and colour.
        bilateral_colour: Its width in 8-bit RGB.
        bilateral_weight: Its weight.
        rounds: Mean-field updates.
    """

    smooth_px: float = 3.0
    smooth_weight: float = 50.0
    bilateral_px: float = 5.0
    bilateral_colour: float = 13.0
    bilateral_weight: float = 15.0
    rounds: int = 10


@torch.inference_mode()
def mean_field(image: torch.Tensor, energy: torch.Tensor, settings: CrfSettings | None = None) -> torch.Tensor:
    """Label probabilities that agree with near pixels, those of like colour above all.

    Kernels are normalised symmetrically, labels that differ cost one (Potts).

    Args:
        image: (H, W, 3) uint8.
        energy: (L, H, W) cost of each label at each pixel.
        settings: The kernels.

    Returns:
        (L, H, W) float32, summing to 1 over the labels.
    """
    settings = settings or CrfSettings()
    energy = energy.float()
    window = _Window(image.permute(2, 0, 1).float(), settings.bilateral_px, settings.bilateral_colour)
    ones = torch.ones(1, *energy.shape[1:], device=energy.device)
    smooth_scale = _spatial(ones, settings.smooth_px).rsqrt()
    bilateral_scale = window.sum(ones).rsqrt()
    answer = (-energy).softmax(dim=0)
    for _ in range(settings.rounds):
        smooth = smooth_scale * _spatial(answer * smooth_scale, settings.smooth_px)
        bilateral = bilateral_scale * window.sum(answer * bilateral_scale)
        answer = (settings.smooth_weight * smooth + settings.bilateral_weight * bilateral - energy).softmax(dim=0)
    return answer


def _spatial(maps: torch.Tensor, width: float) -> torch.Tensor:
    """Gaussian sums over the image, up to a constant factor; nothing lies beyond its border."""
    radius = int(3 * width + 0.5)
    padded = functional.pad(maps[None], (radius, radius, radius, radius))
    return blur(padded, width)[0, :, radius:-radius, radius:-radius]


class _Window:
    """Sums with a kernel of place and colour over a window of offsets."""

    def __init__(self, colours: torch.Tensor, width: float, colour_width: float) -> None:
        reach = int(_REACH * width + 0.5)
        height, columns = colours.shape[1:]
        self._offsets: list[tuple[int, int]] = []
        self._weights: list[torch.Tensor] = []
        for down in range(reach + 1):
            for right in range(-reach, reach + 1):
                # Half of the window: the other half has the same weights.
                if (down, right) <= (0, 0) or down >= height or abs(right) >= columns:
                    continue
                if down * down + right * right > reach * reach:
                    continue
                here, there = _overlap(colours, down, right)
                squared = (here - there).square().sum(dim=0) / colour_width**2
                place = (down * down + right * right) / width**2
                self._offsets.append((down, right))
                self._weights.append(torch.exp(-(squared + place) / 2))

    def sum(self, maps: torch.Tensor) -> torch.Tensor:
        """(L, H, W) kernel-weighted sums of maps, each pixel itself included."""
        total = maps.clone()
        for (down, right), weight in zip(self._offsets, self._weights, strict=True):
            here, there = _overlap(maps, down, right)
            total_here, total_there = _overlap(total, down, right)
            total_here += weight * there
            total_there += weight * here
        return total


def _overlap(maps: torch.Tensor, down: int, right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of the pixels that have a partner so many rows down and columns to the right, and of these partners."""
    height, width = maps.shape[1:]
    left, stop = max(0, -right), width - max(0, right)
    return maps[:, : height - down, left:stop], maps[:, down:, left + right : stop + right]
