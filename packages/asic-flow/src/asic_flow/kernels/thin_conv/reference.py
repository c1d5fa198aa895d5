"""Oracles of the thin convolutions, in plain differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def _convolve(signal: Tensor, weight: Tensor) -> Tensor:
    """Every pixel's 3 x 3 neighbours, zero outside, times the weights."""
    _, _, height, width = signal.shape
    padded = pad(signal, (1, 1, 1, 1))
    shifted = [padded[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return torch.einsum("kbchw,ock->bohw", torch.stack(shifted), weight.flatten(2))


def stem(images: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, O, H, W) of a dtype."""
    return _convolve(images.to(dtype), weight.to(dtype))


def thin(signal: Tensor, weight: Tensor) -> Tensor:
    """Return (B, O, H, W) of the signal's dtype."""
    return _convolve(signal, weight.to(signal.dtype))


def head(signal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (B, O, H, W) of the weight's dtype."""
    field = torch.einsum("bchw,oc->bohw", signal.to(weight.dtype), weight.flatten(1)) + bias[:, None, None]
    return field.contiguous()
