"""The braking arithmetic against its own definition, integrated step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.safety.stopping import safe_speed, stopping_distance

speeds = st.floats(0.0, 10.0)
accelerations = st.floats(0.1, 100.0)
jerks = st.floats(1.0, 1e5)


def braked(speed: float, acceleration: float, jerk: float, steps: int = 20000) -> float:
    """Integrate the quickest stop: build the deceleration up, keep it, take it back in time."""
    duration = speed / acceleration + 2.0 * acceleration / jerk + 2.0 * (speed / jerk) ** 0.5
    dt = duration / steps
    distance, rate, change = 0.0, speed, 0.0
    for _ in range(steps):
        # what is left of the speed once the deceleration has been taken back from now on
        taking_back = 0.5 * change * change / jerk
        if rate <= taking_back:
            change = max(change - jerk * dt, 0.0)
        else:
            change = min(change + jerk * dt, acceleration)
        distance += max(rate, 0.0) * dt
        rate -= change * dt
        if rate <= 0.0:
            break
    return distance


@pytest.mark.parametrize("speed", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("acceleration", [0.5, 15.0])
@pytest.mark.parametrize("jerk", [5.0, 300.0, 1e5])
def test_stopping_distance_is_that_of_the_quickest_stop(
    speed: float, acceleration: float, jerk: float
) -> None:
    expected = braked(speed, acceleration, jerk)
    assert stopping_distance(speed, acceleration, jerk) == pytest.approx(expected, rel=2e-3)


@given(speeds, accelerations, jerks)
def test_safe_speed_is_the_inverse(speed: float, acceleration: float, jerk: float) -> None:
    distance = stopping_distance(speed, acceleration, jerk)
    assert safe_speed(distance, acceleration, jerk) == pytest.approx(speed, rel=1e-6, abs=1e-9)


@given(speeds, speeds, accelerations, jerks)
def test_faster_takes_longer(one: float, other: float, acceleration: float, jerk: float) -> None:
    slow, fast = sorted((one, other))
    near, far = (stopping_distance(speed, acceleration, jerk) for speed in (slow, fast))
    assert near <= far * (1 + 1e-12)


@given(st.floats(-1e6, 0.0), accelerations, jerks)
def test_without_room_there_is_no_speed(room: float, acceleration: float, jerk: float) -> None:
    assert safe_speed(room, acceleration, jerk) == 0.0
