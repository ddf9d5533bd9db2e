"""The Cartesian action and its joint motion."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import load_robot
from rl_robot.robots.kinematics import Kinematics, pointing_down, tool_yaw

HERE = Path(__file__).parent
LOWER, UPPER = (0.26, -0.16, 0.012), (0.54, 0.16, 0.28)
ARM = load_robot("arm")
KINEMATICS = Kinematics(ARM)
FREE = CartesianAction(ARM)
BOXED = CartesianAction(ARM, workspace=(LOWER, UPPER))

unit = st.floats(-1.0, 1.0)
actions = st.tuples(unit, unit, unit, unit, unit).map(np.array)
poses = st.tuples(
    *(st.floats(low, high) for low, high in zip(LOWER, UPPER, strict=True)), st.floats(-1.0, 1.0)
)


def _reference(pose: tuple[float, ...], gripper: float = 0.02) -> np.ndarray:
    return np.append(KINEMATICS.solve_ik(pose[:3], pose[3]), gripper)


@settings(max_examples=60, deadline=None)
@given(poses, actions)
def test_the_motion_of_an_action_is_that_action(
    pose: tuple[float, ...], action: np.ndarray
) -> None:
    reference = _reference(pose)
    back = FREE.to_action(reference, FREE.to_motion(reference, action))
    assert np.allclose(back[:4], action[:4], atol=0.02)
    assert back[4] == (1.0 if action[4] > 0.0 else -1.0)


@settings(max_examples=60, deadline=None)
@given(poses, actions)
def test_the_tool_stays_down_in_its_box_within_limits(
    pose: tuple[float, ...], action: np.ndarray
) -> None:
    reference = _reference(pose)
    motion = BOXED.to_motion(reference, action)
    assert motion.names == ARM.joint_names
    assert np.allclose(motion.times, [0.02, 0.04, 0.06, 0.08, 0.1])
    speeds = np.abs(np.diff(np.vstack([reference, motion.positions]), axis=0)) / 0.02
    assert np.all(speeds <= ARM.velocity * (1 + 1e-9))
    for positions in motion.positions:
        assert np.all(ARM.lower <= positions)
        assert np.all(positions <= ARM.upper)
        position, rotation = KINEMATICS.tool_pose(positions[:6])
        assert np.all(np.array(LOWER) - 2e-4 <= position)
        assert np.all(position <= np.array(UPPER) + 2e-4)
        assert rotation[2, 2] < -math.cos(0.01)


def test_errors_do_not_add_up_over_an_episode() -> None:
    reference = ARM.home_positions
    for _ in range(10):
        reference = FREE.to_motion(reference, [0.5, -0.25, -0.75, 0.4, -1.0]).positions[-1]
    position, rotation = KINEMATICS.tool_pose(reference[:6])
    assert np.allclose(position, [0.42, -0.05, 0.10], atol=1e-3)
    assert np.allclose(rotation, pointing_down(0.8), atol=2e-3)


def test_a_tilted_tool_is_righted() -> None:
    reference = _reference((0.4, 0.0, 0.1, 0.0))
    reference[4] += 0.1
    for _ in range(3):
        reference = FREE.to_motion(reference, np.zeros(5)).positions[-1]
    assert KINEMATICS.tool_pose(reference[:6])[1][2, 2] < -math.cos(0.001)


def test_a_tool_outside_the_box_may_come_back_but_not_go_further() -> None:
    outside = _reference((0.40, 0.0, 0.33, 0.0))
    up = BOXED.to_motion(outside, [0.0, 0.0, 1.0, 0.0, 1.0]).positions[-1]
    down = BOXED.to_motion(outside, [0.0, 0.0, -1.0, 0.0, 1.0]).positions[-1]
    assert KINEMATICS.tool_pose(up[:6])[0][2] == pytest.approx(0.33, abs=1e-3)
    assert KINEMATICS.tool_pose(down[:6])[0][2] == pytest.approx(0.31, abs=1e-3)


def test_the_gripper_moves_no_faster_than_it_can() -> None:
    reference = ARM.home_positions
    closing = FREE.to_motion(reference, [0.0, 0.0, 0.0, 0.0, -0.1])
    assert np.allclose(closing.positions[:, 6], [0.036, 0.032, 0.028, 0.024, 0.02])
    closed = FREE.to_motion(closing.positions[-1], [0.0, 0.0, 0.0, 0.0, 0.0])
    assert closed.positions[-1, 6] == 0.0
    assert FREE.to_action(closed.positions[-1], closed)[4] == -1.0  # stays closed
    still = Motion(ARM.joint_names, np.array([0.1]), reference[None])
    assert FREE.to_action(reference, still).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]  # stays open


def test_yaw_is_measured_across_the_half_turn() -> None:
    start = _reference((0.4, 0.16, 0.1, 3.1))
    motion = FREE.to_motion(start, [0.0, 0.0, 0.0, 1.0, 1.0])
    assert tool_yaw(KINEMATICS.tool_pose(motion.positions[-1][:6])[1]) < -2.9
    assert FREE.to_action(start, motion)[3] == pytest.approx(1.0, abs=0.02)


def test_joints_in_another_order_are_understood() -> None:
    motion = FREE.to_motion(ARM.home_positions, [0.5, 0.0, 0.0, 0.0, -1.0])
    turned = Motion(motion.names[::-1], motion.times, motion.positions[:, ::-1])
    expected = FREE.to_action(ARM.home_positions, motion)
    assert np.array_equal(FREE.to_action(ARM.home_positions, turned), expected)


def test_bad_numbers_are_refused() -> None:
    home = ARM.home_positions
    with pytest.raises(ValueError, match=r"action has shape \(4,\), expected \(5,\)"):
        FREE.to_motion(home, np.zeros(4))
    with pytest.raises(ValueError, match="action is not finite"):
        FREE.to_motion(home, [0.0, np.nan, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="reference is not finite"):
        FREE.to_motion(np.full(7, np.inf), np.zeros(5))
    with pytest.raises(ValueError, match="the motion's joints are"):
        FREE.to_action(home, Motion(("a",) * 7, np.array([0.1]), home[None]))


def test_actions_beyond_one_are_clipped() -> None:
    most = FREE.to_motion(ARM.home_positions, [1.0, 0.0, 0.0, 0.0, 1.0])
    more = FREE.to_motion(ARM.home_positions, [7.0, 0.0, 0.0, 0.0, 7.0])
    assert np.array_equal(most.positions, more.positions)


def test_a_robot_without_gripper_moves_its_arm() -> None:
    crane = load_robot(str(HERE / "crane.yaml"))
    action_map = CartesianAction(crane)
    motion = action_map.to_motion(crane.home_positions, [0.5, 0.0, -0.5, 0.5, 1.0])
    assert motion.positions.shape == (5, 3)
    action = action_map.to_action(crane.home_positions, motion)
    assert np.allclose(action, [0.5, 0.0, -0.5, 0.5, -1.0], atol=0.02)
