from __future__ import annotations

import torch

from asic_flow.spline import SplineGrid, evaluate


def test_weights_sum_to_one_and_are_continuous_across_cells() -> None:
    grid = SplineGrid(4)
    points = torch.rand(200, 2) * 2 - 1
    _, weight = grid.basis(points)
    torch.testing.assert_close(weight.sum(1), torch.ones(200))
    coefficients = torch.randn(1, grid.num_coefficients, 2)
    image = torch.zeros(2, dtype=torch.int64)
    beside = torch.tensor([[0.5 - 1e-6, 0.1], [0.5 + 1e-6, 0.1]])
    left, right = evaluate(coefficients, image, *grid.basis(beside))
    torch.testing.assert_close(left, right, atol=1e-4, rtol=0)


def test_affine_maps_are_reproduced_exactly_corners_included() -> None:
    grid = SplineGrid(8)
    affine = torch.randn(3, 2, 3, dtype=torch.float64)
    points = torch.cat((torch.rand(50, 2) * 2 - 1, torch.tensor([[-1.0, -1.0], [1.0, 1.0]])))
    image = torch.randint(0, 3, (52,))
    values = evaluate(grid.from_affine(affine), image, *grid.basis(points))
    homogeneous = torch.cat((points, torch.ones(52, 1)), 1).double()
    torch.testing.assert_close(values, (affine[image] @ homogeneous[..., None])[..., 0], atol=1e-5, rtol=0)


def test_a_lattice_has_the_values_of_its_points_one_by_one() -> None:
    grid = SplineGrid(4)
    coefficients = torch.randn(2, grid.num_coefficients, 2)
    x, y = torch.rand(5) * 2 - 1, torch.rand(3) * 2 - 1
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    for image, found in enumerate(grid.on_lattice(coefficients, x, y)):
        one_by_one = evaluate(coefficients, torch.full((15,), image), *grid.basis(points))
        torch.testing.assert_close(found.reshape(-1, 2), one_by_one)


def test_membrane_energy_is_the_sum_of_squared_neighbour_differences() -> None:
    grid = SplineGrid(2)
    values = torch.randn(grid.side, grid.side)
    flat = values.flatten()
    expected = values.diff(dim=0).square().sum() + values.diff(dim=1).square().sum()
    torch.testing.assert_close(flat @ grid.membrane_energy(torch.device("cpu")) @ flat, expected)
