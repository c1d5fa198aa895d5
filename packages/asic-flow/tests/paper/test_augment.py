from __future__ import annotations

import pytest
import torch

from asic_flow.paper.augment import Augmentation, bend_points, recolour, spline_basis, yiq_matrices
from asic_flow.paper.network import identity_grid

CPU = torch.device("cpu")


def unchanged(count: int) -> Augmentation:
    one, zero = torch.ones(count), torch.zeros(count)
    return Augmentation(torch.zeros(count, 16, 2), one, one, one, zero, zero, 2 * one)


def draw(count: int, seed: int = 0, *, jitter: float = 1.0, bend: float = 0.4) -> Augmentation:
    return Augmentation.draw(count, jitter=jitter, bend=bend, generator=torch.Generator().manual_seed(seed))


def test_neutral_numbers_change_no_colour() -> None:
    images = torch.rand(3, 3, 7, 9)
    torch.testing.assert_close(recolour(images, unchanged(3), yiq_matrices()), images, atol=2e-6, rtol=0)


def test_dark_pictures_stay_in_range_and_do_not_turn_black() -> None:
    images = 0.3 * torch.rand(40, 3, 8, 8)
    out = recolour(images, draw(40), yiq_matrices())
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out.flatten(1).mean(1) > 0.02).all()


def test_every_change_does_what_it_says() -> None:
    images = torch.rand(1, 3, 8, 8)
    one = torch.ones(1)
    changed = {
        name: recolour(images, Augmentation(**{**vars(unchanged(1)), name: value}), yiq_matrices())
        for name, value in {
            "brightness": 0.5 * one, "contrast": 0 * one, "saturation": 0 * one, "hue": one, "blur": one,
            "solarise": 0.5 * one,
        }.items()
    }  # fmt: skip
    torch.testing.assert_close(changed["brightness"], images / 2, atol=2e-6, rtol=0)
    grey = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1).mean()
    torch.testing.assert_close(changed["contrast"], grey.expand_as(images), atol=2e-6, rtol=0)
    assert changed["saturation"].std(1).max() < 1e-3
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    inside = (changed["hue"] > 0).all(1) & (changed["hue"] < 1).all(1)
    brightness = (changed["hue"] * luma).sum(1), (images * luma).sum(1)
    torch.testing.assert_close(brightness[0][inside], brightness[1][inside], atol=1e-5, rtol=0)
    assert changed["blur"].var() < images.var()
    torch.testing.assert_close(changed["blur"].mean(), images.mean(), atol=0.02, rtol=0)
    torch.testing.assert_close(changed["solarise"], torch.where(images >= 0.5, 1 - images, images), atol=2e-6, rtol=0)


def test_the_draw_is_of_its_generator_alone_and_without_strength_does_nothing() -> None:
    first = draw(4)
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(draw(4)).values(), strict=True))
    none = draw(4, jitter=0, bend=0)
    images = torch.rand(4, 3, 6, 6)
    torch.testing.assert_close(recolour(images, none, yiq_matrices()), images, atol=2e-6, rtol=0)
    assert not none.bend.any()


def test_the_spline_meets_its_control_points_and_leaves_affine_maps_straight() -> None:
    basis = spline_basis((7, 7), CPU)  # every second pixel is a control point
    bend = 0.2 * torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(1))
    bent = bend_points(basis, bend, (7, 7))
    at_control = (bent - identity_grid((7, 7), CPU))[:, ::2, ::2].reshape(2, 16, 2)
    torch.testing.assert_close(at_control, bend, atol=1e-5, rtol=0)
    control = identity_grid((4, 4), CPU).reshape(1, 16, 2)
    affine = bend_points(basis, 0.3 * control.flip(-1) + 0.1, (7, 7))
    straight = identity_grid((7, 7), CPU)
    torch.testing.assert_close(affine[0], straight + 0.3 * straight.flip(-1) + 0.1, atol=1e-5, rtol=0)


def test_bends_seldom_fold() -> None:
    bent = bend_points(spline_basis((32, 32), CPU), draw(50).bend, (32, 32))
    along_x, along_y = bent[:, :-1].diff(dim=2), bent[:, :, :-1].diff(dim=1)
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    assert (area > 0).float().mean() == pytest.approx(1.0, abs=0.02)
