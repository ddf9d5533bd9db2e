"""Intervals against published values, against scipy, and by their coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from rl_robot.evaluation.statistics import (
    Interval,
    intervals_overlap,
    mean_interval,
    paired_difference,
    wilson,
)


@settings(deadline=None)
@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_wilson_agrees_with_scipy(n: int, share: float) -> None:
    k = round(share * n)
    expected = binomtest(k, n).proportion_ci(method="wilson")
    got = wilson(k, n)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= got.low <= k / n <= got.high <= 1


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0
    assert wilson(20, 20).low == pytest.approx(0.8389, abs=1e-4)
    assert wilson(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3)])
def test_wilson_refuses_the_impossible(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes in {trials} trials"):
        wilson(successes, trials)


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_mean_interval_agrees_with_scipy(values: list[float]) -> None:
    got = mean_interval(values)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = t.ppf(0.975, len(values) - 1) * error
    assert got.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert got.interval.high - got.mean == pytest.approx(half, rel=1e-6, abs=1e-9)
    assert got.mean - got.interval.low == pytest.approx(half, rel=1e-6, abs=1e-9)


def test_one_value_has_no_bounds() -> None:
    got = mean_interval([3.0])
    assert (got.mean, got.n) == (3.0, 1)
    assert got.interval == Interval(-math.inf, math.inf)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_overlap() -> None:
    assert intervals_overlap(Interval(0.1, 0.5), Interval(0.5, 0.9))
    assert intervals_overlap(Interval(0.1, 0.9), Interval(0.4, 0.5))
    assert not intervals_overlap(Interval(0.1, 0.4), Interval(0.5, 0.9))
    assert not intervals_overlap(Interval(0.5, 0.9), Interval(0.1, 0.4))


_COUNTS = st.integers(0, 60)


@given(a=_COUNTS, b=_COUNTS, c=_COUNTS, d=_COUNTS)
def test_a_paired_difference_turns_round_with_its_two(a: int, b: int, c: int, d: int) -> None:
    difference, interval = paired_difference(a, b, c, d)
    back, turned = paired_difference(a, c, b, d)
    assert back == pytest.approx(-difference)
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low))
    assert -1.0 - 1e-9 <= interval.low <= difference <= interval.high <= 1.0 + 1e-9


def test_a_paired_difference_of_two_that_go_their_own_ways_joins_wilsons() -> None:
    """Without agreement the bounds of each add up as independent errors do."""
    first, second = wilson(60, 100), wilson(50, 100)
    difference, interval = paired_difference(30, 30, 20, 20)
    assert difference == pytest.approx(0.1)
    assert interval.low == pytest.approx(0.1 - math.hypot(0.6 - first.low, second.high - 0.5))
    assert interval.high == pytest.approx(0.1 + math.hypot(first.high - 0.6, 0.5 - second.low))


def test_a_paired_difference_is_surer_where_the_two_agree() -> None:
    _, apart = paired_difference(30, 30, 20, 20)
    _, alike = paired_difference(50, 10, 0, 40)
    assert alike.high - alike.low < 0.6 * (apart.high - apart.low)


def test_a_paired_difference_covers_the_truth() -> None:
    random = np.random.default_rng(5)
    shares = np.array([0.85, 0.1, 0.02, 0.03])  # as of a policy that loses some on the way
    inside = 0
    for counts in random.multinomial(100, shares, size=2000):
        _, interval = paired_difference(*(int(n) for n in counts))
        inside += interval.low <= 0.08 <= interval.high
    assert 0.93 <= inside / 2000 <= 0.985


def test_a_paired_difference_of_nothing_says_nothing() -> None:
    assert paired_difference(0, 0, 0, 0) == (0.0, Interval(-1.0, 1.0))
    with pytest.raises(ValueError, match="must not be negative"):
        paired_difference(1, -1, 0, 0)
