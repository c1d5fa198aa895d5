"""What the products of cosine matching are taken of: unit rows, and columns that add a bias on canonical distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def unit_rows(descriptors: Tensor) -> Tensor:
    """Return the rows (M, D) in float32 at unit length; a zero row stays zero."""
    rows = descriptors.to(torch.float32, copy=True)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.div_(norms.masked_fill_(norms == 0, 1))


@dataclass(frozen=True)
class Guide:
    """A bias `-weight * |u - v|^2` on the similarity of two descriptors at canonical points u and v.

    It is a product itself, of (2 weight u, -weight |u|^2, 1) and (v, 1, -weight |v|^2), and so costs four columns more.

    Attributes:
        points: (S, 2) float32 canonical points of all descriptors.
        weight: of the squared distance.
    """

    points: Tensor
    weight: float

    def _centred(self) -> Tensor:
        # Distances do not change with the origin, but the rounding of the four products does.
        if len(self.points) == 0:
            return self.points
        return self.points - (self.points.amin(0) + self.points.amax(0)) / 2

    def as_rows(self) -> Tensor:
        """Return the four columns (S, 4) to append to the descriptors that stand as rows."""
        points = self._centred()
        squared = self.weight * points.square().sum(1, keepdim=True)
        return torch.cat((2 * self.weight * points, -squared, torch.ones_like(squared)), 1)

    def as_columns(self) -> Tensor:
        """Return the four columns (S, 4) to append to the descriptors that stand as columns."""
        points = self._centred()
        squared = self.weight * points.square().sum(1, keepdim=True)
        return torch.cat((points, torch.ones_like(squared), -squared), 1)

    def bias(self, index_a: Tensor, index_b: Tensor) -> Tensor:
        """Return the bias between listed descriptors, of the shape that the two lists broadcast to."""
        return -self.weight * (self.points[index_a] - self.points[index_b]).square().sum(-1)

    def rank_bias(self, index_ab: Tensor, index_ba: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bias (M, k) and (N, k) of both rankings of M rows and N columns, whose points follow theirs."""
        rows, columns = (torch.arange(len(index), device=index.device)[:, None] for index in (index_ab, index_ba))
        return self.bias(rows, index_ab + len(rows)), self.bias(columns + len(rows), index_ba)

    def extent(self) -> Tensor:
        """Return the largest squared distance that the points' box allows, times the weight."""
        return self.weight * (self.points.amax(0) - self.points.amin(0)).square().sum()
