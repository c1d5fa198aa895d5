from __future__ import annotations

import math

import pytest
import torch

from asic_flow.paper import losses
from asic_flow.paper.network import identity_grid

CPU = torch.device("cpu")


def flow(count: int = 1, side: int = 5) -> torch.Tensor:
    return identity_grid((side, side), CPU).repeat(count, 1, 1, 1)


def test_reconstruction_counts_the_object_alone_and_every_photo_the_same() -> None:
    photo, painted = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    painted[0] *= 3
    mask = torch.zeros(2, 4, 4)
    mask[0, :2], mask[1, 0, 0] = 1, 1
    painted[:, :, 3] = 99
    assert losses.reconstruction(painted, photo, mask).item() == pytest.approx(2.0)
    assert losses.reconstruction(painted, photo, torch.zeros(2, 4, 4)).item() == 0.0


def test_matches_on_paper() -> None:
    ends = torch.tensor([[[3.0, 0.0], [7.0, 0.0]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    # At the loss's scale two points a distance of 1 apart, each on its partner: log(1 + exp(-1 / T)) from either end.
    expected = 2 * math.log1p(math.exp(-1 / 0.5))
    assert losses.matches(ends, ends, valid, 0.5).item() == pytest.approx(expected, rel=1e-5)
    padded = torch.cat((ends, torch.full((1, 90, 2), 0.1)), 1)
    valid = torch.cat((valid, torch.zeros(1, 90, dtype=torch.bool)), 1)
    assert losses.matches(padded, padded, valid, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_stretching_the_map_does_not_pay() -> None:
    ends_a, ends_b = torch.randn(2, 3, 20, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(3, 20, dtype=torch.bool)
    stretch = torch.tensor(1.0, requires_grad=True)
    losses.matches(stretch * ends_a + 1, stretch * ends_b + 1, valid, 0.1).backward()
    assert abs(stretch.grad.item()) < 1e-4


def test_a_pair_without_matches_is_worth_nothing_and_is_no_nan() -> None:
    ends = torch.zeros(1, 3, 2, requires_grad=True)
    none = torch.zeros(1, 3, dtype=torch.bool)
    total = losses.matches(ends, ends, none, 0.1) + losses.match_distance(ends, ends, none, 0.1)
    total = total + losses.cycle(ends, ends, ends.detach(), none)
    total.backward()
    assert total.item() == 0.0
    assert torch.equal(ends.grad, torch.zeros_like(ends))


def test_match_distance_is_bounded() -> None:
    valid = torch.ones(1, 2, dtype=torch.bool)
    ends_a = torch.zeros(1, 2, 2)
    ends_b = torch.tensor([[[0.1, 0.0], [1e4, 0.0]]])
    assert losses.match_distance(ends_a, ends_b, valid, 0.1).item() == pytest.approx(0.75, abs=1e-4)


def test_total_variation_is_of_slopes_at_any_resolution() -> None:
    for side in (64, 256):
        slope = 0.3 * identity_grid((side, side), CPU)[..., 0]
        displacement = torch.stack((slope, torch.zeros_like(slope)))[None]
        # A slope of 0.3 per unit is 0.6 / 255 a published pixel; half of the differences along x are of that size.
        expected = 0.5 * (0.6 / 255) ** 2 / 4
        assert losses.total_variation(displacement).item() == pytest.approx(expected, rel=1e-4)
    assert losses.total_variation(torch.full((1, 2, 8, 8), 3.0)).item() == 0.0


def test_equivariance_is_zero_for_a_map_that_moves_with_its_photo() -> None:
    warp = 0.8 * flow(side=9)
    mask = torch.ones(1, 9, 9)
    own, of_warped = (0.5 * field.permute(0, 3, 1, 2) for field in (flow(side=9), warp))
    assert losses.equivariance(of_warped, own, warp, mask).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.equivariance(of_warped + 0.1, own, warp, mask).item() == pytest.approx(0.2, abs=1e-5)
    outside = torch.cat((warp[:, :5], warp[:, 5:] + 3), 1)
    assert losses.equivariance(of_warped, own, outside, mask).item() == pytest.approx(0.0, abs=1e-6)


def test_both_sides_of_equivariance_have_gradients() -> None:
    moved, own = (flow(side=5).permute(0, 3, 1, 2).clone().requires_grad_() for _ in range(2))
    losses.equivariance(moved * 0.9, own, 0.7 * flow(side=5), torch.ones(1, 5, 5)).backward()
    assert moved.grad.abs().sum() > 0
    assert own.grad.abs().sum() > 0


def test_mask_on_paper() -> None:
    assert losses.mask(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)).item() == pytest.approx(math.log(2))
    assert losses.mask(torch.full((1, 2, 2), 50.0), torch.ones(1, 2, 2)).item() < 1e-6


def test_parts_on_paper() -> None:
    labels = torch.tensor([[[1, 2], [0, 0]]])
    places = torch.tensor([[[[0.0, 1.0], [4.0, 4.0]], [[9.0, 9.0], [9.0, 9.0]]]])
    centroids = torch.tensor([[1.0, 1.0], [4.0, 2.0]])
    assert losses.parts(places, labels, centroids).item() == pytest.approx((1 + 2) / 2)


def test_a_cycle_returns_where_partners_lie_on_each_other() -> None:
    places = torch.tensor([[[-0.8, 0.0], [0.0, 0.8], [0.8, -0.8], [0.0, 0.75]]])
    valid = torch.tensor([[True, True, True, False]])
    assert losses.cycle(places, places, places, valid).item() < 1e-3
    astray = places.clone()
    astray[:, 1] = places[:, 0]
    assert losses.cycle(astray, places, places, valid).item() > 0.1
    assert losses.cycle(0 * places, 0 * places, places, valid).item() > 0.5


def test_folds_are_what_is_turned_over() -> None:
    mask = torch.ones(2, 6, 6)
    mirrored = flow(2, 6) * torch.tensor([-1.0, 1.0])
    assert losses.folds(flow(2, 6), mask).item() == 0.0
    assert losses.folds(mirrored, mask).item() == pytest.approx(1.0)
    mask[0] = 0
    assert losses.folds(mirrored, mask).item() == pytest.approx(0.5)
