"""A network of coordinates: a plain multilayer perceptron on their Fourier features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def encode(points: Tensor, frequencies: int) -> Tensor:
    """(..., 2 + 4 f): xy with its sines and cosines at f octaves, `sin(2^k pi x)` for k = 0 to f - 1.

    Coordinates are taken as they are: rounded to pixels first, as published, most places share their code with others.
    Source: Mildenhall et al., "NeRF", ECCV 2020.

    >>> encode(torch.tensor([[0.0, 0.0]]), 1).tolist()
    [[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]
    """
    octaves = torch.pi * 2.0 ** torch.arange(frequencies, device=points.device)
    angles = (points[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat((points, angles.sin(), angles.cos()), -1)


class CoordinateNetwork(nn.Module):
    """Layers of one width with ReLU, some of which see the encoded coordinates again."""

    def __init__(self, outer: int, *, width: int, depth: int, skips: tuple[int, ...], frequencies: int, code: int = 0):
        """Builds the network.

        Args:
            outer: Values it returns a place.
            width: Of the layers.
            depth: Their number.
            skips: Layers, from 0, that see the input beside the layer before.
            frequencies: Octaves of the encoding.
            code: Values that come beside the coordinates.
        """
        super().__init__()
        first = 2 + 4 * frequencies + code
        self.frequencies, self.skips = frequencies, skips
        self.layers = nn.ModuleList(
            [
                nn.Linear(first if layer == 0 else width + (first if layer in skips else 0), width)
                for layer in range(depth)
            ]
        )
        self.head = nn.Linear(width, outer)

    def forward(self, points: Tensor, code: Tensor | None = None) -> Tensor:
        """(..., 2) xy in [-1, 1], with (..., code) values beside them, to (..., outer)."""
        seen = encode(points, self.frequencies)
        seen = seen if code is None else torch.cat((seen, code), -1)
        signal = seen
        for number, layer in enumerate(self.layers):
            signal = layer(torch.cat((signal, seen), -1) if number in self.skips else signal).relu()
        found: Tensor = self.head(signal)
        return found
