"""The arm that is not there behaves as its drivers would, soundly or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.hardware import faults
from rl_robot.hardware.controllers import Rejected, Trajectory
from rl_robot.hardware.servo import LONGEST_STEP, Servo
from rl_robot.hardware.stand_in import StandIn
from rl_robot.robots.description import load_robot
from rl_robot.robots.urdf import parse_urdf

ARM = load_robot("arm")
ARM_NAMES = ARM.interfaces[0].joints
HOME = ARM.home_positions[:6]
NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def moving(seconds: float, reach: float, joint: int = 0) -> Trajectory:
    goal = HOME.copy()
    goal[joint] += reach
    return Trajectory(ARM_NAMES, 0, (seconds,), (goal.tolist(),))


def test_joint_states_come_at_their_rate_in_an_order_of_their_own() -> None:
    samples = StandIn(ARM, NOW).advance(NOW + SECOND // 2)
    assert [sample.stamp_ns - NOW for sample in samples[:2]] == [10_000_000, 20_000_000]
    assert len(samples) == 50
    assert list(samples[0].names) == sorted(ARM.joint_names)
    place = dict(zip(samples[-1].names, samples[-1].positions, strict=True))
    assert place == pytest.approx(ARM.home)


def test_a_joint_follows_with_the_lag_that_is_stated() -> None:
    lag = 0.05
    arm = StandIn(ARM, NOW, lag=lag)
    arm.command("arm_controller", moving(1.0, 0.5), NOW)
    arm.advance(NOW + SECOND * 8 // 10)
    one_step = 1.1 * 0.5 * LONGEST_STEP
    assert arm.positions[0] == pytest.approx(HOME[0] + 0.5 * (0.8 - lag), abs=one_step)
    for number in (1, 2):
        arm.advance(NOW + number * SECOND)
    assert arm.positions[0] == pytest.approx(HOME[0] + 0.5, abs=1e-4)


def test_what_a_controller_rejects_moves_nothing() -> None:
    arm = StandIn(ARM, NOW)
    with pytest.raises(Rejected):
        arm.command("arm_controller", Trajectory(("elbow",), 0, (1.0,), ((0.0,),)), NOW)
    assert arm.advance(NOW + SECOND)[-1].positions == pytest.approx(
        [ARM.home[name] for name in sorted(ARM.joint_names)]
    )


def test_a_gap_of_time_is_skipped() -> None:
    arm = StandIn(ARM, NOW)
    assert len(arm.advance(NOW + 3600 * SECOND)) == 1


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3),
    st.floats(0.0, 1.0),
)
def test_drives_keep_their_limits_and_arrive(goal: list[float], lag: float) -> None:
    velocity, acceleration = np.array([1.0, 2.0, 0.5]), np.array([5.0, 20.0, 50.0])
    servo = Servo(np.zeros(3), velocity, acceleration, lag=0.02 + 0.1 * lag)
    before = servo.velocities.copy()
    for _ in range(2000):
        servo.advance(np.array(goal), LONGEST_STEP)
        change = np.abs(servo.velocities - before)
        assert np.all(change <= 1.2 * acceleration * LONGEST_STEP)
        assert np.all(np.abs(servo.velocities) <= 1.01 * velocity)
        before = servo.velocities.copy()
    assert servo.positions == pytest.approx(goal, abs=1e-3)


def test_a_lag_that_cannot_be_integrated_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        Servo(np.zeros(1), np.ones(1), np.ones(1), lag=0.001)


def test_faults_are_named_and_others_refused() -> None:
    with pytest.raises(UserError, match="expected one of none, wrong_joint_order"):
        StandIn(ARM, NOW, fault="evil")
    with pytest.raises(UserError, match="stands at the last one"):
        StandIn(load_robot("iiwa"), NOW, fault="ignores_timeout")


def test_wrong_joint_order_swaps_two_values_under_right_names() -> None:
    one, other = faults.confused_joints(ARM)
    arm = StandIn(ARM, NOW, fault="wrong_joint_order")
    arm.command("arm_controller", moving(0.5, 0.3, ARM_NAMES.index(one)), NOW)
    place = (samples := arm.advance(NOW + SECOND))[-1]
    shown = dict(zip(place.names, place.positions, strict=True))
    assert set(shown) == set(ARM.joint_names)
    assert shown[other] == pytest.approx(ARM.home[one] + 0.3, abs=1e-3)
    assert shown[one] == pytest.approx(ARM.home[other])
    assert samples


@pytest.mark.parametrize(
    ("fault", "offset"),
    [("clock_ahead", 0.03), ("clock_behind", -0.03), ("stale_stamps", -3.0), ("none", 0.0)],
)
def test_clocks_that_are_wrong_show_in_the_stamps(fault: str, offset: float) -> None:
    samples = StandIn(ARM, NOW, fault=fault).advance(NOW + SECOND)
    assert (samples[-1].stamp_ns - NOW) * 1e-9 - 1.0 == pytest.approx(offset)


def test_other_faults_of_the_joint_states() -> None:
    frozen = StandIn(ARM, NOW, fault="frozen_stamps").advance(NOW + SECOND)
    assert {sample.stamp_ns for sample in frozen} == {NOW}
    assert len(StandIn(ARM, NOW, fault="slow_rate").advance(NOW + SECOND)) == 50
    unknown = StandIn(ARM, NOW, fault="unknown_names").advance(NOW + SECOND)
    assert not set(unknown[0].names) & set(ARM.joint_names)


@pytest.mark.parametrize("name", ["arm", "arm7", "ur5e", "fr3", "iiwa"])
def test_swapped_limits_are_those_of_two_joints(name: str) -> None:
    robot = load_robot(name)
    sound = parse_urdf(robot.urdf_xml, "own").joints
    swapped = parse_urdf(StandIn(robot, NOW, fault="swapped_limits").robot_description, "").joints
    other = [
        n for n in sound if (sound[n].lower, sound[n].upper) != (swapped[n].lower, swapped[n].upper)
    ]
    assert len(other) == 2
    one, two = other
    assert (swapped[one].lower, swapped[one].upper) == (sound[two].lower, sound[two].upper)


def test_latency_holds_commands_back() -> None:
    arm = StandIn(ARM, NOW, fault="latency")
    arm.command("arm_controller", moving(0.1, 0.1), NOW)
    arm.advance(NOW + SECOND * 29 // 100)
    assert arm.positions[0] == pytest.approx(HOME[0])
    arm.advance(NOW + SECOND)
    assert arm.positions[0] == pytest.approx(HOME[0] + 0.1, abs=1e-3)


def test_a_driver_that_ignores_its_timeout_goes_on_and_a_sound_one_stops() -> None:
    reached = {}
    for fault in ("none", "ignores_timeout"):
        arm = StandIn(ARM, NOW, fault=fault)
        arm.command("arm_controller", moving(0.1, 0.02), NOW)
        arm.advance(NOW + SECOND)
        reached[fault] = arm.positions[0] - HOME[0]
    assert reached["none"] == pytest.approx(0.02, abs=1e-4)
    assert reached["ignores_timeout"] > 0.1


def test_a_driver_that_ignores_a_stop_goes_on_whatever_it_is_sent() -> None:
    arm = StandIn(ARM, NOW, fault="ignores_stop")
    arm.command("arm_controller", moving(1.0, 0.2), NOW)
    arm.advance(NOW + SECOND // 2)
    arm.stop_pressed(NOW + SECOND // 2)
    begun = arm.positions[0]
    arm.command("arm_controller", moving(0.1, begun - HOME[0]), NOW + SECOND // 2)
    arm.advance(NOW + SECOND)
    assert arm.positions[0] > begun + 0.05
