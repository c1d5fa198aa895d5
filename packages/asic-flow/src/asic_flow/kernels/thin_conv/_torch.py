"""Thin convolutions on the CPU, by torch's own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d


def stem(images: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, O, H, W) of a dtype."""
    return conv2d(images.to(dtype), weight.to(dtype), padding=1)


def thin(signal: Tensor, weight: Tensor) -> Tensor:
    """Return (B, O, H, W) of the signal's dtype."""
    return conv2d(signal, weight.to(signal.dtype), padding=1)


def head(signal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (B, O, H, W) of the weight's dtype, contiguous."""
    return conv2d(signal.to(weight.dtype), weight, bias).contiguous()
