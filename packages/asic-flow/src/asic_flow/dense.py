"""The dense stage: one smooth residual map a photo, fitted to matches of the whole collection at once.

Each round minimises, over the spline coefficients c of all photos together,

    sum_m  w_m |u_a(m) - u_b(m)|^2  +  stiffness * sum_i  W_i (c_i - c_i^coarse)^T E (c_i - c_i^coarse)

where u are canonical positions of a match's two ends, w_m the match's weight times its Geman-McClure weight, W_i the
weight of photo i's matches and E the membrane energy. For fixed w it is a linear system, solved by conjugate gradients
without ever building its matrix: time and memory are linear in points, matches and photos.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.coarse import geman_mcclure
from asic_flow.grid import pixel_to_norm
from asic_flow.spline import SplineGrid, evaluate

_REWEIGHTINGS = 2
_CG_STEPS = 40
_PROXIMAL = 1e-3
_DRIFT_SIGMA = 0.085
_DRIFT_NODES = 24
_CHUNK = 8192


@dataclass(frozen=True)
class SplinePoints:
    """Points of all photos with their spline weights, prepared once.

    Attributes:
        image: (M,) int64.
        index: (M, 16) int64.
        weight: (M, 16) float32.
    """

    image: Tensor
    index: Tensor
    weight: Tensor

    @classmethod
    def prepare(cls, grid: SplineGrid, image: Tensor, points_norm: Tensor) -> SplinePoints:
        """Prepares (M, 2) points in [-1, 1] of the photos `image`."""
        return cls(image, *grid.basis(points_norm))

    def canonical(self, coefficients: Tensor) -> Tensor:
        """(M, 2) float32: where the maps take the points."""
        return evaluate(coefficients, self.image, self.index, self.weight)


def fit_dense(
    coefficients: Tensor,
    reference: Tensor,
    points: SplinePoints,
    ends: Tensor,
    weight: Tensor,
    grid: SplineGrid,
    scale: float,
    stiffness: float,
) -> Tensor:
    """Fits all maps to matches between points, starting from `coefficients` and held by `reference`.

    A step of the solver takes the maps to the points, once however many matches a point has, the points' differences
    along the matches, and back: three sparse products.

    Args:
        coefficients: (N, K, 2) float32, the present maps.
        reference: (N, K, 2) float32, the coarse maps.
        points: P points of the photos.
        ends: (M, 2) int64, the two points of every match, wrong matches included.
        weight: (M,) 0 or more.
        grid: The spline grid.
        scale: Geman-McClure scale, canonical distance.
        stiffness: Weight of the membrane energy.

    Returns:
        (N, K, 2) float32.
    """
    num_images, num_coefficients = coefficients.shape[:2]
    energy = stiffness * grid.membrane_energy(coefficients.device)
    column = points.image[:, None] * num_coefficients + points.index
    row = torch.arange(len(column), device=column.device)[:, None].expand_as(column)
    shape = (len(column), num_images * num_coefficients)
    to_points = _sparse(row.flatten(), column.flatten(), points.weight.flatten(), shape)
    to_maps = _sparse(column.flatten(), row.flatten(), points.weight.flatten(), shape[::-1])
    end_a, end_b = ends.unbind(1)
    for _ in range(_REWEIGHTINGS):
        placed = points.canonical(coefficients)
        trusted = geman_mcclure((placed[end_a] - placed[end_b]).square().sum(1), scale) * weight
        degree = torch.zeros(len(placed), device=weight.device)
        degree.index_add_(0, end_a, trusted).index_add_(0, end_b, trusted)
        loops = torch.arange(len(placed), device=weight.device)
        laplacian = _sparse(
            torch.cat((loops, end_a, end_b)),
            torch.cat((loops, end_b, end_a)),
            torch.cat((degree, -trusted, -trusted)),
            (len(placed), len(placed)),
        )
        mass = torch.zeros(num_images, device=weight.device).index_add_(0, points.image, degree)
        # A photo with hardly a match is held like the others, instead of not at all.
        mass = mass.clamp_min(0.1 * mass.mean().clamp_min(1e-6))[:, None, None]

        def pull(maps: Tensor, laplacian: Tensor = laplacian) -> Tensor:
            """The gradient of half the matches' energy: (N, K, 2) -> (N, K, 2)."""
            return (to_maps @ (laplacian @ (to_points @ maps.reshape(-1, 2)))).reshape(maps.shape)

        def hold(offset: Tensor, mass: Tensor = mass) -> Tensor:
            return mass * torch.einsum("kl,nlc->nkc", energy, offset)

        def apply(step: Tensor, mass: Tensor = mass) -> Tensor:
            return pull(step) + hold(step, mass) + (_PROXIMAL / num_coefficients) * mass * step

        diagonal = torch.zeros(shape[1], device=weight.device)
        diagonal.index_add_(0, column.flatten(), (points.weight.square() * degree[:, None]).flatten())
        diagonal = diagonal.reshape(num_images, num_coefficients, 1)
        diagonal = diagonal + mass * (energy.diagonal()[:, None] + _PROXIMAL / num_coefficients)
        right = -(pull(coefficients) + hold(coefficients - reference))
        coefficients = coefficients + _conjugate_gradients(apply, right, 1 / diagonal)
    return coefficients


