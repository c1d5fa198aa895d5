"""Match contrastive loss on the CPU: blocks of rows, loss and gradient in the same pass.

Each term's gradient is known with its loss up to the factor that arrives from above, so backward only multiplies.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Rows by all columns, 1 MB, stay in the cache over the ten passes; fewer rows spend their time on calls.
BLOCK = 1 << 18


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, u: Tensor, v: Tensor, valid: Tensor, temperature: float) -> Tensor:
        loss = u.new_zeros(u.shape[:2])
        gradients = torch.zeros_like(u), torch.zeros_like(v)
        block = max(1, BLOCK // max(1, u.shape[1]))
        for sample, kept in enumerate(valid):
            ends = u[sample, kept], v[sample, kept]
            total = loss.new_zeros(len(ends[0]))
            for moving, fixed, gradient in zip(ends, reversed(ends), gradients, strict=True):
                slopes = torch.empty_like(moving)
                for start in range(0, len(moving), block):
                    rows = slice(start, start + block)
                    part, slopes[rows] = _rows(moving[rows], fixed, start, temperature)
                    total[rows] += part
                gradient[sample, kept] = slopes
            loss[sample, kept] = total
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        slope_u, slope_v = ctx.saved_tensors  # type: ignore[attr-defined]
        return slope_u * grad[:, :, None], slope_v * grad[:, :, None], None, None


def _rows(moving: Tensor, fixed: Tensor, start: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Return loss (R,) and its gradient (R, 2) of rows whose partners begin at `start`."""
    across = moving[:, 0, None] - fixed[:, 0]
    down = moving[:, 1, None] - fixed[:, 1]
    distance = across.square().addcmul_(down, down).sqrt_()
    nearest = distance.amin(1, keepdim=True)
    pull = (nearest - distance).div_(temperature).exp_()
    total = pull.sum(1, keepdim=True)
    loss = (distance.diagonal(start) - nearest[:, 0]).div_(temperature).add_(total[:, 0].log())
    # Weight of each candidate over its distance: what multiplies the difference of coordinates in the gradient.
    pull.div_(total.neg_())
    pull.diagonal(start).add_(1)
    pull.div_(distance.mul_(temperature).masked_fill_(distance == 0, torch.inf))
    slope = torch.stack((across.mul_(pull).sum(1), down.mul_(pull).sum(1)), 1)
    return loss, slope


def contrast(u: Tensor, v: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Return the loss (B, K) of each match, 0 where it is not valid."""
    loss: Tensor = _Contrast.apply(u, v, valid, temperature)
    return loss
