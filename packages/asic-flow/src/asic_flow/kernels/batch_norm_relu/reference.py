"""Oracle of batch normalisation with ReLU, in plain differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d


def normalise(
    signal: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    pool: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the normalised signal and, where asked, its pooled form; takes the batch into the running statistics."""
    values = signal.to(weight.dtype)
    mean = values.mean((0, 2, 3))
    variance = (values - mean[:, None, None]).square().mean((0, 2, 3))
    count = signal.numel() // signal.shape[1]
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * count / (count - 1), momentum)
    scale = weight / (variance + eps).sqrt()
    out = ((values - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]).relu().to(signal.dtype)
    return out, max_pool2d(out, 2) if pool else None
