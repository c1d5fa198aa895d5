"""Joint principal components of all descriptors of a collection, photo by photo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class PrincipalComponents:
    """A basis for descriptors.

    Attributes:
        mean: (D,) float32.
        basis: (D, K) float32, orthonormal columns, the largest variance first.
        variance: (K,) float32 along each column.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    variance: torch.Tensor

    def project(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Coordinates (..., K) of descriptors (..., D), scaled to unit length."""
        return functional.normalize((descriptors.float() - self.mean) @ self.basis, dim=-1)


def fit_components(photos: Iterable[torch.Tensor], count: int) -> PrincipalComponents:
    """Principal components over any number of photos, one in memory at a time.

    Sums of values and of products in float64 are all that is kept: D x D numbers.

    Args:
        photos: (T, D) descriptors of each photo.
        count: Number of components K.

    Raises:
        ValueError: No photo, fewer than two tokens, or more components than the descriptor is wide.
    """
    tokens = 0
    total = products = torch.empty(0)
    for descriptors in photos:
        values = descriptors.double()
        if not tokens:
            total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
            products = torch.zeros(values.shape[1], values.shape[1], dtype=torch.float64, device=values.device)
        tokens += len(values)
        total = total + values.sum(dim=0)
        products = products + values.T @ values
    if tokens < 2:
        raise ValueError(f"expected at least 2 tokens to find components of, got {tokens}")
    if not 1 <= count <= len(total):
        raise ValueError(f"expected 1 to {len(total)} components, got {count}")
    mean = total / tokens
    covariance = (products - tokens * torch.outer(mean, mean)) / (tokens - 1)
    variance, basis = torch.linalg.eigh(covariance)
    variance, basis = variance.flip(0)[:count], basis.flip(1)[:, :count]
    # The sign of a component is arbitrary: its largest entry is made positive, so that runs agree.
    largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
    return PrincipalComponents(mean.float(), (basis * largest.sign()).float(), variance.clamp_min(0).float())
