"""Batch normalisation with ReLU: validation and dispatch."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation, own_precision


def batch_norm_relu(
    signal: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    impl: Implementation = "auto",
) -> Tensor:
    """Normalise every channel by the batch's own mean and variance, as in training, and cut off what is below zero.

        max(0, weight (signal - mean) / sqrt(variance + eps) + bias)

    Differentiable once in signal, weight and bias (the reference, any number of times). Sums are float32, or float64
    for float64 input. On a GPU it is bit-stable and returns channels last. A number that is not finite makes
    its whole channel NaN.

    Args:
        signal: (B, C, H, W) float32, bfloat16 or float16; float64 on the CPU.
        weight: (C,) float32, or float64 with such a signal.
        bias: (C,) of the weight's dtype.
        running_mean: (C,) contiguous, moved towards the batch's mean in place.
        running_var: (C,) contiguous, moved towards the batch's unbiased variance in place.
        momentum: by which share of the way, 0 to 1.
        eps: what keeps a channel without variance finite, above 0.
        impl: `"auto"` takes Triton on CUDA and torch's own on the CPU; a named one never falls back.

    Returns:
        (B, C, H, W) of the signal's dtype.

    Raises:
        ValueError: shapes, devices or settings that do not fit; a single value a channel, which has no variance.
        TypeError: dtypes that do not fit.

    References:
        Ioffe and Szegedy, Batch Normalization, ICML 2015.

    >>> one = torch.ones(1)
    >>> signal = torch.tensor([-1.0, 3.0]).view(1, 1, 1, 2)
    >>> batch_norm_relu(signal, one, one, one.clone(), one.clone(), eps=1e-12).flatten().tolist()
    [0.0, 2.0]
    """
    return _normalise(signal, weight, bias, running_mean, running_var, momentum, eps, impl, pool=False)[0]


def batch_norm_relu_pool(
    signal: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    impl: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Do what `batch_norm_relu` does, and take the largest of every 2 x 2 pixels as well.

    Of equal ones the first in reading order has the gradient, as in torch's pooling.

    Args:
        signal: (B, C, H, W) with H and W even.
        weight: see `batch_norm_relu`, as all that follow.
        bias: likewise.
        running_mean: likewise.
        running_var: likewise.
        momentum: likewise.
        eps: likewise.
        impl: likewise.

    Returns:
        (B, C, H, W) and (B, C, H / 2, W / 2).
    """
    found = _normalise(signal, weight, bias, running_mean, running_var, momentum, eps, impl, pool=True)
    return cast("tuple[Tensor, Tensor]", found)


def _normalise(
    signal: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    impl: Implementation,
    *,
    pool: bool,
) -> tuple[Tensor, Tensor | None]:
    if signal.ndim != 4 or signal.numel() < 2 * signal.shape[1] or not signal.shape[1]:
        raise ValueError(
            f"signal must be (B, C, H, W) with two values a channel or more, got shape {tuple(signal.shape)}"
        )
    if pool and (signal.shape[2] % 2 or signal.shape[3] % 2):
        raise ValueError(f"pooling halves an even height and width, got shape {tuple(signal.shape)}; pad the signal")
    if signal.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise TypeError(f"signal must be floating point, got {signal.dtype}; convert it with .float()")
    sums = torch.float64 if signal.dtype == torch.float64 else torch.float32
    ours = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, values in ours.items():
        if values.shape != signal.shape[1:2]:
            raise ValueError(f"{name} must be ({signal.shape[1]},), got {tuple(values.shape)}; give one a channel")
        if values.dtype != sums:
            raise TypeError(f"{name} must be {sums} with a signal of {signal.dtype}, got {values.dtype}; convert it")
        if values.device != signal.device:
            raise ValueError(f"{name} must be on {signal.device} with the signal, got {values.device}; use .to()")
        if name.startswith("running") and not values.is_contiguous():
            raise ValueError(f"{name} is written to and must be contiguous, got strides {values.stride()}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be from 0 to 1, got {momentum}; 0.1 is usual")
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps}; 1e-5 is usual")
    module = load_implementation("batch_norm_relu", impl, signal.device)
    with own_precision(signal.device):
        found: tuple[Tensor, Tensor | None] = module.normalise(
            signal, weight, bias, running_mean, running_var, momentum, eps, pool
        )
    return found
