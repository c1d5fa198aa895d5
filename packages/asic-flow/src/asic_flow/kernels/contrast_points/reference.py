"""Dense oracle of the match contrastive loss, in plain differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor


def contrast(u: Tensor, v: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Return the loss (B, K) of each match, 0 where it is not valid."""
    u, v = (torch.where(valid[:, :, None], ends, 0) for ends in (u, v))
    logits_u = _logits(u, v.detach(), temperature)
    logits_v = _logits(v, u.detach(), temperature)
    return _cross_entropy(logits_u, valid) + _cross_entropy(logits_v, valid)


def _logits(moving: Tensor, fixed: Tensor, temperature: float) -> Tensor:
    squared = (moving[:, :, None] - fixed[:, None]).square().sum(-1)
    # The gradient of a distance of exactly zero is taken as zero.
    positive = squared > 0
    distance = torch.where(positive, torch.where(positive, squared, torch.ones_like(squared)).sqrt(), 0)
    return -distance / temperature


def _cross_entropy(logits: Tensor, valid: Tensor) -> Tensor:
    # A padded row would see no candidate at all, so it sees everything and is dropped afterwards.
    candidates = logits.masked_fill(~valid[:, None] & valid[:, :, None], -torch.inf)
    loss = candidates.logsumexp(2) - logits.diagonal(dim1=1, dim2=2)
    return torch.where(valid, loss, torch.zeros_like(loss))
