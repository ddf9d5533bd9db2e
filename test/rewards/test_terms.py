import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rl_robot.rewards import closeness, lift_fraction, object_held, squared_jerk

LENGTHS = st.floats(0.0, 2.0)


@given(LENGTHS, LENGTHS)
def test_closeness_falls_with_distance(near, far):
    near, far = sorted((near, far))
    assert 0.0 <= closeness(far, 0.1) <= closeness(near, 0.1) <= 1.0
    assert closeness(0.0, 0.1) == 1.0


@given(st.floats(-1.0, 1.0))
def test_lift_fraction_stays_between_nothing_and_all(height):
    assert 0.0 <= lift_fraction(height, 0.02, 0.1) <= 1.0


def test_lift_fraction_is_linear_between():
    assert lift_fraction(0.06, 0.02, 0.1) == pytest.approx(0.5)


@given(st.floats(0.0, 0.08), st.floats(-0.3, 0.3), st.booleans())
def test_nothing_is_held_by_opening_moving_or_wrongly_wide_fingers(aperture, rate, closing):
    held = object_held(aperture, rate, closing=closing, width=0.04, tolerance=0.008)
    assert held == (closing and abs(rate) < 0.02 and abs(aperture - 0.04) <= 0.008)


VELOCITIES = arrays(np.float32, 4, elements=st.floats(-1, 1, width=32))


@given(VELOCITIES, VELOCITIES)
def test_motion_of_constant_acceleration_has_no_jerk(velocity, acceleration):
    path = [velocity + step * acceleration for step in range(3)]
    assert squared_jerk(*path) == pytest.approx(0.0, abs=1e-9)


@given(VELOCITIES, VELOCITIES, VELOCITIES)
def test_squared_jerk_is_bounded_and_the_same_backwards(before, last, now):
    assert 0.0 <= squared_jerk(before, last, now) <= 16.0
    assert squared_jerk(now, last, before) == pytest.approx(squared_jerk(before, last, now))


def test_squared_jerk_is_the_mean_over_the_components():
    one, rest = np.array([1.0, 0.0]), np.zeros(2)
    assert squared_jerk(rest, rest, one) == 0.5
    assert squared_jerk(one, -one, one) == 8.0
