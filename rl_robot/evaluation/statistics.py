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


def paired_difference(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> tuple[float, Interval]:
    """First proportion minus second, of two that were counted on the same n cases.

    The interval is the tenth of R. G. Newcombe, Statistics in Medicine 17, 1998, 2635: Wilson's
    for each, joined with regard to how much the two agree. Without cases it is all of [-1, 1].

    Raises:
        ValueError: a count is negative.
    """
    counts = (both, only_first, only_second, neither)
    if min(counts) < 0:
        raise ValueError(f"counts {counts} must not be negative")
    n = sum(counts)
    if n == 0:
        return 0.0, Interval(-1.0, 1.0)
    successes = both + only_first, both + only_second
    p, q = (k / n for k in successes)
    of_p, of_q = (wilson(k, n, confidence) for k in successes)
    down, up = (p - of_p.low, of_q.high - q), (of_p.high - p, q - of_q.low)
    phi = _agreement(*counts)
    below, above = (math.sqrt(max(0.0, a * a - 2.0 * phi * a * b + b * b)) for a, b in (down, up))
    return p - q, Interval(p - q - below, p - q + above)


def _agreement(both: int, only_first: int, only_second: int, neither: int) -> float:
    """The coefficient phi of a two by two table, brought nearer to 0 as Newcombe does."""
    product = float(both * neither - only_first * only_second)
    if product > 0.0:
        product = max(product - (both + only_first + only_second + neither) / 2.0, 0.0)
    margins = (
        (both + only_first)
        * (only_second + neither)
        * (both + only_second)
        * (only_first + neither)
    )
    return product / math.sqrt(margins) if margins else 0.0


def intervals_overlap(a: Interval, b: Interval) -> bool:
    """True when the two have a point in common."""
    return a.low <= b.high and b.low <= a.high
