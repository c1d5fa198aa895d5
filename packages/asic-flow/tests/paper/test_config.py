from __future__ import annotations

import dataclasses
import itertools

import pytest

from asic_flow.paper.config import PAPER_SMALL, LossWeights, PaperConfig


def rates(config: PaperConfig) -> list[float]:
    return [config.learning_rate_at(step) for step in range(config.steps + 1)]


def test_the_schedule_ends_at_zero_whatever_the_steps() -> None:
    for steps, restarts in ((20_000, 1), (7, 1), (1, 0), (100, 2)):
        found = rates(PaperConfig(steps=steps, restarts=restarts))
        assert found[0] == pytest.approx(3e-3)
        assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_a_restart_starts_lower_and_lasts_twice_as_long() -> None:
    found = rates(PaperConfig(steps=300, restarts=1))
    assert found[99] < 1e-4
    assert found[100] == pytest.approx(0.9 * 3e-3)
    assert all(later < sooner for sooner, later in itertools.pairwise(found[100:]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "steps must be at least 1, got 0"),
        ("photos_per_step", 1, "photos_per_step must be at least 2"),
        ("side", 100, "side must be a multiple of 16"),
        ("head", "half", r"head must be one of \('full', 'quarter'\), got 'half'"),
        ("network", "none", "network must be one of"),
        ("canonical", "none", "canonical must be one of"),
        ("start", "anywhere", "start must be one of"),
        ("rematch_every", -1, "rematch_every must be at least 0"),
        ("width", 0.0, "width must be above 0"),
        ("temperature", -1.0, "temperature must be above 0"),
        ("bend", 1.5, "bend must lie between 0 and 1"),
    ],
)
def test_settings_are_checked(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PAPER_SMALL, **{field: value})


def test_a_network_sees_something() -> None:
    with pytest.raises(ValueError, match="components must be at least 1 for a network that sees nothing else"):
        dataclasses.replace(PAPER_SMALL, network="components", components=0)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_are_checked(value: float) -> None:
    with pytest.raises(ValueError, match=r"weights\.mask must be 0 or more and finite"):
        LossWeights(mask=value)


def test_some_loss_counts() -> None:
    with pytest.raises(ValueError, match="weights must not all be 0"):
        LossWeights(reconstruction=0, matches=0, total_variation=0, equivariance=0, mask=0, parts=0)
