"""Whether the filter stands where the robot is."""

import numpy as np
import pytest

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.safety.filter import SafetyFilter
from rl_robot.safety.seat import Seat

ROBOT = load_robot("arm")
HOME = ROBOT.home_positions
TIMES = np.arange(1, 6) * 0.02


def make() -> tuple[SafetyFilter, Seat]:
    safety_filter = SafetyFilter(ROBOT.joints, period=0.1)
    return safety_filter, Seat(safety_filter, period=0.1, max_age=0.25)


def test_it_begins_where_the_robot_was_measured_last() -> None:
    safety_filter, seat = make()
    assert not seat.measured
    with pytest.raises(ValueError, match="none arrived"):
        seat.sit()
    seat.measure(HOME, 1.0)
    seat.measure(HOME + 0.1, 1.01)
    assert seat.measured
    assert not seat.seated
    seat.sit()
    assert seat.seated
    np.testing.assert_array_equal(safety_filter.state.positions, HOME + 0.1)


def test_what_cannot_be_true_is_not_begun_from() -> None:
    _, seat = make()
    seat.measure(1e9 * np.ones_like(HOME), 1.0)
    with pytest.raises(ValueError, match="expected"):
        seat.sit()
    assert not seat.seated


@pytest.mark.parametrize("asked", [True, False])
def test_after_a_gap_it_must_be_seated_again(asked: bool) -> None:
    _, seat = make()
    seat.measure(HOME, 1.0)
    seat.sit()
    assert seat.reliable(1.25)
    if asked:
        assert not seat.reliable(1.26)
    seat.measure(HOME, 1.3)
    assert seat.fresh(1.3)
    assert not seat.reliable(1.3)
    assert seat.seated  # for the braking
    seat.leave()
    assert not seat.seated
    seat.sit()
    assert seat.reliable(1.3)


def test_in_doubt_only_braking_is_left() -> None:
    _, seat = make()
    seat.measure(HOME, 1.0)
    seat.sit()
    seat.doubt()
    assert seat.seated
    assert not seat.reliable(1.0)


def test_at_rest_once_the_period_that_ends_at_rest_is_over() -> None:
    safety_filter, seat = make()
    seat.measure(HOME, 1.0)
    seat.sit()
    path = np.tile(HOME, (5, 1))
    path[:, 0] += 0.01 * np.array([0.02, 0.12, 0.35, 0.65, 1.0])
    safety_filter.step(Motion(ROBOT.joint_names, TIMES, path))
    assert not seat.at_rest(10.0)
    while not safety_filter.at_rest:
        safety_filter.step(None)
    assert not seat.at_rest(0.05)
    assert seat.at_rest(0.1)
