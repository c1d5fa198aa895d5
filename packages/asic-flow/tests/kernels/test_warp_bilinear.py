"""`warp_bilinear` against numbers made by hand, torch's sampler and float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from asic_flow.kernels import warp_bilinear
from asic_flow.kernels.warp_bilinear import api
from asic_flow.kernels.warp_bilinear.placement import resize_gradient, resize_points


def run(backend, image, points, deterministic=True, cotangent=None, **options):
    """Return samples and gradients of image, points and affine in float64 on the CPU, computed in float32."""
    leaves = {"image": image, "points": points, "affine": options.pop("affine", None)}
    leaves = {
        name: leaf.detach().to(backend.device, torch.float32) for name, leaf in leaves.items() if leaf is not None
    }
    for leaf in leaves.values():
        leaf.requires_grad_()
    mask = options.pop("mask", None)
    sample = warp_bilinear(
        leaves["image"],
        leaves["points"],
        affine=leaves.get("affine"),
        mask=None if mask is None else mask.to(backend.device),
        deterministic=deterministic,
        impl=backend.impl,
        **options,
    )
    if cotangent is not None:
        sample.backward(cotangent.to(backend.device, torch.float32))
    gradients = {name: leaf.grad.cpu().double() for name, leaf in leaves.items() if leaf.grad is not None}
    return sample.detach().cpu().double(), gradients


def oracle(image, points, cotangent, **options):
    """The reference in float64, with its gradients by autograd."""
    leaves = {"image": image, "points": points, "affine": options.pop("affine", None)}
    leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items() if leaf is not None}
    sample = warp_bilinear(leaves["image"], leaves["points"], affine=leaves.get("affine"), impl="reference", **options)
    sample.backward(cotangent.double())
    return sample.detach(), {name: leaf.grad for name, leaf in leaves.items()}


def away_from_pixels(points, size_hw):
    """Move points whose pixel coordinate lies near a whole number, where the derivative jumps, to its neighbourhood."""
    scale = torch.tensor([size_hw[1] - 1, size_hw[0] - 1], dtype=points.dtype) / 2
    pixel = (points + 1) * scale
    offset = pixel - pixel.round()
    pixel = torch.where(offset.abs() < 0.01, pixel.round() + 0.01 * torch.where(offset < 0, -1, 1), pixel)
    return pixel / scale - 1


def test_samples_made_by_hand(backend):
    image = torch.tensor([[[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]])
    points = torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0], [-9.0, 0.5], [9.0, 9.0]]])
    border, _ = run(backend, image, points)
    assert border[0, 0].tolist() == [0.0, 12.0, 6.5, 7.5, 12.0]
    zeros, _ = run(backend, image, points, padding="zeros")
    assert zeros[0, 0].tolist() == [0.0, 12.0, 6.5, 0.0, 0.0]


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_samples_and_every_gradient_are_those_of_float64(backend, draw, padding, shared, deterministic):
    size_hw = (9, 14)
    image = draw(3, *size_hw) if shared else draw(2, 3, *size_hw)
    points = away_from_pixels(draw(2, 7, 11, 2, seed=1) * 0.8, size_hw)
    cotangent = draw(2, 3, 7, 11, seed=2)
    expected, gradients = oracle(image, points, cotangent, padding=padding)
    sample, found = run(backend, image, points, deterministic, cotangent, padding=padding)
    torch.testing.assert_close(sample, expected, rtol=0, atol=2e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_a_sampler_of_torch_agrees(draw, padding):
    image, points = draw(2, 3, 9, 14), draw(2, 40, 2, seed=1)
    expected = grid_sample(image, points[:, None], padding_mode=padding, align_corners=True)[:, :, 0]
    found = warp_bilinear(image, points, padding=padding, impl="reference")
    torch.testing.assert_close(found, expected)


def test_resize_affine_and_mask_come_in_their_order(backend, draw):
    image, points, affine = draw(4, 12, 10), draw(3, 4, 5, 2, seed=1) * 0.5, draw(3, 2, 3, seed=2) * 0.7
    mask = draw(3, 9, 7, seed=3) > 0
    cotangent = draw(3, 4, 9, 7, seed=4)
    field = interpolate(points.permute(0, 3, 1, 2), (9, 7), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    moved = (affine[:, None, None, :, :2] @ field[..., None])[..., 0] + affine[:, None, None, :, 2]
    by_hand = warp_bilinear(image, moved, impl="reference") * mask[:, None]
    expected, gradients = oracle(image, points, cotangent, affine=affine, mask=mask, size_hw=(9, 7))
    torch.testing.assert_close(expected, by_hand)
    sample, found = run(backend, image, points, cotangent=cotangent, affine=affine, mask=mask, size_hw=(9, 7))
    torch.testing.assert_close(sample, expected, rtol=0, atol=2e-5)
    assert found.keys() == gradients.keys() == {"image", "points", "affine"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=5e-4, msg=lambda text, name=name: name + text)


def test_a_point_on_a_pixel_reads_it_and_the_border_has_no_slope(backend):
    image = torch.arange(12.0).view(1, 3, 4)
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    points = torch.stack((columns * 2 / 3 - 1, rows - 1), -1)[None]
    sample, gradients = run(backend, image, points, cotangent=torch.ones(1, 1, 3, 4))
    torch.testing.assert_close(sample[0], image.double(), rtol=0, atol=1e-6)
    assert gradients["points"][0, :, [0, 3], 0].abs().max() == 0
    assert gradients["points"][0, [0, 2], :, 1].abs().max() == 0
    torch.testing.assert_close(gradients["image"].sum(), torch.tensor(12.0).double())


def test_an_image_of_one_pixel_is_that_pixel_everywhere(backend, draw):
    sample, gradients = run(backend, torch.full((1, 1, 1), 3.0), draw(2, 5, 2), cotangent=torch.ones(2, 1, 5))
    assert (sample == 3).all()
    assert gradients["points"].abs().max() == 0
    assert gradients["image"].item() == 10


def test_strided_input_gives_the_same_result(backend, draw):
    image, points = draw(3, 8, 8), draw(2, 20, 2, seed=1)
    plain, _ = run(backend, image, points)
    leaves = image.transpose(1, 2).contiguous().transpose(1, 2), points.flip(1).contiguous().flip(1)
    sample = warp_bilinear(*(leaf.float().to(backend.device) for leaf in leaves), impl=backend.impl)
    strided = image.float().to(backend.device).repeat_interleave(2, 2)[:, :, ::2]
    assert torch.equal(sample.cpu().double(), plain)
    again = warp_bilinear(strided, points.float().to(backend.device)[:, ::1], impl=backend.impl)
    assert torch.equal(again.cpu().double(), plain)


@pytest.mark.parametrize("shape", [(0, 5, 2), (2, 0, 2), (0, 4, 4, 2)])
def test_no_points_give_no_samples_and_a_gradient_of_zero(backend, draw, shape):
    image = draw(3, 4, 4)
    cotangent = torch.zeros(shape[0], 3, *shape[1:-1])
    sample, gradients = run(backend, image, torch.zeros(shape), cotangent=cotangent)
    assert sample.shape == cotangent.shape
    assert gradients["image"].abs().max() == 0


def test_the_deterministic_gradient_has_the_same_bits_in_any_order_of_the_points(backend, draw):
    if backend.impl != "triton":
        pytest.skip("torch adds up in the order of the points")
    image, points, cotangent = draw(2, 4, 4), draw(3, 300, 2, seed=1), draw(3, 2, 300, seed=2)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    _, gradients = run(backend, image, points, cotangent=cotangent)
    _, shuffled = run(backend, image, points[:, order], cotangent=cotangent[:, :, order])
    assert torch.equal(gradients["image"], shuffled["image"])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("mapped", [False, True])
def test_points_that_are_not_finite_are_refused_or_show_in_their_samples_alone(
    backend, draw, monkeypatch, bad, padding, mapped
):
    image, points, cotangent = draw(2, 4, 5), draw(2, 6, 2, seed=1) * 0.5, torch.ones(2, 2, 6)
    affine = torch.eye(2, 3).expand(2, 2, 3).clone() if mapped else None
    clean, gradients = run(backend, image, points[:1], cotangent=cotangent[:1], padding=padding)
    (affine if mapped else points)[1, 1, 0] = bad
    if backend.impl != "triton":
        with pytest.raises(ValueError, match=f"{'affine' if mapped else 'points_norm'} must be finite"):
            run(backend, image, points, affine=affine, padding=padding)
        return
    # The interpreter's tensors are on the CPU, where they would be refused before the kernel.
    monkeypatch.setattr(api, "all_finite", lambda _: True)
    sample, found = run(backend, image, points, cotangent=cotangent, affine=affine, padding=padding)
    concerned = torch.zeros(2, 6, dtype=torch.bool)
    concerned[1, slice(None) if mapped else 1] = True
    assert torch.equal(sample.isnan(), concerned[:, None].expand(2, 2, 6))
    assert torch.equal(found["points"].isnan().any(2), concerned)
    torch.testing.assert_close(sample[:1], clean)
    assert found["image"].isfinite().all()
    if mapped:
        torch.testing.assert_close(found["image"], gradients["image"])


def test_what_is_not_finite_in_an_image_shows_where_it_is_read(backend, draw):
    image = draw(1, 4, 5)
    image[0, 0, 0] = float("nan")
    sample, _ = run(backend, image, torch.tensor([[[-0.9, -0.9], [0.9, 0.9]]]))
    assert sample[0, 0].isnan().tolist() == [True, False]


# The interpreter's NumPy warns where a GPU turns NaN into some whole number.
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_shows_in_the_image(backend, draw, bad):
    cotangent = torch.ones(1, 1, 5)
    cotangent[0, 0, 2] = bad
    _, gradients = run(backend, draw(1, 4, 4), draw(1, 5, 2, seed=1), cotangent=cotangent)
    assert not gradients["image"].isfinite().all()


@pytest.mark.parametrize("value", [1e-30, 1e30])
def test_gradients_of_any_size_survive_the_fixed_point(backend, draw, value):
    image, points = draw(1, 4, 4), draw(1, 30, 2, seed=1)
    cotangent = draw(1, 1, 30, seed=2)
    _, gradients = oracle(image, points, cotangent)
    _, found = run(backend, image, points, cotangent=cotangent * value)
    torch.testing.assert_close(found["image"] / value, gradients["image"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("shared", [True, False])
def test_gradcheck_of_the_reference(draw, padding, shared):
    image = (draw(2, 4, 5) if shared else draw(2, 2, 4, 5)).requires_grad_()
    points = away_from_pixels(draw(2, 3, 3, 2, seed=1) * 0.3, (4, 5)).requires_grad_()
    affine = (torch.eye(2, 3).double() + 0.01 * draw(2, 2, 3, seed=2)).requires_grad_()

    def sample(*leaves):
        return warp_bilinear(leaves[0], leaves[1], affine=leaves[2], size_hw=(4, 3), padding=padding, impl="reference")

    assert torch.autograd.gradcheck(sample, (image, points, affine))


def test_arguments_that_do_not_fit_are_refused():
    image, points = torch.ones(3, 4, 4), torch.zeros(2, 5, 2)
    field = torch.zeros(2, 5, 5, 2)
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\) or \(B, C, H, W\) with pixels"):
        warp_bilinear(image[0], points)
    with pytest.raises(ValueError, match=r"with pixels, got shape \(3, 0, 4\)"):
        warp_bilinear(image[:, :0], points)
    with pytest.raises(ValueError, match=r"points_norm must be \(B, K, 2\)"):
        warp_bilinear(image, points[0])
    with pytest.raises(ValueError, match="one batch size, got 3 and 2"):
        warp_bilinear(image.expand(3, 3, 4, 4), points)
    with pytest.raises(TypeError, match=r"image must be float32 or float64, got torch.float16"):
        warp_bilinear(image.half(), points)
    with pytest.raises(ValueError, match=r"size_hw=\(8, 8\) needs points \(B, h, w, 2\)"):
        warp_bilinear(image, points, size_hw=(8, 8))
    with pytest.raises(ValueError, match=r"affine must be \(2, 2, 3\)"):
        warp_bilinear(image, points, affine=torch.eye(2, 3))
    with pytest.raises(ValueError, match=r"mask must be \(2, 5\), got shape \(2, 4\)"):
        warp_bilinear(image, points, mask=torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"mask must be \(2, 8, 9\)"):
        warp_bilinear(image, field, size_hw=(8, 9), mask=torch.ones(2, 5, 5))
    with pytest.raises(ValueError, match="mask must not require a gradient"):
        warp_bilinear(image, points, mask=torch.ones(2, 5, requires_grad=True))
    with pytest.raises(ValueError, match="points_norm must be on cpu with the image, got meta"):
        warp_bilinear(image, points.to("meta"))
    with pytest.raises(TypeError, match=r"points_norm must be torch.float32 like the image"):
        warp_bilinear(image, points.double())
    with pytest.raises(ValueError, match="padding must be border or zeros, got 'reflect'"):
        warp_bilinear(image, points, padding="reflect")


def test_a_large_field_is_resized_one_axis_after_the_other():
    # Joined, the two matrices would take 600^4 numbers, which no machine has.
    points = torch.rand(1, 600, 600, 2) * 2 - 1
    image = torch.rand(1, 3, 3)
    torch.testing.assert_close(warp_bilinear(image, points, size_hw=(600, 600)), warp_bilinear(image, points))
    torch.testing.assert_close(resize_gradient(points, (600, 600)), points)


@pytest.mark.parametrize(("small", "large"), [((4, 7), (9, 5)), ((1, 3), (4, 1))])
def test_the_gradient_of_a_resize_is_its_transpose(draw, small, large):
    field = draw(2, *small, 2).requires_grad_()
    grad = draw(2, *large, 2, seed=1)
    (expected,) = torch.autograd.grad(resize_points(field, large), field, grad)
    torch.testing.assert_close(resize_gradient(grad, small), expected)
