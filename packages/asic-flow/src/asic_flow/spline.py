"""Uniform bicubic B-splines over an image: the smooth maps of the dense stage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SplineGrid:
    """Bicubic B-splines on `cells` x `cells` equal cells of [-1, 1]^2, (cells + 3)^2 coefficients a map.

    A map is a (K, 2) tensor of coefficients, row by row. Cubic B-splines reproduce affine maps exactly, and a map of
    them has continuous curvature. Source: de Boor, "A Practical Guide to Splines", 1978, chapter IX.
    """

    cells: int

    @property
    def side(self) -> int:
        """Coefficients along one axis."""
        return self.cells + 3

    @property
    def num_coefficients(self) -> int:
        """Coefficients of one map, K."""
        return self.side**2

    def basis(self, points_norm: Tensor) -> tuple[Tensor, Tensor]:
        """The 16 coefficients that each point depends on, and their weights.

        Args:
            points_norm: (M, 2) float32 xy in [-1, 1]; points outside are extrapolated by the border cell's cubic.

        Returns:
            (M, 16) int64 indices into a map's coefficients, and (M, 16) float32 weights that sum to 1.
        """
        cell, one_axis = self._one_axis(points_norm)
        steps = torch.arange(4, device=points_norm.device)
        column, row = cell.unbind(-1)
        index = (row[:, None] + steps)[:, :, None] * self.side + (column[:, None] + steps)[:, None, :]
        weight = one_axis[:, 1, :, None] * one_axis[:, 0, None, :]
        return index.flatten(1), weight.flatten(1)

    def on_lattice(self, coefficients: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The maps where rows and columns meet; one axis after the other.

        Args:
            coefficients: (N, K, 2).
            x: (W,) float32, columns in [-1, 1].
            y: (H,) float32, rows in [-1, 1].

        Returns:
            (N, H, W, 2).
        """
        down, along = (self._design(axis) for axis in (y, x))
        square = coefficients.reshape(-1, self.side, self.side, 2)
        return torch.einsum("hk,nklc,wl->nhwc", down, square, along)

    def _design(self, axis: Tensor) -> Tensor:
        """(M, side): the weights of one axis' coefficients."""
        cell, weight = self._one_axis(axis)
        index = cell[:, None] + torch.arange(4, device=axis.device)
        return torch.zeros(len(axis), self.side, device=axis.device).scatter_(1, index, weight)

    def _one_axis(self, coordinate: Tensor) -> tuple[Tensor, Tensor]:
        """The first of the four coefficients that each coordinate depends on, int64, and (..., 4) their weights."""
        position = (coordinate + 1) * (self.cells / 2)
        cell = position.floor().clamp(0, self.cells - 1)
        t = (position - cell)[..., None]
        r = 1 - t
        return cell.long(), torch.cat((r**3, 3 * t**3 - 6 * t**2 + 4, 3 * r**3 - 6 * r**2 + 4, t**3), dim=-1) / 6

    def from_affine(self, affine: Tensor) -> Tensor:
        """The coefficients of affine maps.

        Args:
            affine: (N, 2, 3) with `u = affine @ (x, y, 1)`.

        Returns:
            (N, K, 2) coefficients, exact.
        """
        knots = (torch.arange(self.side, device=affine.device, dtype=affine.dtype) - 1) * (2 / self.cells) - 1
        y, x = torch.meshgrid(knots, knots, indexing="ij")
        homogeneous = torch.stack((x, y, torch.ones_like(x)), -1).reshape(-1, 3)
        return homogeneous @ affine.transpose(1, 2)

    def membrane_energy(self, device: torch.device) -> Tensor:
        """(K, K): the quadratic form of squared differences of neighbours, a discrete Dirichlet energy."""
        difference = torch.diff(torch.eye(self.side, device=device), dim=0)
        one_axis = difference.T @ difference
        identity = torch.eye(self.side, device=device)
        return torch.kron(one_axis, identity) + torch.kron(identity, one_axis)


def evaluate(coefficients: Tensor, image: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Evaluates the maps of many images at points prepared by `SplineGrid.basis`.

    Args:
        coefficients: (N, K, 2).
        image: (M,) int64, the image of each point.
        index: (M, 16) int64.
        weight: (M, 16) float32.

    Returns:
        (M, 2) float32.
    """
    return (coefficients[image[:, None], index] * weight[..., None]).sum(1)
