"""Oracle of the step up, in plain differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor


def join(skip: Tensor, low: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (B, S + C, 2 h, 2 w): the skip, and every low pixel as the four that its channels make."""
    made = torch.einsum("bihw,icyx->bchywx", low, weight.to(low.dtype))
    lifted = made.reshape(len(low), weight.shape[1], *skip.shape[2:]) + bias.to(low.dtype)[:, None, None]
    return torch.cat((skip, lifted), 1)
