from __future__ import annotations

import pytest
import torch

from asic_flow.paper.adam import Adam


def drawn(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 4), (5,), (2, 2))]


def differentiate(parameters: list[torch.Tensor], step: int) -> None:
    """Gradients that change from step to step; the last parameter has none in every other one."""
    for index, parameter in enumerate(parameters):
        parameter.grad = None if index == 2 and step % 2 else (step + 1) * parameter.detach().sin() + 0.1


def test_steps_are_those_of_torchs_optimiser() -> None:
    ours, torchs = drawn(0), drawn(0)
    adam, expected = Adam(ours), torch.optim.Adam(torchs)
    for step in range(6):
        rate = 0.1 / (step + 1)
        differentiate(ours, step)
        adam.step(rate)
        differentiate(torchs, step)
        expected.param_groups[0]["lr"] = rate
        expected.step()
    for own, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(own, other)
    assert [count.item() for count in adam.counts] == [6, 6, 3]


def test_another_one_goes_on_from_its_state_to_the_same_bits() -> None:
    whole, parts = drawn(1), drawn(1)
    uninterrupted, first = Adam(whole), Adam(parts)
    for step in range(4):
        differentiate(whole, step)
        uninterrupted.step(0.05)
        if step == 2:
            second = Adam(parts)
            second.load(first.state())
            first = second
        differentiate(parts, step)
        first.step(0.05)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_the_state_of_other_parameters_is_refused() -> None:
    state = Adam(drawn(2)).state()
    with pytest.raises(ValueError, match="moments are those of other parameters"):
        Adam(drawn(2)[:2]).load(state)
    state["0.mean"] = state["0.mean"][:2]
    with pytest.raises(ValueError, match="moments are those of other parameters"):
        Adam(drawn(2)).load(state)


def test_without_any_gradient_nothing_moves() -> None:
    parameters = drawn(3)
    before = [value.detach().clone() for value in parameters]
    Adam(parameters).step(0.1)
    assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
