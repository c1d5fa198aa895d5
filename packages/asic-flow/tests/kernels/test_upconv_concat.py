"""`upconv_concat` against numbers made by hand, torch's own and float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv_transpose2d

from asic_flow.kernels import upconv_concat


def run(backend, leaves, cotangent, dtype=torch.float32):
    """Return the joined signal and the four gradients in float64 on the CPU; signals are of `dtype`."""
    kinds = (dtype, dtype, torch.float32, torch.float32)
    leaves = [leaf.to(backend.device, kind).requires_grad_() for leaf, kind in zip(leaves, kinds, strict=True)]
    joined = upconv_concat(*leaves, impl=backend.impl)
    assert joined.dtype == dtype
    joined.backward(cotangent.to(joined))
    assert [leaf.grad.dtype for leaf in leaves] == list(kinds)
    return [values.detach().cpu().double() for values in (joined, *(leaf.grad for leaf in leaves))]


def expected(leaves, cotangent):
    """The same in float64 by torch's own operations."""
    skip, low, weight, bias = (leaf.clone().requires_grad_() for leaf in leaves)
    joined = torch.cat((skip, conv_transpose2d(low, weight, bias, stride=2)), 1)
    joined.backward(cotangent)
    return [values.detach() for values in (joined, skip.grad, low.grad, weight.grad, bias.grad)]


def drawn(draw, batch, passed, inner, made, height, width):
    leaves = [
        draw(batch, passed, 2 * height, 2 * width),
        draw(batch, inner, height, width, seed=1),
        draw(inner, made, 2, 2, seed=2) / inner**0.5,
        draw(made, seed=3),
    ]
    return leaves, draw(batch, passed + made, 2 * height, 2 * width, seed=4)


def test_one_pixel_made_by_hand(backend):
    low = torch.tensor([2.0, 10.0], device=backend.device).view(1, 2, 1, 1)
    weight = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[0.0, 0.1], [0.2, 0.3]]]], device=backend.device)
    skip = torch.full((1, 1, 2, 2), 7.0, device=backend.device)
    joined = upconv_concat(skip, low, weight, torch.ones(1, device=backend.device), impl=backend.impl)
    assert joined[0, 0].tolist() == [[7, 7], [7, 7]]
    assert joined[0, 1].flatten().tolist() == pytest.approx([3, 6, 9, 12])


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (2, 3, 5, 4, 3, 2), (3, 8, 16, 8, 2, 5), (1, 70, 6, 130, 2, 3)])
def test_outputs_and_all_gradients_are_those_of_float64(backend, draw, sizes):
    leaves, cotangent = drawn(draw, *sizes)
    for ours, exact in zip(run(backend, leaves, cotangent), expected(leaves, cotangent), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=2e-5)


def test_many_rows_are_collected_by_many_programs(backend, draw, monkeypatch):
    if backend.impl == "triton":
        from asic_flow.kernels.upconv_concat import _triton

        monkeypatch.setattr(_triton, "TILE", 16)
        monkeypatch.setattr(_triton, "PARTS", 5)
    leaves, cotangent = drawn(draw, 2, 4, 3, 4, 6, 7)
    for ours, exact in zip(run(backend, leaves, cotangent), expected(leaves, cotangent), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=2e-5)


def test_half_precision_loses_what_rounding_loses(backend, draw):
    leaves, cotangent = drawn(draw, 2, 8, 16, 8, 4, 4)
    leaves = [leaf.bfloat16().double() for leaf in leaves]
    found = run(backend, leaves, cotangent.bfloat16().double(), dtype=torch.bfloat16)
    for ours, exact in zip(found, expected(leaves, cotangent.bfloat16().double()), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0.02, atol=0.05 * exact.abs().max().item())


def test_any_layout_gives_the_same_and_any_run_the_same_bits(backend, draw):
    leaves, cotangent = drawn(draw, 2, 8, 4, 8, 3, 2)
    plain = run(backend, leaves, cotangent)
    last = [leaf.contiguous(memory_format=torch.channels_last) for leaf in leaves[:2]]
    strided = [*last, leaves[2].flip(0).flip(0), leaves[3]]
    for other, one in zip(run(backend, strided, cotangent), plain, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    for again, one in zip(run(backend, leaves, cotangent), plain, strict=True):
        assert torch.equal(again, one)


def test_what_is_not_finite_shows_in_its_four_pixels_alone(backend, draw):
    leaves, cotangent = drawn(draw, 2, 3, 4, 4, 3, 2)
    leaves[1][1, 2, 0, 1] = float("nan")
    joined = run(backend, leaves, cotangent)[0]
    wrong = joined[:, 3:].isnan()
    assert wrong[1, :, :2, 2:].all()
    assert wrong.sum() == 16
    assert joined[:, :3].isfinite().all()


def test_gradcheck_of_the_reference(draw):
    leaves, _ = drawn(draw, 1, 2, 3, 2, 2, 2)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(lambda *leaves: upconv_concat(*leaves, impl="reference"), leaves)


def test_arguments_that_do_not_fit_are_refused():
    skip, low = torch.zeros(2, 3, 4, 6), torch.zeros(2, 5, 2, 3)
    weight, bias = torch.zeros(5, 4, 2, 2), torch.zeros(4)
    for other in (skip[0], skip[:1], skip[:, :, 1:], torch.zeros(2, 0, 4, 6)):
        with pytest.raises(ValueError, match=r"skip must be \(B, S, 2 h, 2 w\) and low \(B, I, h, w\)"):
            upconv_concat(other, low, weight, bias)
    with pytest.raises(ValueError, match="skip must be twice as wide as low"):
        upconv_concat(skip[..., 1:], low, weight, bias)
    for other in (weight[1:], weight[..., :1], weight[0]):
        with pytest.raises(ValueError, match=r"weight must be \(5, C, 2, 2\)"):
            upconv_concat(skip, low, other, bias)
    with pytest.raises(ValueError, match=r"bias must be \(4,\), got \(3,\)"):
        upconv_concat(skip, low, weight, bias[1:])
    with pytest.raises(TypeError, match="skip and low must share a floating point dtype"):
        upconv_concat(skip, low.double(), weight, bias)
    with pytest.raises(TypeError, match=r"bias must be floating point, got torch\.int64"):
        upconv_concat(skip, low, weight, bias.long())
    with pytest.raises(ValueError, match="weight must be on cpu with the skip, got meta"):
        upconv_concat(skip, low, weight.to("meta"), bias)
