from __future__ import annotations

import torch

from asic_flow.dense import SplinePoints, fit_dense, remove_drift
from asic_flow.spline import SplineGrid

GRID = SplineGrid(4)


def identity_maps(count: int) -> torch.Tensor:
    return GRID.from_affine(torch.eye(2, 3).expand(count, 2, 3) * 0.7)


def bent_matches(wrong: float = 0.0) -> tuple[SplinePoints, torch.Tensor]:
    """Photo 1 shows photo 0 bent by a smooth wave; `MATCHES` are between these points."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(800, 2, generator=generator) * 1.6 - 0.8
    b = a + 0.12 * torch.sin(2 * a.flip(-1))
    lost = torch.rand(800, generator=generator) < wrong
    b[lost] = torch.rand(int(lost.sum()), 2, generator=generator) * 1.6 - 0.8
    return SplinePoints.prepare(GRID, torch.arange(2).repeat_interleave(800), torch.cat((a, b))), lost


MATCHES = torch.stack((torch.arange(800), torch.arange(800, 1600)), 1)


def fit(coefficients: torch.Tensor, reference: torch.Tensor, points: SplinePoints, stiffness: float) -> torch.Tensor:
    return fit_dense(coefficients, reference, points, MATCHES, torch.ones(800), GRID, 0.1, stiffness)


def remaining(coefficients: torch.Tensor, points: SplinePoints) -> torch.Tensor:
    placed = points.canonical(coefficients)
    return (placed[:800] - placed[800:]).norm(dim=1)


def test_a_smooth_bend_is_undone_with_a_third_of_the_matches_wrong() -> None:
    points, lost = bent_matches(wrong=0.33)
    reference = identity_maps(2)
    before = remaining(reference, points)[~lost].mean()
    fitted = reference
    for _ in range(3):
        fitted = fit(fitted, reference, points, stiffness=1e-4)
    assert remaining(fitted, points)[~lost].mean() < 0.15 * before


def test_the_stiffer_the_nearer_to_the_reference() -> None:
    points, _ = bent_matches()
    reference = identity_maps(2)
    moved = [
        (fit(reference, reference, points, stiffness) - reference).norm() for stiffness in (1e-4, 1e-2, 1.0, 100.0)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.05 * moved[0]


def test_the_fit_solves_the_weighted_least_squares_system() -> None:
    """At a fixed point the gradient of the energy in dense.py vanishes."""
    points, _ = bent_matches()
    reference = identity_maps(2)
    fitted = reference
    for _ in range(25):
        fitted = fit(fitted, reference, points, 1e-3)
    coefficients = fitted.clone().requires_grad_()
    placed = points.canonical(coefficients)
    squared = (placed[:800] - placed[800:]).square().sum(1)
    weight = ((0.1**2 / (0.1**2 + squared)) ** 2).detach()
    offset = coefficients - reference
    hold = torch.einsum("nkc,kl,nlc->", offset, GRID.membrane_energy(offset.device), offset)
    energy = (weight * squared).sum() + 1e-3 * weight.sum() * hold
    (gradient,) = torch.autograd.grad(energy, coefficients)
    (first_gradient,) = torch.autograd.grad(_energy_at(reference, points), reference.requires_grad_())
    assert gradient.norm() < 0.02 * first_gradient.norm()


def test_a_point_with_several_matches_counts_in_each() -> None:
    """Matches that share points give what the same matches give with a point of its own at every end."""
    points, _ = bent_matches()
    generator = torch.Generator().manual_seed(1)
    ends = torch.stack((torch.randint(0, 60, (500,), generator=generator), MATCHES[:500, 1]), 1)
    apart = SplinePoints(
        points.image[ends.T].flatten(), *(x[ends.T].flatten(0, 1) for x in (points.index, points.weight))
    )
    weight = torch.rand(500, generator=generator)
    reference = identity_maps(2)
    shared = fit_dense(reference, reference, points, ends, weight, GRID, 0.1, 1e-3)
    numbers = torch.arange(500)
    alone = fit_dense(reference, reference, apart, torch.stack((numbers, numbers + 500), 1), weight, GRID, 0.1, 1e-3)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-4)


def _energy_at(reference: torch.Tensor, points: SplinePoints) -> torch.Tensor:
    start = reference.requires_grad_()
    squared = remaining(start, points).square()
    return ((0.1**2 / (0.1**2 + squared.detach())) ** 2 * squared).sum()


def test_a_motion_that_all_photos_share_is_taken_back_and_their_differences_stay() -> None:
    reference = identity_maps(3)
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(3).repeat_interleave(400)
    points = SplinePoints.prepare(GRID, image, torch.rand(1200, 2, generator=generator) * 1.8 - 0.9)
    shrunk = 0.8 * reference
    back = remove_drift(shrunk, reference, points, GRID)
    before = (points.canonical(shrunk) - points.canonical(reference)).norm(dim=1).mean()
    after = (points.canonical(back) - points.canonical(reference)).norm(dim=1).mean()
    assert after < 0.35 * before

    apart = reference.clone()
    apart[0] += 0.05
    apart[1] -= 0.05
    kept = remove_drift(apart, reference, points, GRID)
    difference = points.canonical(kept)[:400].mean(0) - points.canonical(reference)[:400].mean(0)
    assert (difference > 0.03).all()
