"""A dense descriptor without weights: outline, gradient orientations and colour around every token.

Each token is described by square lattices of cells of growing size, as SIFT does it (Lowe, 2004): a cell holds a
histogram of gradient orientations, its mean colour, or its share of foreground. Two things make it serve whole
collections. The lattices take the object's pose from its mask, turned to its principal axis and scaled to its extent;
and they are folded about their vertical axis, so that an object and its mirror image are described alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from asic_features.colour import blur, light_gradient, to_lab
from asic_flow.collection import TokenGrid

ORIENTATIONS = 8
_CLIP = 0.2  # Lowe's bound on one histogram entry, against single strong edges
_CONSTANT = 0.05
_TYPICAL_EXTENT = 0.25  # root mean square distance of object pixels from their centre, as a share of the image side
_LEAST_ELONGATION = 0.1  # rounder objects have no axis to turn to


@dataclass(frozen=True)
class Lattice:
    """Cells around a token.

    Attributes:
        cell: Distance between neighbouring cells as a share of the image side, for an object of typical extent.
        cells: Cells a side.
        weight: Share of the squared length of the whole descriptor.
        content: ``orientation`` histograms, mean ``colour``, or share of ``foreground``.
    """

    cell: float
    cells: int
    weight: float
    content: Literal["orientation", "colour", "foreground"]


_LATTICES: tuple[Lattice, ...] = (
    Lattice(1 / 32, 4, 1.0, "orientation"),
    Lattice(1 / 16, 4, 1.0, "orientation"),
    Lattice(1 / 8, 4, 1.0, "orientation"),
    Lattice(1 / 8, 3, 0.5, "colour"),
    Lattice(1 / 16, 4, 1.0, "foreground"),
    Lattice(1 / 8, 5, 1.0, "foreground"),
)


@dataclass(frozen=True)
class MaskPose:
    """How each object lies in its photo, by the second moments of its mask.

    Attributes:
        angle: (B,) radians by which its principal axis is turned from the horizontal, clockwise as seen, in
            (-pi/2, pi/2]; 0 for round objects.
        extent: (B,) root mean square distance from its centre, as a share of the image side; the typical value
            where the mask is empty.
    """

    angle: torch.Tensor
    extent: torch.Tensor


def mask_pose(masks: torch.Tensor) -> MaskPose:
    """Pose of each object from its mask.

    Args:
        masks: (B, S, S) uint8, probability of foreground times 255.
    """
    size = masks.shape[-1]
    weight = masks.flatten(1).double()
    total = weight.sum(dim=1, keepdim=True)
    axis = torch.arange(size, dtype=torch.float64, device=masks.device)
    y, x = (plane.flatten() for plane in torch.meshgrid(axis, axis, indexing="ij"))
    share = weight / total.clamp_min(1)
    x = x - share @ x.unsqueeze(1)
    y = y - share @ y.unsqueeze(1)
    xx, yy, xy = ((share * product).sum(dim=1) for product in (x * x, y * y, x * y))
    spread = (xx + yy).clamp_min(1)
    elongation = torch.hypot(xx - yy, 2 * xy) / spread
    found = total[:, 0] > 0
    angle = torch.where(found & (elongation >= _LEAST_ELONGATION), torch.atan2(2 * xy, xx - yy) / 2, 0.0)
    extent = torch.where(found, spread.sqrt() / size, _TYPICAL_EXTENT)
    return MaskPose(angle.float(), extent.float())


@torch.inference_mode()
def describe_gradients(images: torch.Tensor, masks: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Describe every token of a batch of photos.

    Args:
        images: (B, S, S, 3) uint8.
        masks: (B, S, S) uint8, probability of foreground times 255; the background's gradients and colours do not
            count.
        grid: Where the tokens are.

    Returns:
        (B, T, D) float32 of unit length.
    """
    pose = mask_pose(masks)
    centres = torch.from_numpy(grid.centres_px()).to(images.device)
    # One photo at a time: windows differ in width, and the pooled maps of a photo are all the memory needed.
    rows = [
        _describe(images[index], masks[index], centres, float(pose.angle[index]), float(pose.extent[index]))
        for index in range(len(images))
    ]
    return torch.stack(rows)


def _describe(
    image: torch.Tensor,
    mask: torch.Tensor,
    centres: torch.Tensor,
    angle: float,
    extent: float,
) -> torch.Tensor:
    size = image.shape[0]
    zoom = extent / _TYPICAL_EXTENT
    lab = to_lab(image[None])
    foreground = mask[None, None].float() / 255
    maps = {
        "orientation": _orientation_energy(lab, angle) * blur(foreground, 1.5),
        "colour": lab / 100 * foreground,
        "foreground": foreground,
    }
    turn = torch.tensor(angle, device=image.device)
    rotation = torch.stack([torch.stack([turn.cos(), turn.sin()]), torch.stack([-turn.sin(), turn.cos()])])
    parts = []
    for lattice in _LATTICES:
        step = lattice.cell * size * zoom
        pooled = blur(maps[lattice.content], sigma=step / 2)
        if lattice.content == "colour":
            pooled = pooled / (blur(foreground, sigma=step / 2) + 0.1)
        around = (torch.arange(lattice.cells, device=image.device) - (lattice.cells - 1) / 2) * step
        offsets = torch.stack(torch.meshgrid(around, around, indexing="xy"), dim=-1).reshape(-1, 2) @ rotation
        points = (centres[:, None] + offsets) / (size - 1) * 2 - 1
        sampled = functional.grid_sample(pooled, points[None], padding_mode="border", align_corners=True)[0]
        # one (rows, columns, channels) lattice for each token
        cells = sampled.permute(1, 2, 0).reshape(len(centres), lattice.cells, lattice.cells, -1)
        if lattice.content == "orientation":
            cells = functional.normalize(cells.flatten(1), dim=-1, eps=1e-3).clamp_max(_CLIP).view_as(cells)
        part = _fold(cells, orientations=lattice.content == "orientation")
        parts.append(functional.normalize(part, dim=-1, eps=1e-3) * lattice.weight**0.5)
    # A small constant gives a direction to tokens far from any foreground.
    parts.append(torch.full((len(centres), 1), _CONSTANT, device=image.device))
    return functional.normalize(torch.cat(parts, dim=-1), dim=-1)


def _orientation_energy(lab: torch.Tensor, angle: float) -> torch.Tensor:
    """(B, ORIENTATIONS, H, W): gradient length shared between the two nearest of the evenly spread directions."""
    length, direction = light_gradient(lab)
    position = (direction - angle) / (2 * torch.pi) * ORIENTATIONS
    bins = torch.arange(ORIENTATIONS, device=lab.device).view(1, -1, 1, 1)
    apart = (position - bins + ORIENTATIONS / 2) % ORIENTATIONS - ORIENTATIONS / 2
    return length * (1 - apart.abs()).clamp_min(0)


def _fold(cells: torch.Tensor, *, orientations: bool) -> torch.Tensor:
    """The even part and the size of the odd part under mirroring: equal for a lattice and its mirror image."""
    mirrored = cells.flip(2)
    if orientations:
        # Mirroring takes direction phi to pi - phi.
        mirrored = mirrored[..., (ORIENTATIONS // 2 - torch.arange(ORIENTATIONS, device=cells.device)) % ORIENTATIONS]
    return torch.cat([(cells + mirrored) / 2, (cells - mirrored).abs() / 2], dim=-1).flatten(1)
