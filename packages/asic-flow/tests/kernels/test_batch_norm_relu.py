"""`batch_norm_relu` and its pooled form against numbers made by hand, torch's own and float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import batch_norm, max_pool2d

from asic_flow.kernels import batch_norm_relu, batch_norm_relu_pool

CHANNELS_LAST = torch.channels_last


def state(channels, draw):
    """Weight and bias, and a running mean and variance."""
    return [draw(channels, seed=seed) * 0.3 + 1 for seed in (1, 2)] + [draw(channels, seed=seed) + 3 for seed in (3, 4)]


def run(backend, signal, held, cotangents, *, dtype=torch.float32, pool=False, beside=None):
    """Return outputs, gradients and the running statistics in float64 on the CPU, computed in `dtype`."""
    signal = signal.to(backend.device, dtype).contiguous(memory_format=CHANNELS_LAST).requires_grad_()
    weight, bias = (values.to(backend.device, torch.float32).requires_grad_() for values in held[:2])
    running = [values.to(backend.device, torch.float32) for values in held[2:]]
    operation = batch_norm_relu_pool if pool else batch_norm_relu
    found = operation(signal, weight, bias, *running, momentum=0.2, impl=backend.impl)
    outputs = found if pool else (found,)
    read = outputs if beside is None else (torch.cat((outputs[0], beside.to(outputs[0])), 1), *outputs[1:])
    given = [
        values.to(one).contiguous(memory_format=CHANNELS_LAST) for values, one in zip(cotangents, read, strict=True)
    ]
    torch.autograd.backward(read, given)
    tensors = (*outputs, signal.grad, weight.grad, bias.grad, *running)
    return [values.detach().cpu().double() for values in tensors]


def expected(signal, held, cotangents, *, pool=False):
    """The same in float64 by torch's own operations."""
    signal, weight, bias = (values.clone().requires_grad_() for values in (signal, *held[:2]))
    running = [values.clone() for values in held[2:]]
    out = batch_norm(signal, *running, weight, bias, training=True, momentum=0.2).relu()
    outputs = (out, max_pool2d(out, 2)) if pool else (out,)
    torch.autograd.backward(outputs, list(cotangents))
    return [values.detach() for values in (*outputs, signal.grad, weight.grad, bias.grad, *running)]


