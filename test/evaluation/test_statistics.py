"""Intervals against published values, against scipy, and by their coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from rl_robot.evaluation.statistics import Interval, intervals_overlap, mean_interval, wilson


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
