"""The braking arithmetic against braking done sample by sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.safety.stopping import safe_speed, stopping_distance

speeds = st.floats(0.0, 10.0)
accelerations = st.floats(0.5, 100.0)
intervals = st.floats(1e-3, 0.1)


def braked(speed: float, acceleration: float, interval: float) -> float:
    """Return the distance that a joint travels while it brakes, added up sample by sample."""
    distance = 0.0
    while speed > 0.0:
        speed = max(speed - interval * acceleration, 0.0)
        distance += interval * speed
    return distance


@given(speeds, accelerations, intervals)
def test_stopping_distance_is_that_of_sampled_braking(
    speed: float, acceleration: float, interval: float
) -> None:
    distance = stopping_distance(np.array(speed), np.array(acceleration), interval)
    assert distance == pytest.approx(braked(speed, acceleration, interval), rel=1e-6, abs=1e-9)


@given(st.floats(0.0, 10.0), accelerations, intervals)
def test_safe_speed_uses_the_room_and_no_more(
    room: float, acceleration: float, interval: float
) -> None:
    speed = float(safe_speed(np.array(room), np.array(acceleration), interval))
    used = interval * speed + braked(speed, acceleration, interval)
    assert used == pytest.approx(room, rel=1e-6, abs=1e-9)


@given(st.floats(-1e6, 0.0), accelerations, intervals)
def test_no_room_means_no_speed(room: float, acceleration: float, interval: float) -> None:
    assert safe_speed(np.array(room), np.array(acceleration), interval) == 0.0