def _sparse(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix of these entries, those of one place added, in the layout whose products are fast."""
    entries = torch.sparse_coo_tensor(torch.stack((row, column)), value, shape, check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)
        return entries.coalesce().to_sparse_csr()


def fit_photo(
    coefficients: Tensor,
    reference: Tensor,
    points_norm: Tensor,
    canonical: Tensor,
    weight: Tensor,
    grid: SplineGrid,
    scale: float,
    stiffness: float,
) -> Tensor:
    """`fit_dense` for one photo, the others held where they are: a small dense system.

    Args:
        coefficients: (K, 2) float32, the present map.
        reference: (K, 2) float32, the coarse map.
        points_norm: (M, 2) xy in [-1, 1] of the photo.
        canonical: (M, 2) where they should go.
        weight: (M,) 0 or more.
        grid: The spline grid.
        scale: Geman-McClure scale, canonical distance.
        stiffness: Weight of the membrane energy.

    Returns:
        (K, 2) float32.
    """
    index, basis = grid.basis(points_norm)
    design = torch.zeros(len(points_norm), grid.num_coefficients).scatter_add_(1, index, basis)
    energy = stiffness * grid.membrane_energy(design.device)
    for _ in range(_REWEIGHTINGS):
        trusted = geman_mcclure((design @ coefficients - canonical).square().sum(1), scale) * weight
        mass = trusted.sum().clamp_min(1e-6)
        normal = design.T @ (trusted[:, None] * design) + mass * energy
        normal.diagonal().add_(_PROXIMAL / grid.num_coefficients * mass)
        missing = trusted[:, None] * (canonical - design @ coefficients)
        right = design.T @ missing - mass * (energy @ (coefficients - reference))
        coefficients = coefficients + torch.linalg.solve(normal, right)
    return coefficients


def remove_drift(coefficients: Tensor, reference: Tensor, points: SplinePoints, grid: SplineGrid) -> Tensor:
    """Undoes what all maps moved together, place by place in canonical space.

    Only differences between photos show in matches, so a motion shared by all photos is free, and least squares spends
    it on contracting the object. The shared motion is estimated by averaging the residuals of all foreground points
    near each canonical place; every map is then composed with its inverse.

    Args:
        coefficients: (N, K, 2) float32, the present maps.
        reference: (N, K, 2) float32, the coarse maps, which define "not moved".
        points: Foreground points of all photos.
        grid: The spline grid.

    Returns:
        (N, K, 2) float32.
    """
    if not len(points.image):
        return coefficients
    placed = points.canonical(coefficients)
    moved = placed - points.canonical(reference)
    low, high = placed.amin(0), placed.amax(0)
    axis = torch.linspace(0, 1, _DRIFT_NODES, device=placed.device)
    nodes = low + (high - low) * torch.cartesian_prod(axis, axis)
    drift = torch.zeros_like(nodes)
    total = torch.ones(len(nodes), 1, device=placed.device)  # one unmoved point a node, so that empty places stay
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(placed), _CHUNK)]
    for chunk in chunks:
        near = _gaussian(nodes, placed[chunk], _DRIFT_SIGMA)
        drift += near @ moved[chunk]
        total += near.sum(1, keepdim=True)
    drift = drift / total
    correction = torch.cat([_average(placed[chunk], nodes, drift) for chunk in chunks])
    return coefficients - _least_squares(points, correction, grid, len(coefficients))


def render_maps(grid: SplineGrid, coefficients: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(N, H, W, 2): the spline maps at every pixel."""
    y, x = (torch.arange(side, dtype=torch.float32, device=coefficients.device)[:, None] for side in size_hw)
    columns = pixel_to_norm(x.expand(-1, 2), size_hw)[:, 0]
    rows = pixel_to_norm(y.expand(-1, 2), size_hw)[:, 1]
    return grid.on_lattice(coefficients, columns, rows)


def _average(places: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    near = _gaussian(places, nodes, _DRIFT_SIGMA / 2)
    return (near @ values) / near.sum(1, keepdim=True).clamp_min(1e-6)


def _least_squares(points: SplinePoints, values: Tensor, grid: SplineGrid, num_images: int) -> Tensor:
    """(N, K, 2): the smooth maps nearest to (M, 2) values at the points, one small dense system a photo."""
    count = grid.num_coefficients
    energy = grid.membrane_energy(values.device)
    out = torch.zeros(num_images, count, 2, device=values.device)
    for image in range(num_images):
        mine = points.image == image
        design = torch.zeros(int(mine.sum()), count, device=values.device)
        design.scatter_add_(1, points.index[mine], points.weight[mine])
        normal = design.T @ design + 1e-3 * max(1, len(design)) * energy
        normal.diagonal().add_(1e-6 * max(1, len(design)))
        out[image] = torch.linalg.solve(normal, design.T @ values[mine])
    return out


def _gaussian(a: Tensor, b: Tensor, sigma: float) -> Tensor:
    return torch.exp(torch.cdist(a, b).square() / (-2 * sigma**2))


def _conjugate_gradients(apply: Callable[[Tensor], Tensor], right: Tensor, inverse_diagonal: Tensor) -> Tensor:
    """Solves `apply(x) = right` for a positive definite operator, Jacobi-preconditioned, a fixed number of steps."""
    solution = torch.zeros_like(right)
    residual = right
    preconditioned = inverse_diagonal * residual
    direction = preconditioned
    energy = (residual * preconditioned).sum()
    for _ in range(_CG_STEPS):
        image = apply(direction)
        length = energy / (direction * image).sum().clamp_min(1e-30)
        solution = solution + length * direction
        residual = residual - length * image
        preconditioned = inverse_diagonal * residual
        following = (residual * preconditioned).sum()
        direction = preconditioned + following / energy.clamp_min(1e-30) * direction
        energy = following
    return solution
