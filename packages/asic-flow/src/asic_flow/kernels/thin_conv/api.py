"""Thin convolutions: validation and dispatch.

A library's convolution fills few channels up to what its tiles hold, and spends its time there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation, own_precision

MOST_IMAGE_CHANNELS = 14
MOST_THIN_CHANNELS = 32
MOST_FIELD_CHANNELS = 4
_HALVES = (torch.bfloat16, torch.float16)


def stem_conv(
    images: Tensor, weight: Tensor, *, dtype: torch.dtype = torch.float32, impl: Implementation = "auto"
) -> Tensor:
    """Convolve images of few channels 3 x 3 with zeros around, as a network's first layer does.

        conv2d(images, weight, padding=1)

    Differentiable once in the weight (the reference, any number of times). On a GPU it is bit-stable, the result's
    channels lie side by side, images and weight are rounded to `dtype` and sums are float32.

    Args:
        images: (B, C, H, W) float32, C up to 14; not differentiable. Float64 on the CPU.
        weight: (O, C, 3, 3) of the images' dtype.
        dtype: of the products and of the result: float32, bfloat16 or float16; float64 on the CPU.
        impl: `"auto"` takes Triton on CUDA and torch's own on the CPU; a named one never falls back.

    Returns:
        (B, O, H, W) of `dtype`.

    Raises:
        ValueError: shapes or devices that do not fit, or images that require a gradient.
        TypeError: dtypes that do not fit.

    >>> stem_conv(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 3, 3)).tolist()
    [[[[4.0, 6.0, 4.0], [4.0, 6.0, 4.0]]]]
    """
    _check_signal("images", images, MOST_IMAGE_CHANNELS)
    if images.requires_grad:
        raise ValueError("images must not require a gradient, got some that do; use torch's conv2d")
    _check_weight(images, weight, 3)
    if images.dtype not in (torch.float32, torch.float64) or weight.dtype != images.dtype:
        raise TypeError(f"images and weight must both be float32 or float64, got {images.dtype} and {weight.dtype}")
    if dtype not in (torch.float32, torch.float64, *_HALVES):
        raise TypeError(f"dtype must be floating point, got {dtype}; bfloat16 is usual on a GPU")
    module = load_implementation("thin_conv", impl, images.device)
    with own_precision(images.device):
        convolved: Tensor = module.stem(images, weight, dtype)
    return convolved


def thin_conv(signal: Tensor, weight: Tensor, *, impl: Implementation = "auto") -> Tensor:
    """Convolve a signal of up to 32 channels 3 x 3 with zeros around.

        conv2d(signal, weight, padding=1)

    Differentiable once (the reference, any number of times). On a GPU the convolution and the signal's gradient are the
    library's. The weight's gradient, on which that spends five times what its bytes take, is ours: float32, bit-stable.

    Args:
        signal: (B, C, H, W) bfloat16 or float16, C up to 32; float32 and float64 on the CPU.
        weight: (O, C, 3, 3) floating point, rounded to the signal's dtype; O up to 64.
        impl: `"auto"` takes Triton on CUDA and torch's own on the CPU; a named one never falls back.

    Returns:
        (B, O, H, W) of the signal's dtype.

    Raises:
        ValueError: shapes or devices that do not fit.
        TypeError: dtypes that do not fit.
    """
    _check_signal("signal", signal, MOST_THIN_CHANNELS)
    _check_weight(signal, weight, 3)
    if len(weight) > 2 * MOST_THIN_CHANNELS:
        raise ValueError(f"weight must have up to {2 * MOST_THIN_CHANNELS} outputs, got {len(weight)}; use conv2d")
    if signal.dtype not in (torch.float32, torch.float64, *_HALVES) or not weight.is_floating_point():
        raise TypeError(f"signal and weight must be floating point, got {signal.dtype} and {weight.dtype}")
    module = load_implementation("thin_conv", impl, signal.device)
    with own_precision(signal.device):
        convolved: Tensor = module.thin(signal, weight)
    return convolved


def head_conv(signal: Tensor, weight: Tensor, bias: Tensor, *, impl: Implementation = "auto") -> Tensor:
    """Mix a signal's channels to a field of few, pixel by pixel, as a network's last layer does.

        conv2d(signal.float(), weight, bias)

    Differentiable once in all three (the reference, any number of times). On a GPU it is bit-stable and sums are
    float32.

    Args:
        signal: (B, C, H, W) float32, bfloat16 or float16; float64 on the CPU.
        weight: (O, C, 1, 1) float32, O up to 4; float64 with such a signal.
        bias: (O,) of the weight's dtype.
        impl: `"auto"` takes Triton on CUDA and torch's own on the CPU; a named one never falls back.

    Returns:
        (B, O, H, W) of the weight's dtype, contiguous.

    Raises:
        ValueError: shapes or devices that do not fit.
        TypeError: dtypes that do not fit.

    >>> head_conv(torch.ones(1, 3, 1, 2), torch.full((1, 3, 1, 1), 2.0), torch.ones(1)).tolist()
    [[[[7.0, 7.0]]]]
    """
    _check_signal("signal", signal, None)
    _check_weight(signal, weight, 1)
    if len(weight) > MOST_FIELD_CHANNELS or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"weight and bias must have one to {MOST_FIELD_CHANNELS} outputs, got {tuple(weight.shape)} and "
            f"{tuple(bias.shape)}"
        )
    if bias.device != signal.device:
        raise ValueError(f"bias must be on {signal.device} with the signal, got {bias.device}; move it with .to()")
    if signal.dtype not in (torch.float32, torch.float64, *_HALVES):
        raise TypeError(f"signal must be floating point, got {signal.dtype}; convert it with .float()")
    sums = torch.float64 if signal.dtype == torch.float64 else torch.float32
    if not weight.dtype == bias.dtype == sums:
        raise TypeError(f"weight and bias must be {sums} with {signal.dtype}, got {weight.dtype} and {bias.dtype}")
    module = load_implementation("thin_conv", impl, signal.device)
    with own_precision(signal.device):
        field: Tensor = module.head(signal, weight, bias)
    return field


def _check_signal(name: str, signal: Tensor, most: int | None) -> None:
    if signal.ndim != 4 or not signal.numel() or (most is not None and signal.shape[1] > most):
        limit = "" if most is None else f" with up to {most} channels"
        raise ValueError(f"{name} must be (B, C, H, W){limit}, got shape {tuple(signal.shape)}")


def _check_weight(signal: Tensor, weight: Tensor, side: int) -> None:
    channels = signal.shape[1]
    if weight.ndim != 4 or not len(weight) or weight.shape[1:] != (channels, side, side):
        raise ValueError(f"weight must be (O, {channels}, {side}, {side}), got {tuple(weight.shape)}")
    if weight.device != signal.device:
        raise ValueError(f"weight must be on {signal.device} with what it weighs, got {weight.device}; use .to()")
