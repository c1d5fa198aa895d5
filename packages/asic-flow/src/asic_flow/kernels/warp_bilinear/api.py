"""Bilinear samples of an image at points: validation and dispatch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation
from asic_flow.kernels.finite import all_finite


def warp_bilinear(
    image: Tensor,
    points_norm: Tensor,
    *,
    affine: Tensor | None = None,
    mask: Tensor | None = None,
    size_hw: tuple[int, int] | None = None,
    padding: Literal["border", "zeros"] = "border",
    deterministic: bool = True,
    impl: Implementation = "auto",
) -> Tensor:
    """Sample an image bilinearly at points, with corners aligned.

    Differentiable once in image, points and affine; the reference, any number of times. Weights and sums are
    float32 (the image's own precision on the CPU). With border padding, a coordinate on the border or beyond has
    gradient 0. Points and maps must be finite. On the CPU others are refused; elsewhere, where asking would wait for
    the device, they give samples of NaN and the image no gradient. What is not finite in image or mask shows in the
    samples that read it.

    Args:
        image: (C, H, W) shared by all samples of the batch, or (B, C, H, W); float32, or float64 on the CPU.
        points_norm: (B, h, w, 2) or (B, K, 2) xy in [-1, 1], of the image's dtype.
        affine: (B, 2, 3) map applied to the points of each sample before sampling.
        mask: (B, h, w) or (B, K) of the output's size, any dtype, multiplied into the samples; not differentiable.
        size_hw: resize the field of points (B, h, w, 2) to this size before all else, bilinearly, corners aligned.
        padding: what lies outside the image: its nearest border pixel, or zero.
        deterministic: sum the image's gradient in fixed point, the same bits on every run; otherwise with
            floating-point atomics, whose order is that of the moment. CPU results are always the same.
        impl: `"auto"` takes Triton on CUDA and torch's sampler on the CPU; a named one never falls back.

    Returns:
        (B, C, h, w) or (B, C, K).

    Raises:
        ValueError: shapes, devices or settings that do not fit; on the CPU, points or maps that are not finite.
        TypeError: dtypes that do not fit.

    >>> image = torch.arange(4.0).view(1, 2, 2)
    >>> warp_bilinear(image, torch.tensor([[[0.0, 0.0], [1.0, -1.0]]])).tolist()
    [[[1.5, 1.0]]]
    """
    if image.ndim not in (3, 4) or 0 in image.shape[-3:]:
        raise ValueError(
            f"image must be (C, H, W) or (B, C, H, W) with pixels, got shape {tuple(image.shape)}; unsqueeze"
        )
    if points_norm.ndim not in (3, 4) or points_norm.shape[-1] != 2:
        raise ValueError(
            f"points_norm must be (B, K, 2) or (B, h, w, 2), got shape {tuple(points_norm.shape)}; reshape it"
        )
    batch = len(points_norm)
    if image.ndim == 4 and len(image) != batch:
        raise ValueError(
            f"image and points_norm must have one batch size, got {len(image)} and {batch}; "
            "pass a shared image as (C, H, W)"
        )
    if image.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"image must be float32 or float64, got {image.dtype}; convert it with .float()")
    inner = points_norm.shape[1:-1]
    if size_hw is not None:
        if points_norm.ndim != 4 or 0 in inner or min(size_hw) < 1:
            raise ValueError(
                f"size_hw={size_hw} needs points (B, h, w, 2), got shape {tuple(points_norm.shape)}; leave it None"
            )
        inner = torch.Size(size_hw)
    if affine is not None and affine.shape != (batch, 2, 3):
        raise ValueError(f"affine must be ({batch}, 2, 3), got shape {tuple(affine.shape)}; give one map a sample")
    if mask is not None and mask.shape != (batch, *inner):
        raise ValueError(
            f"mask must be {(batch, *inner)}, got shape {tuple(mask.shape)}; give it the size of the samples"
        )
    if mask is not None and mask.requires_grad:
        raise ValueError("mask must not require a gradient, got one that does; multiply it in afterwards instead")
    for name, tensor in (("points_norm", points_norm), ("affine", affine), ("mask", mask)):
        if tensor is not None and tensor.device != image.device:
            raise ValueError(
                f"{name} must be on {image.device} with the image, got {tensor.device}; move it with .to()"
            )
        if tensor is not None and name != "mask" and tensor.dtype != image.dtype:
            raise TypeError(f"{name} must be {image.dtype} like the image, got {tensor.dtype}; convert one of them")
    if padding not in ("border", "zeros"):
        raise ValueError(f"padding must be border or zeros, got {padding!r}; choose one")
    if image.is_cpu:
        for name, tensor in (("points_norm", points_norm), ("affine", affine)):
            if tensor is not None and not all_finite(tensor):
                raise ValueError(f"{name} must be finite, got NaN or infinite numbers; leave out what is not there")
    module = load_implementation("warp_bilinear", impl, image.device)
    sample: Tensor = module.warp(image, points_norm, affine, mask, size_hw, padding, deterministic)
    return sample
