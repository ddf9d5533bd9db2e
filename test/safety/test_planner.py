"""What a planned path of one joint promises, from any state to any goal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.safety.path import JointPath, JointState
from rl_robot.safety.planner import Bounds, Goal, JointPlanner

RELATIVE = 1e-6
PERIOD = 0.1
PARTS = st.floats(-1.0, 1.0)
# Next to nothing is where arithmetic fails, and full limits are where plans do.
ODD = PARTS | st.sampled_from([-1.0, 0.0, 1.0, 1e-9, -1e-12])


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    acceleration = draw(st.floats(0.5, 50.0))
    return Bounds(
        lower=(lower := draw(st.floats(-3.0, 3.0))),
        upper=lower + draw(st.floats(0.01, 6.0)),
        velocity=draw(st.floats(0.1, 10.0)),
        acceleration=acceleration,
        jerk=acceleration * draw(st.floats(5.0, 200.0)),
    )


@st.composite
def plans(draw: st.DrawFn) -> tuple[Bounds, JointState, JointPath]:
    """Draw a path to a goal, from a state in which an earlier plan left the joint."""
    limits = draw(bounds())
    planner = JointPlanner(limits, PERIOD)
    middle, half = 0.5 * (limits.lower + limits.upper), 0.5 * (limits.upper - limits.lower)
    state = JointState(middle + 0.9 * half * draw(PARTS), 0.0, 0.0)
    path = JointPath.resting(state.position)
    for _ in range(draw(st.integers(1, 5))):
        state = path.at(draw(st.floats(0.0, 2.0 * PERIOD)))
        near = state.position + PERIOD * state.velocity + 0.02 * limits.acceleration * draw(PARTS)
        goal = Goal(
            draw(st.sampled_from([near, middle + half * draw(ODD)])),
            limits.velocity * draw(ODD),
            draw(st.sampled_from([0.0, state.acceleration, limits.acceleration * draw(PARTS)])),
        )
        found = planner.reach(state, planner.permitted(goal)) or planner.brake(state)
        path = found or JointPath.resting(state.position)
        if found is None:
            break
    return limits, state, path


def dense(path: JointPath) -> np.ndarray:
    """Return states (K, 3) on a path, close together, from its start to after its end."""
    times = np.append(np.linspace(0.0, path.end, 400), [path.end + 1.0, path.end + 2.0])
    return np.array([path.at(float(time)) for time in times])


@settings(max_examples=500)
@given(plans())
def test_a_path_stays_within_the_bounds_that_it_gives(
    plan: tuple[Bounds, JointState, JointPath],
) -> None:
    _, _, path = plan
    positions = dense(path)[:, 0]
    assert positions.min() >= path.lowest - 1e-9
    assert positions.max() <= path.highest + 1e-9


@settings(max_examples=500)
@given(plans())
def test_a_path_keeps_all_limits_and_ends_at_rest(
    plan: tuple[Bounds, JointState, JointPath],
) -> None:
    limits, state, path = plan
    states = dense(path)
    assert states[0] == pytest.approx(state, abs=1e-9)
    assert states[:, 0].min() >= limits.lower - 1e-9
    assert states[:, 0].max() <= limits.upper + 1e-9
    assert np.abs(states[:, 1]).max() <= (1.0 + RELATIVE) * limits.velocity
    assert np.abs(states[:, 2]).max() <= (1.0 + RELATIVE) * limits.acceleration
    jerks = np.diff(states[:-2, 2]) / max(path.end / 399, 1e-6)
    assert np.abs(jerks).max() <= (1.0 + RELATIVE) * limits.jerk
    np.testing.assert_array_equal(states[-2], states[-1])
    assert (states[-1, 1:] == 0.0).all()


def test_a_turning_point_with_next_to_no_jerk_is_not_overlooked() -> None:
    """Nearly uniform acceleration out of a limit's reach: the way back leads beyond it."""
    planner = JointPlanner(Bounds(-2.78, 2.78, 2.6, 12.0, 360.0), PERIOD)
    state = JointState(-2.7545871970130027, -0.7591886531370731, 11.061889349932246)
    end = -2.775196615577049, 0.34700028185605064, 11.061889349929244
    path = planner.reach(state, planner.permitted(Goal(*end)))
    assert path is None or dense(path)[:, 0].min() >= -2.78


@settings(max_examples=300)
@given(bounds(), st.floats(1e-6, 1.0), st.lists(st.tuples(ODD, ODD), min_size=1, max_size=5))
def test_from_outside_the_limits_a_joint_comes_in_and_stays_in(
    limits: Bounds, aside: float, goals: list[tuple[float, float]]
) -> None:
    planner = JointPlanner(limits, PERIOD)
    middle, half = 0.5 * (limits.lower + limits.upper), 0.5 * (limits.upper - limits.lower)
    path = JointPath.resting(limits.lower - aside)
    positions = []
    for where, speed in goals:
        goal = planner.permitted(Goal(middle + half * where, limits.velocity * speed))
        state = path.at(PERIOD if positions else 0.0)
        found = planner.reach(state, goal) or planner.brake(state)
        if found is None:  # it stops as planned
            break
        path = found
        positions += [path.at(float(time)).position for time in np.linspace(0.0, PERIOD, 60)]
    positions += [path.at(PERIOD + float(t)).position for t in np.linspace(0.0, path.end, 200)]
    outside = limits.lower - np.array(positions)
    came_in = np.maximum.accumulate(outside <= 1e-9)
    assert (outside[came_in] <= 1e-8).all()
    assert outside.max() <= aside + 1e-9
