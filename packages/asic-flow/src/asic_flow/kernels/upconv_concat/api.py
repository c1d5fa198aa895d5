"""A U-Net's step up: validation and dispatch."""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation, own_precision


def upconv_concat(skip: Tensor, low: Tensor, weight: Tensor, bias: Tensor, *, impl: Implementation = "auto") -> Tensor:
    """Double the resolution of a signal by a transposed convolution and join it to another along the channels.

        cat(skip, conv_transpose2d(low, weight, bias, stride=2))

    Differentiable once in all four (the reference, any number of times). On a GPU it is bit-stable, the result's
    channels lie side by side; the weight is rounded to the signals' precision, and sums are float32.

    Args:
        skip: (B, S, 2 h, 2 w) float32, bfloat16 or float16; float64 on the CPU.
        low: (B, I, h, w) of the same dtype.
        weight: (I, C, 2, 2) floating point.
        bias: (C,) floating point.
        impl: `"auto"` takes Triton on CUDA and torch's own on the CPU; a named one never falls back.

    Returns:
        (B, S + C, 2 h, 2 w) of the signals' dtype: first the skip's channels.

    Raises:
        ValueError: shapes or devices that do not fit.
        TypeError: dtypes that do not fit.

    References:
        Ronneberger et al., U-Net, 2015.

    >>> low, weight = torch.ones(1, 1, 1, 1), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> upconv_concat(torch.zeros(1, 1, 2, 2), low, weight, torch.ones(1)).tolist()
    [[[[0.0, 0.0], [0.0, 0.0]], [[2.0, 3.0], [4.0, 5.0]]]]
    """
    if skip.ndim != 4 or low.ndim != 4 or skip.shape[::2] != (low.shape[0], 2 * low.shape[2]) or not skip.numel():
        raise ValueError(
            f"skip must be (B, S, 2 h, 2 w) and low (B, I, h, w), got {tuple(skip.shape)} and {tuple(low.shape)}"
        )
    if skip.shape[3] != 2 * low.shape[3] or not low.numel():
        raise ValueError(f"skip must be twice as wide as low, got {tuple(skip.shape)} and {tuple(low.shape)}")
    if weight.ndim != 4 or len(weight) != low.shape[1] or weight.shape[2:] != (2, 2):
        raise ValueError(f"weight must be ({low.shape[1]}, C, 2, 2), got {tuple(weight.shape)}")
    if bias.shape != weight.shape[1:2] or not len(bias):
        raise ValueError(
            f"bias must be ({weight.shape[1]},), got {tuple(bias.shape)}; give one a channel of the weight"
        )
    if skip.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16) or low.dtype != skip.dtype:
        raise TypeError(f"skip and low must share a floating point dtype, got {skip.dtype} and {low.dtype}; convert")
    for name, tensor in (("low", low), ("weight", weight), ("bias", bias)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}; convert it with .float()")
        if tensor.device != skip.device:
            raise ValueError(f"{name} must be on {skip.device} with the skip, got {tensor.device}; move it with .to()")
    module = load_implementation("upconv_concat", impl, skip.device)
    with own_precision(skip.device):
        joined: Tensor = module.join(skip, low, weight, bias)
    return joined
