"""What is found in joint states that were collected, whatever the machine was busy with."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.hardware.findings import FAIL, PASS
from rl_robot.hardware.graph_checks import Endpoint
from rl_robot.hardware.joint_checks import (
    JointSample,
    check_clock,
    check_joint_states,
    check_limits,
    check_rate,
    check_stamps,
    clock_settled,
    positions_of,
)
from rl_robot.robots.description import load_robot

ROBOT = load_robot("arm")
DRIVER = [Endpoint("sensor_msgs/msg/JointState")]
HOME = tuple(float(value) for value in ROBOT.home_positions)


def samples(
    latencies: np.ndarray | None = None, *, offset: float = 0.0, rate: float = 100.0
) -> list[JointSample]:
    """Joint states of a robot at home; the driver's clock is ``offset`` s ahead."""
    given = np.full(200, 0.001) if latencies is None else latencies
    captured = np.arange(len(given)) / rate
    return [
        JointSample(float(time) + offset, float(time + late), ROBOT.joint_names, HOME)
        for time, late in zip(captured, given, strict=True)
    ]


# Most messages may be late by anything; one in twenty at least comes at once.
busy = st.lists(st.floats(0.0, 0.12), min_size=200, max_size=200).map(
    lambda drawn: np.where(np.arange(200) % 20 == 7, 0.003, drawn)
)


@settings(max_examples=50, deadline=None)
@given(busy)
def test_a_busy_machine_raises_no_false_alarm(latencies: np.ndarray) -> None:
    heard = samples(latencies)
    assert check_clock(heard).status == PASS
    assert check_stamps(heard).status == PASS
    assert check_rate(ROBOT, heard).status == PASS
    assert clock_settled(heard)


@settings(max_examples=50, deadline=None)
@given(busy, st.floats(0.02, 2.0))
def test_a_clock_offset_is_found_on_a_busy_machine(latencies: np.ndarray, offset: float) -> None:
    ahead = check_clock(samples(latencies, offset=offset))
    assert (ahead.status, "ahead" in ahead.wrong) == (FAIL, True)
    behind = check_clock(samples(latencies, offset=-offset))
    assert (behind.status, "behind" in behind.wrong) == (FAIL, True)


def test_the_clock_is_judged_once_its_smallest_age_is_settled() -> None:
    late = np.full(200, 0.05)
    assert clock_settled(samples(late))  # it has not got smaller for a second: that is what it is
    late[150] = 0.04
    assert not clock_settled(samples(late))
    late[190] = 0.01
    assert clock_settled(samples(late))
    assert not clock_settled(samples(late[:5]))


def test_stamps() -> None:
    assert check_stamps(samples()).status == PASS
    past = check_stamps(samples(offset=-3.0))
    assert "stale stamps" in past.wrong
    assert "3.00 s in the past" in past.wrong
    assert "in the future" in check_stamps(samples(offset=3.0)).wrong
    frozen = [replace(sample, stamp=0.0) for sample in samples()]
    assert "stands still" in check_stamps(frozen).wrong
    back = samples()
    back[100] = replace(back[100], stamp=back[98].stamp)
    assert "do not rise" in check_stamps(back).wrong
    assert check_stamps([]).status == FAIL


@pytest.mark.parametrize(
    ("rate", "status"), [(100.0, PASS), (95.0, PASS), (80.0, FAIL), (50.0, FAIL)]
)
def test_rate(rate: float, status: str) -> None:
    assert check_rate(ROBOT, samples(rate=rate)).status == status


def test_a_gap_is_found_and_too_few_messages_are_said() -> None:
    heard = samples()
    gap = heard[:100] + heard[115:]
    assert "0.160 s passed" in check_rate(ROBOT, gap).wrong
    assert "only 3 messages" in check_rate(ROBOT, heard[:3]).wrong


def test_joint_states_in_any_order_pass_and_it_is_said() -> None:
    assert check_joint_states(ROBOT, samples(), DRIVER).status == PASS
    reversed_ = [
        replace(one, names=one.names[::-1], positions=one.positions[::-1]) for one in samples()
    ]
    finding = check_joint_states(ROBOT, reversed_, DRIVER)
    assert finding.status == PASS
    assert "its own (gripper" in finding.figure
    assert positions_of(ROBOT, reversed_) == pytest.approx(positions_of(ROBOT, samples()))


def changed(**changes: object) -> list[JointSample]:
    return [replace(one, **changes) for one in samples()]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("heard", "publishers", "words"),
    [
        ([], [], "nobody publishes"),
        ([], DRIVER, "nothing comes on joint_states"),
        (samples(), [Endpoint("std_msgs/msg/String")], "published as std_msgs/msg/String"),
        (samples(), DRIVER * 2, "2 nodes publish"),
        ([], [replace(DRIVER[0], best_effort=True)], "best effort"),
        (changed(names=("a", *ROBOT.joint_names[1:])), DRIVER, "shoulder_pan is not published"),
        (changed(positions=HOME[:3]), DRIVER, "wrist_1 is missing or not finite"),
        (changed(positions=(np.nan, *HOME[1:])), DRIVER, "shoulder_pan is missing or not finite"),
        (changed(positions=(7.0, *HOME[1:])), DRIVER, "shoulder_pan is at 7, outside its limits"),
    ],
)
def test_what_is_wrong_with_joint_states_is_said(
    heard: list[JointSample], publishers: list[Endpoint], words: str
) -> None:
    finding = check_joint_states(ROBOT, heard, publishers)
    assert finding.status == FAIL
    assert words in finding.wrong


def test_limits_name_all_sources() -> None:
    assert check_limits(ROBOT, None) is None
    same = check_limits(ROBOT, ROBOT.urdf_xml)
    assert same is not None
    assert same.status == PASS
    for source in ("arm.yaml", "arm.urdf", "robot_description"):
        assert source in same.figure
    narrower = ROBOT.urdf_xml.replace('velocity="2.5"', 'velocity="1.5"', 1)
    assert narrower != ROBOT.urdf_xml
    finding = check_limits(ROBOT, narrower)
    assert finding is not None
    assert finding.status == FAIL
    for words in ("shoulder_pan: velocity 2.5 in arm.yaml", "arm.urdf: 2.5", "the driver's 1.5"):
        assert words in finding.wrong


@pytest.mark.parametrize(
    ("description", "words"),
    [("<robot", "not well-formed"), ("<robot><link name='a'/></robot>", "no joint shoulder_pan")],
)
def test_a_description_that_is_no_use_is_said(description: str, words: str) -> None:
    finding = check_limits(ROBOT, description)
    assert finding is not None
    assert words in finding.wrong
