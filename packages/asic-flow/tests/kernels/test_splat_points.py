"""`splat_points` against exact integrals and the reference in float64."""

from __future__ import annotations

import math

import pytest
import torch

from asic_flow.kernels import splat_points
from asic_flow.kernels.splat_points import reference


def run(backend, images, points, values, **options):
    tensors = (tensor.float().to(backend.device) for tensor in (images, points, values))
    return splat_points(*tensors, impl=backend.impl, **options).cpu().double()


def test_a_splat_holds_the_mass_of_its_gaussian_wherever_it_lies(backend):
    images, values = torch.zeros(3, 1, 40, 40), torch.ones(3, 1, 1)
    points = torch.tensor([[[20.0, 20.0]], [[20.5, 19.25]], [[19.77, 20.31]]])
    for sigma in (0.3, 1.0, 2.5):
        mass = run(backend, images, points, values, sigma_px=sigma).sum((1, 2, 3))
        assert mass.tolist() == pytest.approx([2 * math.pi * sigma**2] * 3, rel=3e-4)


def test_a_wide_splat_is_its_gaussian(backend):
    drawn = run(backend, torch.zeros(1, 1, 31, 31), torch.tensor([[[15.0, 15.0]]]), torch.ones(1, 1, 1), sigma_px=5.0)
    assert drawn[0, 0, 15, 15] == pytest.approx(1, abs=4e-3)
    assert drawn[0, 0, 15, 20] == pytest.approx(math.exp(-0.5), abs=4e-3)


@pytest.mark.parametrize("mode", ["add", "over"])
@pytest.mark.parametrize("sigma", [0.4, 1.7])
def test_pictures_are_those_of_float64(backend, draw, monkeypatch, mode, sigma):
    if backend.impl == "triton":
        from asic_flow.kernels.splat_points import _triton

        # Several tiles each way, so that points reach from one into the next.
        monkeypatch.setattr(_triton, "BLOCK_H", 32)
        monkeypatch.setattr(_triton, "BLOCK_W", 16)
    images, values = draw(2, 3, 37, 21), draw(2, 25, 3, seed=1)
    points = torch.rand(2, 25, 2, generator=torch.Generator().manual_seed(0)) * 50 - 7
    points[0, 3] = float("nan")
    points[1, 0, 1] = float("inf")
    values[0, 3] = float("nan")
    expected = reference.splat(images, points.double(), values, sigma, mode == "over")
    found = run(backend, images, points, values, sigma_px=sigma, mode=mode)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert torch.equal(run(backend, images, points, values, sigma_px=sigma, mode=mode), found)


def test_later_points_are_painted_over_earlier_ones(backend):
    points = torch.tensor([[[4.0, 4.0], [4.0, 4.0]]])
    drawn = run(backend, torch.zeros(1, 1, 9, 9), points, torch.tensor([[[5.0], [1.0]]]), sigma_px=50.0, mode="over")
    torch.testing.assert_close(drawn, torch.ones(1, 1, 9, 9).double(), rtol=0, atol=0.05)


def test_the_images_are_left_alone(backend):
    images = torch.zeros(1, 1, 5, 5, device=backend.device)
    points, values = torch.full((1, 1, 2), 2.0).to(images), torch.ones(1, 1, 1).to(images)
    for mode in ("add", "over"):
        assert splat_points(images, points, values, sigma_px=1.0, mode=mode, impl=backend.impl).max() > 0.5
    assert images.abs().max() == 0


@pytest.mark.parametrize("mode", ["add", "over"])
def test_no_points_and_strided_images_draw_nothing(backend, draw, mode):
    images = draw(2, 5, 6, 3).permute(0, 3, 1, 2)
    drawn = run(backend, images, torch.zeros(2, 0, 2), torch.zeros(2, 0, 3), sigma_px=1.0, mode=mode)
    assert torch.equal(drawn, images.float().double())


def test_arguments_that_do_not_fit_are_refused():
    images, points, values = torch.zeros(2, 3, 5, 5), torch.zeros(2, 4, 2), torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\)"):
        splat_points(images[0], points, values, sigma_px=1.0)
    with pytest.raises(ValueError, match=r"points_px must be \(2, P, 2\)"):
        splat_points(images, points[:1], values, sigma_px=1.0)
    with pytest.raises(ValueError, match=r"values must be \(2, 4, 3\), got shape \(2, 4, 1\)"):
        splat_points(images, points, values[..., :1], sigma_px=1.0)
    with pytest.raises(TypeError, match="points_px must be float32"):
        splat_points(images, points.double(), values, sigma_px=1.0)
    with pytest.raises(ValueError, match="values must be on cpu with the images"):
        splat_points(images, points, values.to("meta"), sigma_px=1.0)
    for sigma in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sigma_px must be above 0"):
            splat_points(images, points, values, sigma_px=sigma)
    with pytest.raises(ValueError, match="mode must be add or over, got 'max'"):
        splat_points(images, points, values, sigma_px=1.0, mode="max")
