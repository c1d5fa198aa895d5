"""`contrast_points` against numbers made by hand, cross-entropy and float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from asic_flow.kernels import contrast_points
from asic_flow.kernels.contrast_points import _torch, api


def run(backend, u, v, valid=None, cotangent=None, temperature=1.0):
    """Return loss and gradients of both ends in float64 on the CPU, computed in float32."""
    ends = [end.detach().to(backend.device, torch.float32).requires_grad_() for end in (u, v)]
    flags = None if valid is None else valid.to(backend.device)
    loss = contrast_points(*ends, valid=flags, temperature=temperature, impl=backend.impl)
    loss.backward(torch.ones_like(loss) if cotangent is None else cotangent.to(loss))
    return loss.detach().cpu().double(), *(end.grad.cpu().double() for end in ends)


def test_two_matches_made_by_hand(backend):
    u = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    loss, grad_u, grad_v = run(backend, u, u)
    either = math.log(1 + math.exp(-5))
    assert loss[0].tolist() == pytest.approx([2 * either] * 2, abs=1e-6)
    pull = 1 / (1 + math.exp(5))
    assert grad_u[0, 0].tolist() == pytest.approx([0.6 * pull, 0.8 * pull], abs=1e-6)
    assert torch.equal(grad_u, grad_v)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("num_matches", [1, 5, 33, 130])
def test_loss_and_both_gradients_are_those_of_float64(backend, draw, monkeypatch, num_matches, temperature):
    monkeypatch.setattr(_torch, "BLOCK", 16 * num_matches)
    u, v, cotangent = draw(3, num_matches, 2), draw(3, num_matches, 2, seed=1), draw(3, num_matches, seed=2)
    valid = draw(3, num_matches, seed=3) > -0.5
    ends = [u.clone().requires_grad_(), v.clone().requires_grad_()]
    expected = contrast_points(*ends, valid=valid, temperature=temperature, impl="reference")
    expected.backward(cotangent)
    loss, grad_u, grad_v = run(backend, u, v, valid, cotangent, temperature)
    scale = 1 / temperature
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=2e-6 * scale)
    torch.testing.assert_close(grad_u, ends[0].grad, rtol=1e-4, atol=5e-6 * scale)
    torch.testing.assert_close(grad_v, ends[1].grad, rtol=1e-4, atol=5e-6 * scale)


def test_the_loss_is_the_cross_entropy_of_the_partner(draw):
    u, v = draw(1, 20, 2), draw(1, 20, 2, seed=1)
    logits = -torch.cdist(u[0], v[0]) / 0.3
    partner = torch.arange(20)
    expected = cross_entropy(logits, partner, reduction="none") + cross_entropy(logits.T, partner, reduction="none")
    torch.testing.assert_close(contrast_points(u, v, temperature=0.3)[0], expected)


def test_padding_changes_nothing_whatever_it_holds(backend, draw):
    u, v = draw(2, 9, 2), draw(2, 9, 2, seed=1)
    alone = run(backend, u, v)
    junk = torch.full((2, 4, 2), float("nan"))
    valid = torch.tensor([True] * 9 + [False] * 4).expand(2, 13)
    padded = run(backend, torch.cat((u, junk), 1), torch.cat((v, junk), 1), valid)
    for with_padding, without in zip(padded, alone, strict=True):
        torch.testing.assert_close(with_padding[:, :9], without, rtol=1e-6, atol=1e-7)
        assert (with_padding[:, 9:] == 0).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_refused_or_show_in_their_pair_alone(backend, draw, monkeypatch, bad):
    u, v = draw(2, 9, 2), draw(2, 9, 2, seed=1)
    v[1, 4, 0] = bad
    if backend.impl != "triton":
        with pytest.raises(ValueError, match="u and v must be finite where valid"):
            run(backend, u, v)
        return
    # The interpreter's tensors are on the CPU, where they would be refused before the kernel.
    monkeypatch.setattr(api, "all_finite", lambda _: True)
    loss, grad_u, _ = run(backend, u, v)
    assert not loss[1, 4].isfinite()
    assert not grad_u[1, :, 0].isfinite().any()
    assert loss[0].isfinite().all()
    assert grad_u[0].isfinite().all()


def test_ends_that_coincide_have_no_slope_between_them(backend):
    loss, grad_u, grad_v = run(backend, torch.zeros(1, 4, 2), torch.zeros(1, 4, 2))
    assert loss[0].tolist() == pytest.approx([2 * math.log(4)] * 4, abs=1e-6)
    assert grad_u.abs().max() == grad_v.abs().max() == 0


def test_far_points_do_not_overflow(backend, draw):
    u = draw(1, 6, 2) * 1e4
    loss, grad_u, _ = run(backend, u, u, temperature=0.01)
    assert loss.abs().max() < 1e-3
    assert grad_u.isfinite().all()


@pytest.mark.parametrize("shape", [(0, 5, 2), (2, 0, 2)])
def test_no_matches_give_no_loss(backend, shape):
    loss, grad_u, grad_v = run(backend, torch.zeros(shape), torch.zeros(shape))
    assert loss.shape == shape[:2]
    assert grad_u.shape == grad_v.shape == shape


def test_all_matches_masked_give_zero(backend, draw):
    loss, grad_u, _ = run(backend, draw(2, 5, 2), draw(2, 5, 2, seed=1), torch.zeros(2, 5, dtype=torch.bool))
    assert loss.abs().max() == grad_u.abs().max() == 0


def test_strided_input_gives_the_same_result(backend, draw):
    u, v = draw(2, 2, 30).transpose(1, 2), draw(60, 2, 2, seed=1).transpose(0, 1)[:, ::2]
    plain = run(backend, u.contiguous(), v.contiguous())
    ends = [end.float().to(backend.device) for end in (u, v)]
    assert not any(end.is_contiguous() for end in ends)
    assert torch.equal(contrast_points(*ends, impl=backend.impl).cpu().double(), plain[0])


def test_gradcheck_of_the_reference_and_of_the_blocks(draw):
    u, v = draw(2, 4, 2).requires_grad_(), draw(2, 4, 2, seed=1).requires_grad_()
    valid = torch.tensor([[True] * 4, [True, False, True, True]])

    # Each term holds the other end fixed, so a check by differences moves one end only, in its own term.
    def loss(impl):
        return lambda u, v: contrast_points(u, v, valid=valid, temperature=0.7, impl=impl)

    exact = torch.autograd.grad(loss("reference")(u, v).sum(), (u, v))
    blocks = torch.autograd.grad(loss("torch")(u, v).sum(), (u, v))
    torch.testing.assert_close(blocks, exact)

    def own_term(u):
        distance = (u[0][:, None] - v[0].detach()[None]).square().sum(-1).sqrt() / 0.7
        return (distance.diagonal() + (-distance).logsumexp(1)).sum()

    assert torch.autograd.gradcheck(own_term, (u,))
    torch.testing.assert_close(torch.autograd.grad(own_term(u), u)[0][0], exact[0][0])


def test_arguments_that_do_not_fit_are_refused():
    u = torch.zeros(2, 5, 2)
    with pytest.raises(ValueError, match=r"u and v must both be \(B, K, 2\)"):
        contrast_points(u, u[:, :4])
    with pytest.raises(TypeError, match=r"u and v must both be float32 or float64, got torch.float16"):
        contrast_points(u.half(), u.half())
    with pytest.raises(ValueError, match=r"valid must be \(2, 5\), got \(2, 4\)"):
        contrast_points(u, u, valid=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"valid must be bool, got torch.float32"):
        contrast_points(u, u, valid=torch.ones(2, 5))
    with pytest.raises(ValueError, match="must share a device"):
        contrast_points(u, u.to("meta"))
    for temperature in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            contrast_points(u, u, temperature=temperature)
