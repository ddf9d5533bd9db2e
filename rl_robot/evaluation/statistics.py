"""Intervals for the figures that reports and benchmarks show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Mean:
    """A sample mean with its confidence interval (infinite when n < 2)."""

    mean: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means with its confidence interval (0 to infinity when n < 2)."""

    ratio: float
    interval: Interval
    n: int


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (E. B. Wilson, JASA 22, 1927).

    Stays inside [0, 1] and keeps its coverage for few trials and for proportions near 0 and 1;
    without trials it is the whole of [0, 1].

    Raises:
        ValueError: not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    scale = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2)
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    return Interval(
        0.0 if successes == 0 else centre - half,
        1.0 if successes == trials else centre + half,
    )


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """The mean of independent values with Student's t interval.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("the mean of no values")
    mean = fmean(values)
    n = len(values)
    if n < 2:
        return Mean(mean, Interval(-math.inf, math.inf), n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * stdev(values) / math.sqrt(n)
    return Mean(mean, Interval(mean - half, mean + half), n)


def ratio_of_means(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Ratio:
    """Mean of ``second`` over mean of ``first``, both measured on the same n cases, all > 0.

    The interval is Student's t on the logarithm of the ratio, whose variance is linearized (the
    ratio estimator of W. G. Cochran, Sampling Techniques, 1977, chapter 6). The pairs stay
    together, so what makes a case long for both does not widen it; and exchanging the two gives
    the inverse, interval and all.

    Raises:
        ValueError: no cases, not as many of each, or a value that is not positive.
    """
    a, b = (np.asarray(values, dtype=float) for values in (first, second))
    if not (a.size == b.size > 0) or not all(0 < value < math.inf for value in (*a, *b)):
        raise ValueError("a ratio needs pairs of positive values")
    ratio = float(b.mean() / a.mean())
    n = a.size
    if n < 2:
        return Ratio(ratio, Interval(0.0, math.inf), n)
    influence = b / b.mean() - a / a.mean()
    error = float(influence.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return Ratio(ratio, Interval(ratio * math.exp(-half), ratio * math.exp(half)), n)


def intervals_overlap(a: Interval, b: Interval) -> bool:
    """True when the two have a point in common."""
    return a.low <= b.high and b.low <= a.high
