"""Streams follow the filtered motion: what they say adds up to it, and keeps its limits."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.interfaces import FLOAT64_MULTI_ARRAY, POSITION, TWIST, TWIST_STAMPED, VELOCITY
from rl_robot.robots.kinematics import Kinematics
from rl_robot.robots.streams import (
    CORRECTION,
    LAG,
    Course,
    Progress,
    Stream,
    tracking_error,
)
from rl_robot.safety.filter import SafetyFilter

Array = npt.NDArray[np.float64]

CRANE = load_robot(str(Path(__file__).parent / "crane.yaml"))
ARM = load_robot("arm")
PERIOD = 0.1
TICK = 0.01
SERVO = 10  # its cycles in a tick
parts = st.lists(st.floats(-1.0, 1.0), min_size=7, max_size=7)


@cache
def safety_filter(name: str) -> SafetyFilter:
    return SafetyFilter({"arm": ARM, "crane": CRANE}[name].joints, period=PERIOD)


def course_of(robot: Robot, before: list[float], asked: list[float]) -> Course:
    """What the filter makes of two periods of hostile commands, the second with its braking."""
    limits = safety_filter(robot.name)
    limits.reset(robot.home_positions)
    start = robot.home_positions
    for wanted in (before, asked):
        start = limits.state.positions
        # As far as ten times what the velocity limits allow.
        target = start + 10.0 * PERIOD * robot.velocity * np.array(wanted[: len(start)])
        sent = limits.step(Motion(robot.joint_names, np.array([PERIOD]), target[None])).motion
    tail = limits.tail()
    return Course.of(
        start,
        Motion(
            sent.names,
            np.concatenate([sent.times, tail.times]),
            np.concatenate([sent.positions, tail.positions]),
        ),
    )


def stream(robot: Robot, mode: str, frame: str = "") -> Stream:
    kind = TWIST_STAMPED if mode == TWIST else FLOAT64_MULTI_ARRAY
    joints = robot.arm_joints if mode == TWIST else robot.joint_names[::-1]
    interface = replace(robot.interfaces[0], type=kind, mode=mode, joints=joints, frame=frame)
    return Stream(interface, robot, TICK)


def ticks(course: Course, phase: float) -> Array:
    return np.arange(phase * TICK, course.end + 3.0 * TICK, TICK)


@given(parts, parts, st.floats(0.0, 1.0))
def test_positions_are_those_of_the_motion_in_the_interfaces_order(
    before: list[float], asked: list[float], phase: float
) -> None:
    course = course_of(CRANE, before, asked)
    told = stream(CRANE, POSITION)
    no_error = np.zeros(3)
    for time, positions in zip(course.times, course.positions, strict=True):
        np.testing.assert_allclose(told.values(course, time, no_error), positions[::-1], atol=1e-12)
    said = np.array([told.values(course, time, no_error) for time in ticks(course, phase)])
    steps = np.abs(np.diff(said, axis=0)).max(axis=0)
    assert np.all(steps <= CRANE.velocity[::-1] * TICK * (1.0 + 1e-6))
    np.testing.assert_array_equal(said[-1], course.positions[-1][::-1])


@given(parts, parts, st.floats(0.0, 1.0))
def test_velocities_add_up_to_the_motion_and_keep_the_limits(
    before: list[float], asked: list[float], phase: float
) -> None:
    course = course_of(CRANE, before, asked)
    told = stream(CRANE, VELOCITY)
    times = ticks(course, phase)
    reached = course.at(times[0])
    for time in times:
        velocities = told.values(course, time, np.zeros(3))[::-1]
        assert np.all(np.abs(velocities) <= CRANE.velocity * (1.0 + 1e-6))
        np.testing.assert_allclose(reached, course.at(time), atol=1e-9)
        reached = reached + velocities * TICK
    np.testing.assert_allclose(reached, course.positions[-1], atol=1e-9)
    np.testing.assert_array_equal(told.values(course, course.end, np.zeros(3)), np.zeros(3))


@given(parts, parts, st.floats(0.0, 0.5), st.lists(st.floats(-9.0, 9.0), min_size=3, max_size=3))
def test_no_error_makes_a_joint_faster_than_its_limit_or_turn_round_or_move_at_rest(
    before: list[float], asked: list[float], time: float, error: list[float]
) -> None:
    course = course_of(CRANE, before, asked)
    told = stream(CRANE, VELOCITY)
    planned = told.values(course, time, np.zeros(3))
    corrected = told.values(course, time, np.array(error))
    assert np.all(np.abs(corrected) <= CRANE.velocity[::-1])
    assert np.all(corrected * planned >= 0.0)
    excess = np.abs(corrected) - (1.0 + CORRECTION) * np.abs(planned)
    assert np.all(excess <= 1e-12)


@pytest.mark.parametrize("late", [0, 3, 9])
def test_a_driver_that_follows_late_is_not_driven_beyond_the_end(late: int) -> None:
    """As fast as it can for a second, and braking: the lag is no drift."""
    told, progress = stream(CRANE, VELOCITY), Progress()
    times = np.arange(1, 151) * TICK
    speeds = 0.9 * CRANE.velocity[0] * np.clip(np.minimum(times, 1.5 - times) / 0.3, 0.0, 1.0)
    positions = np.outer(np.cumsum(speeds * TICK), [1.0, 0.0, 0.0])
    course = Course.of(np.zeros(3), Motion(CRANE.joint_names, times, positions))
    progress.follow(course, 0.0)
    reached, sent = np.zeros(3), [np.zeros(3)] * late
    for time in np.arange(0.0, 2.0, TICK):
        sent.append(told.values(course, time, progress.error(reached, time))[::-1])
        reached = reached + TICK * sent[-1 - late]
        assert reached[0] <= course.at(time + TICK)[0] + 1e-3
    np.testing.assert_allclose(reached, course.positions[-1], atol=1e-3)


def test_a_driver_that_is_slow_is_caught_up_with() -> None:
    """It makes 3 % less of each velocity: without correction, that adds up."""
    times = np.arange(1, 1001) * 0.02
    path = 0.05 * times[:, None] * np.ones(3)
    course = Course.of(np.zeros(3), Motion(CRANE.joint_names, times, path))
    errors = {}
    for corrected in (False, True):
        progress, reached = Progress(), course.at(0.0)
        progress.follow(course, 0.0)
        told = stream(CRANE, VELOCITY)
        for time in ticks(course, 0.0):
            error = progress.error(reached, time) if corrected else np.zeros(3)
            reached = reached + 0.97 * TICK * told.values(course, time, error)[::-1]
        errors[corrected] = float(np.abs(course.positions[-1] - reached).max())
    assert errors[False] == pytest.approx(0.03 * 1.0, rel=1e-3)
    assert errors[True] < 0.05 * LAG + 0.1 * errors[False]  # as long as it moves, lag hides some


def test_a_driver_that_is_late_goes_no_further_where_its_lag_is_said() -> None:
    """It makes all of each velocity, 0.2 s later: lag is no drift, and must not be made up for."""
    times = np.arange(1, 51) * 0.02
    path = 0.2 * np.sin(0.5 * np.pi * times)[:, None] ** 2 * np.ones(3)
    course = Course.of(np.zeros(3), Motion(CRANE.joint_names, times, path))
    ended = {}
    for said in (0.0, 0.2):
        robot = replace(CRANE, interfaces=tuple(replace(i, lag=said) for i in CRANE.interfaces))
        progress, told, waiting = Progress(), stream(CRANE, VELOCITY), [np.zeros(3)] * 20
        reached = course.at(0.0)
        progress.follow(course, 0.0)
        for time in [*ticks(course, 0.0), *(course.end + TICK * np.arange(1, 22))]:
            error = tracking_error(robot, progress, reached, time)
            waiting.append(told.values(course, time, error)[::-1])
            reached = reached + TICK * waiting.pop(0)
        ended[said] = float(np.abs(reached - course.positions[-1]).max())
    assert ended[0.0] > 0.01
    assert ended[0.2] < 1e-3


@settings(max_examples=25)
@given(parts, parts)
@pytest.mark.parametrize("frame", [ARM.base_frame, ARM.tool_frame])
def test_twists_add_up_to_the_tools_motion(
    frame: str, before: list[float], asked: list[float]
) -> None:
    course = course_of(ARM, [0.1 * part for part in before], [0.1 * part for part in asked])
    told = stream(ARM, TWIST, frame)
    kinematics = Kinematics(ARM)
    arm = len(ARM.arm_joints)
    position, rotation = kinematics.tool_pose(course.at(0.0)[:arm])
    for time in ticks(course, 0.0):
        twist = told.values(course, time, np.zeros(len(ARM.joints)))
        for _ in range(SERVO):  # a servo is quicker, and looks anew where the tool's axes point
            turn = rotation if frame == ARM.tool_frame else np.eye(3)
            linear, angular = turn @ twist[:3], turn @ twist[3:]
            position = position + linear * TICK / SERVO
            rotation = Rotation.from_rotvec(angular * TICK / SERVO).as_matrix() @ rotation
    wanted_position, wanted_rotation = kinematics.tool_pose(course.positions[-1][:arm])
    assert np.linalg.norm(position - wanted_position) < 1e-3
    assert Rotation.from_matrix(wanted_rotation.T @ rotation).magnitude() < 2e-3
    np.testing.assert_array_equal(
        told.values(course, course.end, np.zeros(len(ARM.joints))), np.zeros(6)
    )


# --- how far the robot has come -----------------------------------------------------------------

LINE = Course(("a",), np.array([0.0, 1.0]), np.array([[0.0], [1.0]]))


def test_time_on_a_course_is_the_clocks() -> None:
    progress = Progress(patience=0.05)
    assert progress.course is None
    progress.follow(LINE, 10.0)
    for now in np.arange(10.0, 10.5, 0.01):
        progress.tell(now)
        assert progress.elapsed(now) == pytest.approx(now - 10.0)
    assert progress.course is LINE


def test_a_stream_that_was_held_up_goes_on_from_where_it_broke_off() -> None:
    progress = Progress(patience=0.05)
    progress.follow(LINE, 10.0)
    progress.tell(10.3)
    assert progress.elapsed(12.0) == pytest.approx(0.35)  # not 2.0, which is beyond the end
    progress.tell(12.0)
    assert progress.elapsed(12.01) == pytest.approx(0.36)


def test_a_new_course_does_not_make_more_of_patience() -> None:
    """Else commands that come while no stream speaks would move the robot on, one after another."""
    progress = Progress(patience=0.05)
    progress.follow(LINE, 10.0)
    progress.tell(10.3)
    assert progress.elapsed(11.0) == pytest.approx(0.35)
    for now in (11.0, 12.0, 13.0):
        progress.follow(LINE, now)
        assert progress.elapsed(now + 0.5) == pytest.approx(0.0)
    progress.tell(13.5)
    assert progress.elapsed(13.51) == pytest.approx(0.01)


def test_at_rest_nothing_is_held_up() -> None:
    progress = Progress(patience=0.05)
    progress.follow(LINE, 10.0)
    for now in np.arange(10.0, 11.05, 0.01):
        progress.tell(now)
    assert progress.elapsed(15.0) == pytest.approx(5.0)


def test_without_streams_time_never_stands_still() -> None:
    progress = Progress()
    progress.follow(LINE, 10.0)
    assert progress.elapsed(10.9) == pytest.approx(0.9)


def test_errors_are_those_of_the_time_of_the_measurement() -> None:
    progress = Progress()
    np.testing.assert_array_equal(progress.error(np.array([5.0]), 9.0), [0.0])
    progress.follow(LINE, 10.0)
    progress.follow(Course(("a",), np.array([0.0, 1.0]), np.array([[0.5], [0.0]])), 10.5)
    np.testing.assert_allclose(progress.error(np.array([0.4]), 10.4), [0.0], atol=1e-12)
    np.testing.assert_allclose(progress.error(np.array([0.4]), 10.6), [0.05], atol=1e-12)
    np.testing.assert_array_equal(progress.error(np.array([0.4]), 9.9), [0.0])  # before all
