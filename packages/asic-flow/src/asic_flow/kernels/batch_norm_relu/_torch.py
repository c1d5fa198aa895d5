"""Batch normalisation with ReLU on the CPU: torch's own, which are as fast as memory allows."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import batch_norm, max_pool2d, relu


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
    normalised = batch_norm(signal, running_mean, running_var, weight, bias, training=True, momentum=momentum, eps=eps)
    out = relu(normalised, inplace=True)
    return out, max_pool2d(out, 2) if pool else None
