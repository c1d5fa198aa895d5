"""Photos recoloured and bent: draws of random numbers apart from what is done with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.paper.device import sent
from asic_flow.paper.network import identity_grid

_CONTROL_POINTS = 4  # along one axis
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Augmentation:
    """The random numbers of a batch's augmented copies.

    Attributes:
        bend: (B, 16, 2) displacements of the thin-plate spline's control points, in [-1, 1].
        brightness: (B,) factor.
        contrast: (B,) factor about the photo's mean grey.
        saturation: (B,) factor; 0 makes it grey.
        hue: (B,) turn in the plane of chroma, radians.
        blur: (B,) standard deviation in pixels; 0 for none.
        solarise: (B,) value from which on colours are inverted; above 1 for none.
    """

    bend: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    blur: Tensor
    solarise: Tensor

    @classmethod
    def draw(cls, count: int, *, jitter: float, bend: float, generator: torch.Generator) -> Augmentation:
        """Draws the published augmentation for `count` photos: every number on the CPU, whatever the device."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator)

        def happens(probability: float) -> Tensor:
            return uniform(0, 1) < probability * min(1.0, jitter)

        spacing = 2 / (_CONTROL_POINTS - 1)
        moved = uniform(-bend * spacing, bend * spacing, _CONTROL_POINTS**2, 2)
        jittered = happens(0.8).float() * jitter
        brightness, contrast = 1 + jittered * uniform(-0.4, 0.4), 1 + jittered * uniform(-0.4, 0.4)
        saturation = (1 + jittered * uniform(-0.2, 0.2)) * ~happens(0.2)
        hue = jittered * uniform(-0.1, 0.1) * 2 * torch.pi
        blur = uniform(0.1, 2.0) * happens(0.1)
        solarise = torch.where(happens(0.2), uniform(0.5, 0.5), uniform(2, 2))
        return cls(moved, brightness, contrast, saturation, hue, blur, solarise)

    def take(self, rows: Tensor) -> Augmentation:
        """The numbers of some of the photos."""
        return Augmentation(**{name: values[rows] for name, values in vars(self).items()})

    def to(self, device: torch.device) -> Augmentation:
        """The numbers on a device."""
        return Augmentation(**sent(vars(self), device))


def recolour(images: Tensor, drawn: Augmentation, yiq: Tensor) -> Tensor:
    """Changes the colours of (B, 3, H, W) images in [0, 1]; the result is in [0, 1].

    Args:
        images: What is changed.
        drawn: How, photo by photo.
        yiq: `yiq_matrices()` on the images' device.
    """

    def per_photo(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    chroma, back = yiq
    out = (images * per_photo(drawn.brightness)).clamp(0, 1)
    grey = (out * chroma[0, :, None, None]).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    out = (grey + (out - grey) * per_photo(drawn.contrast)).clamp(0, 1)
    y, i, q = torch.einsum("kc,bchw->kbhw", chroma, out)
    cosine, sine = ((turn * drawn.saturation)[:, None, None] for turn in (drawn.hue.cos(), drawn.hue.sin()))
    turned = torch.stack((y, cosine * i - sine * q, sine * i + cosine * q))
    out = torch.einsum("ck,kbhw->bchw", back, turned).clamp(0, 1)
    out = _blurred(out, drawn.blur)
    return torch.where(out >= per_photo(drawn.solarise), 1 - out, out)


def yiq_matrices() -> Tensor:
    """(2, 3, 3): from RGB to luma and chroma, and back."""
    forth = torch.tensor(_TO_YIQ)
    return torch.stack((forth, torch.linalg.inv(forth)))


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """A separable 3 x 3 Gaussian, one standard deviation a photo."""
    side = torch.exp(-0.5 / sigma.clamp_min(1e-3).square())[:, None, None, None]
    for axis in (2, 3):
        ahead, behind = (torch.cat(ends, axis) for ends in _neighbours(images, axis))
        images = (images + side * (ahead + behind)) / (1 + 2 * side)
    return images


def _neighbours(images: Tensor, axis: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    length = images.shape[axis]
    rest_ahead, last = images.narrow(axis, 1, length - 1), images.narrow(axis, length - 1, 1)
    rest_behind, first = images.narrow(axis, 0, length - 1), images.narrow(axis, 0, 1)
    return (rest_ahead, last), (first, rest_behind)


def spline_basis(size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """(h * w, 16): what each control point's displacement adds at every pixel of a thin-plate spline.

    One matrix product then bends a batch. Source: Bookstein, "Principal warps", 1989.
    """
    control = identity_grid((_CONTROL_POINTS, _CONTROL_POINTS), torch.device("cpu")).reshape(-1, 2).double()
    pixels = identity_grid(size_hw, torch.device("cpu")).reshape(-1, 2).double()
    count = len(control)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count, :count] = _radial(control, control)
    system[:count, count:] = _affine(control)
    system[count:, :count] = system[:count, count:].T
    solved = torch.linalg.solve(system, torch.eye(count + 3, dtype=torch.float64)[:, :count])
    basis: Tensor = torch.cat((_radial(pixels, control), _affine(pixels)), 1) @ solved
    return basis.float().to(device)


def bend_points(basis: Tensor, bend: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(B, h, w, 2): where each pixel of a bent photo shows the photo, in [-1, 1] and a little beyond."""
    return identity_grid(size_hw, basis.device) + (basis @ bend).reshape(len(bend), *size_hw, 2)


def _radial(points: Tensor, control: Tensor) -> Tensor:
    squared = (points[:, None] - control).square().sum(-1)
    return torch.where(squared > 0, squared * squared.clamp_min(1e-300).log(), 0)


def _affine(points: Tensor) -> Tensor:
    return torch.cat((torch.ones_like(points[:, :1]), points), 1)