def test_two_values_made_by_hand(backend):
    one = torch.ones(1, device=backend.device)
    mean, variance = torch.zeros_like(one), torch.zeros_like(one)
    signal = torch.tensor([2.0, 6.0], device=backend.device).view(2, 1, 1, 1)
    out = batch_norm_relu(signal, 3 * one, one, mean, variance, momentum=0.5, eps=1e-12, impl=backend.impl)
    assert out.flatten().tolist() == pytest.approx([0, 4], abs=1e-6)
    assert (mean.item(), variance.item()) == pytest.approx((2, 4))


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 4, 6), (3, 8, 6, 2), (2, 70, 10, 8), (1, 128, 4, 4)])
def test_outputs_gradients_and_running_statistics_are_those_of_float64(backend, draw, shape, pool):
    signal, held = 2 * draw(*shape) + 1, state(shape[1], draw)
    half = (*shape[:2], shape[2] // 2, shape[3] // 2)
    cotangents = [draw(*shape, seed=5), draw(*half, seed=6)][: 2 if pool else 1]
    found = run(backend, signal, held, cotangents, pool=pool)
    for ours, exact in zip(found, expected(signal, held, cotangents, pool=pool), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("pool", [False, True])
def test_many_rows_are_added_up_by_many_programs(backend, draw, monkeypatch, pool):
    if backend.impl == "triton":
        from asic_flow.kernels.batch_norm_relu import _triton

        monkeypatch.setattr(_triton, "TILE", 32)
        monkeypatch.setattr(_triton, "MOMENTS_PARTS", 5)
        monkeypatch.setattr(_triton, "SLOPES_PARTS", 5)
        monkeypatch.setattr(_triton, "SETTLE", {"BLOCK_PARTS": 2, "BLOCK_CHANNELS": 2})
    signal, held = draw(3, 4, 10, 12), state(4, draw)
    cotangents = [draw(3, 4, 10, 12, seed=5), draw(3, 4, 5, 6, seed=6)][: 2 if pool else 1]
    found = run(backend, signal, held, cotangents, pool=pool)
    for ours, exact in zip(found, expected(signal, held, cotangents, pool=pool), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=2e-5)


def test_a_signal_far_from_zero_keeps_its_variance(backend, draw):
    signal, held = 1e-2 * draw(2, 4, 8, 8) + 100, state(4, draw)
    signal = signal.float().double()
    cotangents = [draw(2, 4, 8, 8, seed=5)]
    out, *_ = run(backend, signal, held, cotangents)
    torch.testing.assert_close(out, expected(signal, held, cotangents)[0], rtol=1e-2, atol=1e-2)


def test_one_pixel_far_from_the_others_leaves_the_variance_as_it_is(backend, draw):
    signal, held = draw(2, 4, 32, 32).float().double(), state(4, draw)
    signal[0, :, 0, 0] = 1e4
    running_var = run(backend, signal, held, [draw(2, 4, 32, 32, seed=5)])[-1]
    exact = expected(signal, held, [draw(2, 4, 32, 32, seed=5)])[-1]
    torch.testing.assert_close(running_var, exact, rtol=1e-5, atol=0)


def test_half_precision_loses_what_rounding_loses(backend, draw):
    signal, held = draw(2, 16, 8, 8).bfloat16().double(), state(16, draw)
    cotangents = [draw(2, 16, 8, 8, seed=5).bfloat16().double(), draw(2, 16, 4, 4, seed=6).bfloat16().double()]
    found = run(backend, signal, held, cotangents, dtype=torch.bfloat16, pool=True)
    exact = expected(signal, held, cotangents, pool=True)
    # The interpreter cuts digits off where a GPU rounds.
    for ours, right in zip(found[:2], exact[:2], strict=True):
        torch.testing.assert_close(ours, right, rtol=2**-7, atol=1e-3)
    for ours, right in zip(found[3:], exact[3:], strict=True):
        torch.testing.assert_close(ours, right, rtol=0.02, atol=0.3)


def test_the_largest_pixels_are_those_of_the_values_as_they_were_stored(backend, draw):
    signal, held = draw(2, 16, 16, 16).half().double(), state(16, draw)
    cotangents = [0 * signal, draw(2, 16, 8, 8, seed=6).half().double()]
    out, _, grad, *_ = run(backend, signal, held, cotangents, dtype=torch.float16, pool=True)
    stored = out.clone().requires_grad_()
    largest = max_pool2d(stored, 2)
    tied = (out.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4) == largest[..., None]).sum(-1).gt(1)
    assert (tied & (largest > 0)).any()
    passed = torch.autograd.grad(largest, stored, cotangents[1])[0] * (out > 0)
    mean, variance = signal.mean((0, 2, 3), keepdim=True), signal.var((0, 2, 3), correction=0, keepdim=True)
    unit = (signal - mean) / (variance + 1e-5).sqrt()
    taken = passed.mean((0, 2, 3), keepdim=True) + unit * (passed * unit).mean((0, 2, 3), keepdim=True)
    expected = held[0][:, None, None] / (variance + 1e-5).sqrt() * (passed - taken)
    torch.testing.assert_close(grad, expected, rtol=5e-3, atol=5e-3)


def test_what_lies_on_the_cut_has_no_gradient(backend, draw):
    signal, nothing = draw(2, 3, 4, 4), torch.zeros(3, dtype=torch.float64)
    held = [nothing, nothing, nothing, nothing + 1]
    _, grad, grad_weight, grad_bias, *_ = run(backend, signal, held, [draw(2, 3, 4, 4, seed=5)])
    assert not grad.any()
    assert not grad_weight.any()
    assert not grad_bias.any()


def test_equal_pixels_give_the_gradient_to_the_first(backend):
    one = torch.ones(1, device=backend.device)
    # The first two pixels are equal and the largest of their four; a second four brings the variance.
    pixels = torch.tensor([[5.0, 5.0, -9.0, -5.0], [1.0, 1.0, -9.0, -5.0]], device=backend.device)
    signal = pixels.view(1, 1, 2, 4).requires_grad_()
    out, pooled = batch_norm_relu_pool(signal, one, 0 * one, one.clone(), one.clone(), impl=backend.impl)
    assert pooled.flatten().tolist() == pytest.approx([out.max().item(), 0])
    reference = pixels.double().view(1, 1, 2, 4).requires_grad_()
    normalised = batch_norm(reference, None, None, training=True).relu()
    pooled[0, 0, 0, 0].backward()
    normalised[0, 0, 0, 0].backward()
    torch.testing.assert_close(signal.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", [False, True])
def test_gradients_that_are_slices_of_a_concatenation_are_read_in_place(backend, draw, pool):
    signal, held = draw(2, 8, 6, 4), state(8, draw)
    both = [draw(2, 13, 6, 4, seed=5), draw(2, 8, 3, 2, seed=6)][: 2 if pool else 1]
    found = run(backend, signal, held, both, pool=pool, beside=draw(2, 5, 6, 4, seed=7))
    alone = run(backend, signal, held, [both[0][:, :8], *both[1:]], pool=pool)
    for joined, plain in zip(found, alone, strict=True):
        torch.testing.assert_close(joined, plain, rtol=1e-5, atol=1e-6)


def test_a_slice_of_channels_is_a_row_with_a_stride_and_other_layouts_are_none():
    triton = pytest.importorskip("asic_flow.kernels.batch_norm_relu._triton", reason="no Triton on this platform")
    whole = torch.zeros(2, 16, 6, 4).contiguous(memory_format=CHANNELS_LAST)
    assert triton._row_stride(whole) == triton._row_stride(whole[:, 8:]) == 16
    assert triton._row_stride(torch.zeros(2, 16, 6, 4)) is None
    assert triton._row_stride(whole[:, :, 1:]) is None


def test_channels_first_give_the_same_and_any_run_the_same_bits(backend, draw):
    signal, held = draw(2, 8, 6, 4), state(8, draw)
    first = signal.to(backend.device, torch.float32)
    weight, bias, *running = (values.to(backend.device, torch.float32) for values in held)
    plain = batch_norm_relu(first, weight, bias, *(one.clone() for one in running), impl=backend.impl)
    last = first.contiguous(memory_format=CHANNELS_LAST)
    other = batch_norm_relu(last, weight, bias, *(one.clone() for one in running), impl=backend.impl)
    torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-6)
    again = batch_norm_relu(last, weight, bias, *running, impl=backend.impl)
    assert torch.equal(other, again)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_is_not_finite_shows_in_its_channel_alone(backend, draw):
    signal, held = draw(2, 4, 4, 4), state(4, draw)
    signal[1, 2, 3, 0] = float("nan")
    found = run(backend, signal, held, [draw(2, 4, 4, 4, seed=5), draw(2, 4, 2, 2, seed=6)], pool=True)
    for values in found[:2]:
        assert values[:, 2].isnan().all()
        assert values[:, [0, 1, 3]].isfinite().all()
    assert found[5][2].isnan()


def test_gradcheck_of_the_reference(draw):
    signal, held = draw(2, 3, 4, 4), state(3, draw)
    leaves = [values.requires_grad_() for values in (signal, *held[:2])]

    def pooled(*leaves):
        return batch_norm_relu_pool(*leaves, *(one.clone() for one in held[2:]), impl="reference")

    assert torch.autograd.gradcheck(pooled, leaves)


def test_arguments_that_do_not_fit_are_refused():
    signal, one = torch.zeros(2, 3, 4, 4), torch.ones(3)
    held = [one, one, one.clone(), one.clone()]
    with pytest.raises(ValueError, match=r"signal must be \(B, C, H, W\) with two values a channel or more"):
        batch_norm_relu(torch.zeros(1, 3, 1, 1), *held)
    with pytest.raises(ValueError, match=r"signal must be \(B, C, H, W\)"):
        batch_norm_relu(signal[0], *held)
    with pytest.raises(ValueError, match="pooling halves an even height and width"):
        batch_norm_relu_pool(signal[:, :, 1:], *held)
    with pytest.raises(TypeError, match=r"signal must be floating point, got torch.int64"):
        batch_norm_relu(signal.long(), *held)
    with pytest.raises(ValueError, match=r"bias must be \(3,\), got \(2,\)"):
        batch_norm_relu(signal, one, one[:2], *held[2:])
    with pytest.raises(TypeError, match=r"weight must be torch.float64 with a signal of torch.float64"):
        batch_norm_relu(signal.double(), *held)
    with pytest.raises(ValueError, match="running_mean must be on cpu"):
        batch_norm_relu(signal, one, one, one.to("meta"), one)
    strided = torch.ones(3, 2)[:, 0]
    with pytest.raises(ValueError, match=r"running_var is written to and must be contiguous, got strides \(2,\)"):
        batch_norm_relu(signal, one, one, one.clone(), strided)
    with pytest.raises(ValueError, match="momentum must be from 0 to 1"):
        batch_norm_relu(signal, *held, momentum=2.0)
    with pytest.raises(ValueError, match="eps must be above 0"):
        batch_norm_relu(signal, *held, eps=0.0)
