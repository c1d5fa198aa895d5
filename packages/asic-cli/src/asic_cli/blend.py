"""Laying a picture over a photo: by its transparency alone, or band by band of a Laplacian pyramid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

_COARSEST = 8


def over(photo: Tensor, premultiplied: Tensor, opacity: Tensor) -> Tensor:
    """(3, H, W): a picture over a photo.

    Args:
        photo: (3, H, W) float32.
        premultiplied: (3, H, W) colours times opacity.
        opacity: (1, H, W), 0 to 1.
    """
    return photo * (1 - opacity) + premultiplied


def over_by_bands(photo: Tensor, premultiplied: Tensor, opacity: Tensor, levels: int = 5) -> Tensor:
    """(3, H, W): likewise, but wide structure crosses the border softly and fine structure sharply.

    Args:
        photo: (3, H, W) float32.
        premultiplied: (3, H, W) colours times opacity.
        opacity: (1, H, W), 0 to 1.
        levels: Bands, each half as fine as the one before; as many as the picture's size allows.

    Source: Burt and Adelson, "A multiresolution spline with application to image mosaics", 1983.
    """
    # Where nothing is painted the photo goes on, so that no other colour bleeds in from there.
    painted = torch.where(opacity > 1e-3, premultiplied / opacity.clamp_min(1e-3), photo)
    blended: list[Tensor] = []
    for _ in range(levels):
        if min(photo.shape[1:]) < 2 * _COARSEST:
            break
        smaller = [_half(picture) for picture in (photo, painted, opacity)]
        bands = [picture - _double(half, picture) for picture, half in zip((photo, painted), smaller, strict=False)]
        blended.append(bands[0] * (1 - opacity) + bands[1] * opacity)
        photo, painted, opacity = smaller
    whole = photo * (1 - opacity) + painted * opacity
    for band in reversed(blended):
        whole = _double(whole, band) + band
    return whole


def _half(picture: Tensor) -> Tensor:
    return avg_pool2d(picture[None], 2, 2, ceil_mode=True, count_include_pad=False)[0]


def _double(picture: Tensor, like: Tensor) -> Tensor:
    return interpolate(picture[None], size=like.shape[1:], mode="bilinear", align_corners=False)[0]
