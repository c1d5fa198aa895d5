"""Photos recoloured and bent: draws of random numbers apart from what is done with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

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
    grey = out.mean((2, 3)) @ chroma[0]
    out = torch.addcmul(per_photo(grey * (1 - drawn.contrast)), out, per_photo(drawn.contrast)).clamp(0, 1)
    cosine, sine = drawn.hue.cos() * drawn.saturation, drawn.hue.sin() * drawn.saturation
    zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    turned = torch.stack((one, zero, zero, zero, cosine, -sine, zero, sine, cosine), -1).view(-1, 3, 3)
    out = torch.einsum("bck,bkhw->bchw", back @ turned @ chroma, out).clamp(0, 1)
    out = _blurred(out, drawn.blur)
    return torch.where(out >= per_photo(drawn.solarise), 1 - out, out)


def yiq_matrices() -> Tensor:
    """(2, 3, 3): from RGB to luma and chroma, and back."""
    forth = torch.tensor(_TO_YIQ)
    return torch.stack((forth, torch.linalg.inv(forth)))


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """A 3 x 3 Gaussian, one standard deviation a photo; the border is repeated."""
    count, channels, height, width = images.shape
    side = torch.exp(-0.5 / sigma.clamp_min(1e-3).square())
    line = torch.stack((side, torch.ones_like(side), side), 1) / (1 + 2 * side[:, None])
    weight = (line[:, :, None] * line[:, None]).repeat_interleave(channels, 0)[:, None]
    padded = pad(images, (1, 1, 1, 1), mode="replicate").view(1, -1, height + 2, width + 2)
    return conv2d(padded, weight, groups=count * channels).view_as(images)


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
    moved = (basis @ bend.transpose(0, 1).flatten(1)).view(*size_hw, len(bend), 2)
    return identity_grid(size_hw, basis.device) + moved.permute(2, 0, 1, 3).contiguous()


def _radial(points: Tensor, control: Tensor) -> Tensor:
    squared = (points[:, None] - control).square().sum(-1)
    return torch.where(squared > 0, squared * squared.clamp_min(1e-300).log(), 0)


def _affine(points: Tensor) -> Tensor:
    return torch.cat((torch.ones_like(points[:, :1]), points), 1)
