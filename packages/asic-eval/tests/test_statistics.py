from __future__ import annotations

import numpy as np
import pytest

from asic_eval import PckCounts, bootstrap_difference, bootstrap_interval, mean_and_std


def counts(hits: list[int], totals: list[int]) -> PckCounts:
    return PckCounts(np.array([0.1]), np.array(hits)[:, None], np.array(totals))


def test_an_interval_holds_the_score() -> None:
    rng = np.random.default_rng(0)
    totals = rng.integers(1, 10, 200)
    own = counts(rng.binomial(totals, 0.6).tolist(), totals.tolist())
    interval = bootstrap_interval(own, 0)
    assert interval.value == pytest.approx(own.per_point()[0])
    assert interval.low < interval.value < interval.high
    # The spread of a mean of about 1000 independent answers is sqrt(0.24 / 1000) = 0.0155.
    assert interval.high - interval.low == pytest.approx(4 * 0.0155, rel=0.25)
    assert bootstrap_interval(own, 0) == interval
    assert bootstrap_interval(own, 0, seed=1) != interval
    narrow = bootstrap_interval(own, 0, level=0.5)
    assert interval.low < narrow.low < narrow.high < interval.high
    per_image = bootstrap_interval(own, 0, aggregate="per_image")
    assert per_image.value == pytest.approx(own.per_image()[0])
    few = bootstrap_interval(own, 0, resamples=1)
    assert few.low == few.high


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        totals = np.full(60, 5)
        interval = bootstrap_interval(
            counts(rng.binomial(totals, 0.5).tolist(), totals.tolist()), 0, level=0.9, resamples=200, seed=trial
        )
        covered += interval.low <= 0.5 <= interval.high
    assert 165 <= covered <= 195


def test_dependent_pairs_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    per_source = rng.random(10) < 0.5
    hits = np.repeat(per_source, 20).astype(int)
    own = counts(hits.tolist(), [1] * 200)
    alone = bootstrap_interval(own, 0)
    grouped = bootstrap_interval(own, 0, groups=np.repeat(np.arange(10), 20))
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def test_a_real_difference_and_none() -> None:
    rng = np.random.default_rng(2)
    totals = np.full(300, 8)
    base = rng.binomial(totals, 0.5)
    better = np.minimum(base + (rng.random(300) < 0.5), 8)
    noisy = np.clip(base + rng.integers(-1, 2, 300), 0, 8)
    first = counts(base.tolist(), totals.tolist())
    gain = bootstrap_difference(first, counts(better.tolist(), totals.tolist()), 0)
    assert gain.value == pytest.approx((better - base).sum() / totals.sum())
    assert gain.low < gain.value < gain.high
    assert gain.is_real
    assert gain.p_value == pytest.approx(2 / 2001)
    loss = bootstrap_difference(counts(better.tolist(), totals.tolist()), first, 0)
    assert loss.value == -gain.value
    assert loss.is_real
    none = bootstrap_difference(first, counts(noisy.tolist(), totals.tolist()), 0, groups=np.arange(300))
    assert not none.is_real
    assert 0.05 < none.p_value <= 1.0
    same = bootstrap_difference(first, first, 0, aggregate="per_image", level=0.9, resamples=50, seed=3)
    assert (same.value, same.low, same.high, same.p_value, same.is_real) == (0.0, 0.0, 0.0, 1.0, False)


def test_pairing_makes_small_differences_visible() -> None:
    rng = np.random.default_rng(3)
    totals = np.full(100, 10)
    hard = rng.random(100)
    base = rng.binomial(totals, hard)
    better = np.minimum(base + (rng.random(100) < 0.2), 10)
    first, second = counts(base.tolist(), totals.tolist()), counts(better.tolist(), totals.tolist())
    difference = bootstrap_difference(first, second, 0)
    alone = bootstrap_interval(first, 0)
    assert difference.is_real
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_both_methods_are_scored_on_the_same_draws() -> None:
    own = counts([1, 5, 0, 9, 2], [2, 10, 1, 10, 7])
    for aggregate in ("per_point", "per_image"):
        for groups in (None, [0, 0, 1, 1, 2]):
            same = bootstrap_difference(own, own, 0, aggregate=aggregate, groups=groups)  # type: ignore[arg-type]
            assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_defaults() -> None:
    own, other = counts([1, 5, 0, 9, 2], [2, 10, 1, 10, 7]), counts([2, 4, 1, 8, 7], [2, 10, 1, 10, 7])
    stated = {"aggregate": "per_point", "groups": None, "level": 0.95, "resamples": 2000, "seed": 0}
    assert bootstrap_interval(own, 0) == bootstrap_interval(own, 0, **stated)  # type: ignore[arg-type]
    assert bootstrap_difference(own, other, 0) == bootstrap_difference(own, other, 0, **stated)  # type: ignore[arg-type]
    assert bootstrap_interval(own, 0).value == 17 / 30
    assert bootstrap_difference(own, other, 0).value == pytest.approx(5 / 30)
    narrow = bootstrap_difference(own, other, 0, level=0.5)
    wide = bootstrap_difference(own, other, 0)
    assert wide.low < narrow.low < narrow.high < wide.high
    draws = np.array([bootstrap_difference(own, other, 0, resamples=1, seed=seed).low for seed in range(400)])
    assert wide.low == pytest.approx(np.quantile(draws, 0.025), abs=0.03)
    assert wide.high == pytest.approx(np.quantile(draws, 0.975), abs=0.03)


def test_pairs_that_ask_for_nothing_are_left_out() -> None:
    own = counts([1, 0, 2], [2, 0, 2])
    assert bootstrap_interval(own, 0, groups=[5, 6, 7]).value == 0.75
    assert bootstrap_interval(own, 0, aggregate="per_image").value == 0.75
    message = r"^counts: expected at least one pair that asks for a point, got none$"
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(counts([0], [0]), 0)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^aggregate: expected 'per_point' or 'per_image', got 'mean'$"):
        bootstrap_interval(counts([1], [2]), 0, aggregate="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^groups: expected one for each of 2 pairs, got shape \(3,\)$"):
        bootstrap_interval(counts([1, 1], [2, 2]), 0, groups=[0, 1, 2])
    message = r"^counts: expected the same pairs and alphas for both methods$"
    with pytest.raises(ValueError, match=message):
        bootstrap_difference(counts([1], [2]), counts([1], [3]), 0)
    other = PckCounts(np.array([0.2]), np.array([[1]]), np.array([2]))
    with pytest.raises(ValueError, match=message):
        bootstrap_difference(counts([1], [2]), other, 0)


def test_mean_and_std() -> None:
    assert mean_and_std([0.5]) == (0.5, None)
    assert mean_and_std([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_std([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    with pytest.raises(ValueError, match=r"^values: expected at least one, got none$"):
        mean_and_std([])
