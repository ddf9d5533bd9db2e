"""Smooth motion between any two points stays within the limits it was made for, and uses them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.resets.quintic import Quintic

points = st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=2).map(np.array)
LIMITS = {
    "velocity": np.array([1.0, 0.2]),
    "acceleration": np.array([5.0, 2.0]),
    "jerk": np.array([500.0, 20.0]),
}


@given(points, points)
def test_derivatives_stay_within_limits_and_one_is_used_fully(
    start: np.ndarray, goal: np.ndarray
) -> None:
    plan = Quintic.within(start, goal, **LIMITS)
    np.testing.assert_array_equal(plan.at(np.array([plan.duration, 1e6])), [goal, goal])
    if np.abs(goal - start).max() < 1e-3:
        return  # finite differences of next to nothing say nothing
    np.testing.assert_array_equal(plan.at(np.array([-1.0, 0.0])), [start, start])
    times = np.linspace(0.0, plan.duration, 2001)
    derivative, used = plan.at(times), []
    for limit in LIMITS.values():
        derivative = np.diff(derivative, axis=0) / (times[1] - times[0])
        used.append(np.abs(derivative).max(axis=0) / limit)
    assert np.max(used) < 1.001
    assert np.max(used) > 0.98


def test_no_way_takes_no_time() -> None:
    plan = Quintic.within(np.ones(2), np.ones(2), **LIMITS)
    assert plan.duration == 0.0
    np.testing.assert_array_equal(plan.at(np.array([0.0, 0.1])), np.ones((2, 2)))
