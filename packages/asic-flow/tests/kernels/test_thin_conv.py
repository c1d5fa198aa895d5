"""`stem_conv`, `thin_conv` and `head_conv` against numbers made by hand, torch's own and float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d

from asic_flow.kernels import head_conv, stem_conv, thin_conv


def run_stem(backend, images, weight, cotangent, dtype=torch.float32):
    """Return the convolved images and the weight's gradient in float64 on the CPU."""
    images, weight = (values.to(backend.device, torch.float32) for values in (images, weight))
    weight.requires_grad_()
    out = stem_conv(images, weight, dtype=dtype, impl=backend.impl)
    assert out.dtype == dtype
    out.backward(cotangent.to(out))
    return out.detach().cpu().double(), weight.grad.cpu().double()


def expected_stem(images, weight, cotangent):
    """The same in float64 by torch's own convolution."""
    weight = weight.clone().requires_grad_()
    out = conv2d(images, weight, padding=1)
    out.backward(cotangent)
    return out.detach(), weight.grad


def test_one_bright_pixel_shows_the_weights_turned_around(backend):
    images = torch.zeros(1, 1, 3, 3, device=backend.device)
    images[0, 0, 1, 1] = 2
    weight = torch.arange(9.0, device=backend.device).view(1, 1, 3, 3)
    out = stem_conv(images, weight, impl=backend.impl)
    assert out[0, 0].tolist() == (2 * weight[0, 0].flip(0, 1)).tolist()


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3, 5, 7, 8), (1, 3, 2, 130, 20), (3, 8, 4, 6, 70)])
def test_a_stems_outputs_and_gradients_are_those_of_float64(backend, draw, sizes):
    batch, channels, height, width, num_out = sizes
    images, weight = draw(batch, channels, height, width), draw(num_out, channels, 3, 3, seed=1)
    cotangent = draw(batch, num_out, height, width, seed=2)
    for ours, exact in zip(
        run_stem(backend, images, weight, cotangent), expected_stem(images, weight, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=5e-5)


def test_a_stems_many_rows_are_added_up_by_many_programs(backend, draw, monkeypatch):
    if backend.impl == "triton":
        from asic_flow.kernels.thin_conv import _triton

        monkeypatch.setattr(_triton, "STEM_PARTS", 3)
        monkeypatch.setattr(_triton, "STEM_BYTES", 64)
        monkeypatch.setattr(_triton, "STEM_SUMS", {4: (64, 1)})
    images, weight, cotangent = draw(2, 3, 5, 20), draw(4, 3, 3, 3, seed=1), draw(2, 4, 5, 20, seed=2)
    for ours, exact in zip(
        run_stem(backend, images, weight, cotangent), expected_stem(images, weight, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_stem_in_half_precision_loses_what_rounding_loses(backend, draw, dtype):
    if dtype == torch.bfloat16 and backend == ("triton", "cpu"):
        pytest.skip("the interpreter multiplies the bits of bfloat16")
    images, weight, cotangent = (
        values.to(dtype).double() for values in (draw(2, 3, 6, 8), draw(8, 3, 3, 3, seed=1), draw(2, 8, 6, 8, seed=2))
    )
    found = run_stem(backend, images, weight, cotangent, dtype=dtype)
    for ours, exact in zip(found, expected_stem(images, weight, cotangent), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0.02, atol=0.02 * exact.abs().max().item())


def test_a_stem_of_any_layout_gives_the_same_and_any_run_the_same_bits(backend, draw):
    images, weight, cotangent = draw(2, 3, 6, 8), draw(8, 3, 3, 3, seed=1), draw(2, 8, 6, 8, seed=2)
    plain = run_stem(backend, images, weight, cotangent)
    last = [values.contiguous(memory_format=torch.channels_last) for values in (images, weight, cotangent)]
    for other, one in zip(run_stem(backend, *last), plain, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    for again, one in zip(run_stem(backend, images, weight, cotangent), plain, strict=True):
        assert torch.equal(again, one)


def test_what_is_not_finite_shows_around_it_alone(backend, draw):
    images, weight = draw(2, 3, 6, 8), draw(8, 3, 3, 3, seed=1)
    images[1, 2, 0, 4] = float("nan")
    out, _ = run_stem(backend, images, weight, draw(2, 8, 6, 8, seed=2))
    assert out[1, :, :2, 3:6].isnan().all()
    assert out.isnan().sum() == 8 * 6


def test_gradcheck_of_the_references(draw):
    images, weight = draw(1, 2, 3, 4), draw(2, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda weight: stem_conv(images, weight, dtype=torch.float64, impl="reference"), weight
    )
    signal = draw(1, 2, 3, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *both: thin_conv(*both, impl="reference"), (signal, weight))
    field = [draw(3, 2, 1, 1, seed=3).requires_grad_(), draw(3, seed=4).requires_grad_()]
    assert torch.autograd.gradcheck(lambda *all_of: head_conv(*all_of, impl="reference"), (signal, *field))


def test_arguments_of_a_stem_that_do_not_fit_are_refused():
    images, weight = torch.zeros(2, 3, 4, 4), torch.zeros(8, 3, 3, 3)
    for other in (images[0], images[:0], torch.zeros(2, 15, 4, 4)):
        with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\) with up to 14 channels"):
            stem_conv(other, weight)
    with pytest.raises(ValueError, match="images must not require a gradient"):
        stem_conv(images.clone().requires_grad_(), weight)
    for other in (weight[:, 1:], weight[..., 1:], weight[0], weight[:0]):
        with pytest.raises(ValueError, match=r"weight must be \(O, 3, 3, 3\)"):
            stem_conv(images, other)
    with pytest.raises(TypeError, match="images and weight must both be float32 or float64"):
        stem_conv(images, weight.double())
    with pytest.raises(TypeError, match=r"dtype must be floating point, got torch\.int64"):
        stem_conv(images, weight, dtype=torch.int64)
    with pytest.raises(ValueError, match="weight must be on cpu with what it weighs, got meta"):
        stem_conv(images, weight.to("meta"))


def run_thin(backend, signal, weight, cotangent, dtype=torch.float16):
    """Return the convolved signal and both gradients in float64 on the CPU; the signal is of `dtype`."""
    signal = signal.to(backend.device, dtype).requires_grad_()
    weight = weight.to(backend.device, torch.float32).requires_grad_()
    out = thin_conv(signal, weight, impl=backend.impl)
    assert out.dtype == dtype
    out.backward(cotangent.to(out))
    assert weight.grad.dtype == torch.float32
    return [values.detach().cpu().double() for values in (out, signal.grad, weight.grad)]


def expected_thin(signal, weight, cotangent):
    """The same in float64 by torch's own convolution."""
    signal, weight = (values.clone().requires_grad_() for values in (signal, weight))
    out = conv2d(signal, weight, padding=1)
    out.backward(cotangent)
    return [values.detach() for values in (out, signal.grad, weight.grad)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3, 5, 7, 8), (1, 32, 40, 70, 32), (1, 20, 6, 5, 64)])
def test_a_thin_signals_outputs_and_gradients_are_those_of_float64(backend, draw, sizes, dtype):
    if dtype == torch.bfloat16 and backend == ("triton", "cpu"):
        pytest.skip("the interpreter multiplies the bits of bfloat16")
    batch, channels, height, width, num_out = sizes
    signal, weight, cotangent = (
        values.to(dtype).double()
        for values in (
            draw(batch, channels, height, width),
            draw(num_out, channels, 3, 3, seed=1) / (9 * channels) ** 0.5,
            draw(batch, num_out, height, width, seed=2),
        )
    )
    found = run_thin(backend, signal, weight, cotangent, dtype)
    exact = expected_thin(signal, weight, cotangent)
    for ours, right in zip(found[:2], exact[:2], strict=True):
        torch.testing.assert_close(ours, right, rtol=0.02, atol=0.02)
    # Torch's own rounds the weight's gradient to half precision, ours to float32.
    loss = 1e-5 if backend.impl == "triton" else 0.02
    torch.testing.assert_close(found[2], exact[2], rtol=loss, atol=loss * exact[2].abs().max().item())


def test_a_thin_signals_lines_are_shared_among_programs(backend, draw, monkeypatch):
    if backend.impl == "triton":
        from asic_flow.kernels.thin_conv import _triton

        monkeypatch.setattr(_triton, "THIN_ROWS", 3)
        monkeypatch.setattr(_triton, "THIN_PIXELS", 16)
    values = (draw(2, 4, 7, 37), draw(8, 4, 3, 3, seed=1), draw(2, 8, 7, 37, seed=2))
    signal, weight, cotangent = (one.half().double() for one in values)
    found, exact = run_thin(backend, signal, weight, cotangent), expected_thin(signal, weight, cotangent)
    torch.testing.assert_close(found[2], exact[2], rtol=0.01, atol=0.02 if backend.impl != "triton" else 1e-4)


def test_a_thin_weight_has_its_gradient_where_the_signal_wants_none(backend, draw):
    signal = draw(1, 4, 5, 6).to(backend.device, torch.float16)
    weight = draw(8, 4, 3, 3, seed=1).to(backend.device, torch.float32).requires_grad_()
    thin_conv(signal, weight, impl=backend.impl).sum().backward()
    exact = expected_thin(signal.cpu().double(), weight.detach().cpu().double(), torch.ones(1, 8, 5, 6))
    torch.testing.assert_close(weight.grad.cpu().double(), exact[2], rtol=0.01, atol=0.05)


def test_a_thin_signal_in_single_precision_is_the_librarys(draw):
    signal, weight = draw(1, 4, 5, 6), draw(8, 4, 3, 3, seed=1)
    exact = thin_conv(signal.double(), weight.double(), impl="reference")
    torch.testing.assert_close(thin_conv(signal.float(), weight.float()).double(), exact, rtol=1e-5, atol=1e-5)
    module = pytest.importorskip("asic_flow.kernels.thin_conv._triton", reason="no Triton on this platform")
    with pytest.raises(TypeError, match="the Triton kernel is of half precision"):
        module.thin(signal.float(), weight)


def run_head(backend, signal, weight, bias, cotangent, dtype=torch.float32):
    """Return the field and all gradients in float64 on the CPU; the signal is of `dtype`."""
    signal = signal.to(backend.device, dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = (values.to(backend.device, torch.float32).requires_grad_() for values in (weight, bias))
    field = head_conv(signal, weight, bias, impl=backend.impl)
    assert (field.dtype, signal.dtype) == (torch.float32, dtype)
    field.backward(cotangent.to(field))
    return [values.detach().cpu().double() for values in (field, signal.grad, weight.grad, bias.grad)]


def expected_head(signal, weight, bias, cotangent):
    """The same in float64 by torch's own convolution."""
    leaves = [values.clone().requires_grad_() for values in (signal, weight, bias)]
    field = conv2d(*leaves)
    field.backward(cotangent)
    return [values.detach() for values in (field, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 5, 3, 7, 2), (3, 32, 6, 4, 3), (2, 70, 5, 3, 4)])
def test_a_heads_field_and_gradients_are_those_of_float64(backend, draw, sizes, dtype):
    batch, channels, height, width, num_out = sizes
    signal = draw(batch, channels, height, width).to(dtype).double()
    weight, bias = draw(num_out, channels, 1, 1, seed=1), draw(num_out, seed=2)
    cotangent = draw(batch, num_out, height, width, seed=3)
    found = run_head(backend, signal, weight, bias, cotangent, dtype)
    loss = 1e-5 if dtype == torch.float32 else 2**-7
    for ours, exact in zip(found, expected_head(signal, weight, bias, cotangent), strict=True):
        torch.testing.assert_close(ours, exact, rtol=max(loss, 1e-5), atol=loss)


def test_a_heads_many_rows_are_added_up_by_many_programs(backend, draw, monkeypatch):
    if backend.impl == "triton":
        from asic_flow.kernels.thin_conv import _triton

        monkeypatch.setattr(_triton, "HEAD_PARTS", 3)
        monkeypatch.setattr(_triton, "HEAD_VALUES", 32)
    values = (draw(2, 4, 7, 9), draw(2, 4, 1, 1, seed=1), draw(2, seed=2), draw(2, 2, 7, 9, seed=3))
    for ours, exact in zip(run_head(backend, *values), expected_head(*values), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=2e-5)


def test_arguments_of_the_others_that_do_not_fit_are_refused():
    signal, weight, bias = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 1, 1), torch.zeros(2)
    with pytest.raises(ValueError, match=r"signal must be \(B, C, H, W\) with up to 32 channels"):
        thin_conv(torch.zeros(1, 33, 4, 4), torch.zeros(2, 33, 3, 3))
    with pytest.raises(ValueError, match=r"weight must be \(O, 3, 3, 3\)"):
        thin_conv(signal, weight)
    with pytest.raises(ValueError, match="weight must have up to 64 outputs, got 65"):
        thin_conv(signal, torch.zeros(65, 3, 3, 3))
    with pytest.raises(TypeError, match="signal and weight must be floating point"):
        thin_conv(signal.long(), torch.zeros(2, 3, 3, 3))
    with pytest.raises(ValueError, match=r"weight must be \(O, 3, 1, 1\)"):
        head_conv(signal, weight[:, 1:], bias)
    for others in ((torch.zeros(5, 3, 1, 1), torch.zeros(5)), (weight, bias[1:])):
        with pytest.raises(ValueError, match="weight and bias must have one to 4 outputs"):
            head_conv(signal, *others)
    with pytest.raises(ValueError, match="bias must be on cpu with the signal, got meta"):
        head_conv(signal, weight, bias.to("meta"))
    with pytest.raises(TypeError, match=r"signal must be floating point, got torch\.int64"):
        head_conv(signal.long(), weight, bias)
    with pytest.raises(TypeError, match=r"weight and bias must be torch\.float32 with torch\.bfloat16"):
        head_conv(signal.bfloat16(), weight.bfloat16(), bias)


def test_autocast_changes_no_precision_that_was_asked_for(draw):
    images, weight = draw(1, 3, 4, 4).float(), draw(8, 3, 3, 3, seed=1).float()
    head, bias = draw(2, 8, 1, 1, seed=2).float(), draw(2, seed=3).float()
    with torch.autocast("cpu", torch.bfloat16):
        signal = stem_conv(images, weight)
        field = head_conv(signal.bfloat16().contiguous(memory_format=torch.channels_last), head, bias)
    assert (signal.dtype, field.dtype) == (torch.float32, torch.float32)
    assert field.is_contiguous()
    torch.testing.assert_close(signal, conv2d(images, weight, padding=1))
