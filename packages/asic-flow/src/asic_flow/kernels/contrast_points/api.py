"""Match contrastive loss on 2-D points: validation and dispatch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation
from asic_flow.kernels.finite import all_finite


def contrast_points(
    u: Tensor, v: Tensor, *, valid: Tensor | None = None, temperature: float = 1.0, impl: Implementation = "auto"
) -> Tensor:
    r"""Tell each match's two ends in canonical space from the ends of the other matches of its pair.

    For match k the loss is the cross-entropy of its partner among all partners, by distance, once from either end:

        L_k = |u_k - v_k| / T + log sum_j exp(-|u_k - v_j| / T)      (v held fixed)
            + |v_k - u_k| / T + log sum_j exp(-|v_k - u_j| / T)      (u held fixed)

    Differentiable once in u and v (the reference, any number of times); each term moves only its own end. Sums are
    float32, or float64 for float64 input. Bit-stable: no atomics. The gradient of a distance of zero is zero.
    Points must be finite where valid; padding may hold anything. On the CPU others are refused; elsewhere, where asking
    would wait for the device, they make losses and gradients of their pair NaN or infinite.

    Args:
        u: (B, K, 2) canonical points of the first ends of B pairs with up to K matches; float32, float64 on the CPU.
        v: (B, K, 2) canonical points of the second ends.
        valid: (B, K) bool, which matches count; None for all. The others have loss 0 and gradient 0.
        temperature: T in the units of the points, above 0.
        impl: `"auto"` takes Triton on CUDA and blocks of rows on the CPU; a named one never falls back.

    Returns:
        (B, K) losses, for the caller to weigh and average.

    Raises:
        ValueError: shapes, devices or a temperature that do not fit; on the CPU, valid points that are not finite.
        TypeError: dtypes that do not fit.

    References:
        Gupta et al., ASIC: Aligning Sparse Image Collections, ICCV 2023, the match loss; masked padding is ours.
    """
    if u.ndim != 3 or u.shape[-1] != 2 or u.shape != v.shape:
        raise ValueError(
            f"u and v must both be (B, K, 2), got {tuple(u.shape)} and {tuple(v.shape)}; pad the shorter pairs"
        )
    if u.dtype not in (torch.float32, torch.float64) or u.dtype != v.dtype:
        raise TypeError(f"u and v must both be float32 or float64, got {u.dtype} and {v.dtype}; convert with .float()")
    if valid is None:
        valid = torch.ones(u.shape[:2], dtype=torch.bool, device=u.device)
    if valid.shape != u.shape[:2]:
        raise ValueError(f"valid must be {tuple(u.shape[:2])}, got {tuple(valid.shape)}; give one flag a match")
    if valid.dtype != torch.bool:
        raise TypeError(f"valid must be bool, got {valid.dtype}; convert it with .bool()")
    if not u.device == v.device == valid.device:
        raise ValueError(
            f"u, v and valid must share a device, got {u.device}, {v.device} and {valid.device}; use .to()"
        )
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}; 1.0 is the published value")
    if u.is_cpu and not all(all_finite(torch.where(valid[:, :, None], ends, 0)) for ends in (u, v)):
        raise ValueError("u and v must be finite where valid, got NaN or infinite points; mask those matches out")
    module = load_implementation("contrast_points", impl, u.device)
    loss: Tensor = module.contrast(u, v, valid, temperature)
    return loss
