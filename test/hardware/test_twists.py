"""Twists move the tool as they say, and MoveIt Servo's refusals are kept."""

import numpy as np
import pytest

from rl_robot.hardware.controllers import Rejected
from rl_robot.hardware.servo import RESERVE
from rl_robot.hardware.twists import TwistController
from rl_robot.robots.description import load_robot
from rl_robot.robots.kinematics import Kinematics

ROBOT = load_robot("ur5e")
HOME = np.array([ROBOT.home[name] for name in ROBOT.arm_joints])
KINEMATICS = Kinematics(ROBOT)
NOW = 5_000_000_000
STEP = 0.002


def controller(here: np.ndarray = HOME, frame: str = ROBOT.base_frame) -> TwistController:
    return TwistController(ROBOT, here, frame=frame, incoming_command_timeout=0.1)


def follow(
    made: TwistController, seconds: float, here: np.ndarray = HOME, *, begin: float = 0.0
) -> np.ndarray:
    """Have the arm be where it is told to be at once, from ``begin`` s on."""
    for number in range(round(seconds / STEP)):
        here = made.reference(NOW + round((begin + number * STEP) * 1e9), here, STEP).copy()
    return here


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("frame", [ROBOT.base_frame, ROBOT.tool_frame])
def test_the_tool_goes_the_way_that_the_twist_says(axis: int, frame: str) -> None:
    made = controller(frame=frame)
    twist = np.zeros(6)
    twist[axis] = 0.1
    # A stamp that lies in the future is obeyed for too long, as by MoveIt Servo itself.
    made.take(twist, NOW + 400_000_000)
    moving = follow(made, 0.2)
    begin, rotation = KINEMATICS.tool_pose(moving)
    end, turned = KINEMATICS.tool_pose(follow(made, 0.2, moving, begin=0.2))
    moved = end - begin if frame == ROBOT.base_frame else rotation.T @ (end - begin)
    assert moved[axis] == pytest.approx(0.02, abs=0.0005)
    assert np.delete(moved, axis) == pytest.approx(np.zeros(2), abs=5e-4)
    assert turned == pytest.approx(rotation, abs=5e-3)


def test_a_stale_stamp_is_not_obeyed_and_a_fresh_one_until_it_is_stale() -> None:
    for stamp in (0, NOW - 100_000_000):
        made = controller()
        made.take([0.1, 0, 0, 0, 0, 0], stamp)
        assert follow(made, 0.1) == pytest.approx(HOME)
    made = controller()
    made.take([0.1, 0, 0, 0, 0, 0], NOW)
    reached = follow(made, 0.2)
    begin, _ = KINEMATICS.tool_pose(HOME)
    assert KINEMATICS.tool_pose(reached)[0][0] - begin[0] == pytest.approx(0.01, abs=0.004)
    assert follow(made, 0.2, reached, begin=0.2) == pytest.approx(reached, abs=1e-9)


def test_it_halts_smoothly() -> None:
    made = controller()
    made.take([0.2, 0, 0, 0, 0, 0], NOW)
    here, rates = HOME, []
    for number in range(150):
        after = made.reference(NOW + round(number * STEP * 1e9), here, STEP).copy()
        rates.append((after - here) / STEP)
        here = after
    assert np.abs(np.diff(rates, axis=0)).max() <= RESERVE * ROBOT.acceleration[0] * STEP * 1.001
    assert rates[-1] == pytest.approx(np.zeros(len(HOME)))


def test_no_joint_is_faster_than_it_may_be() -> None:
    made = controller()
    made.take([5.0, 0, 0, 0, 0, 0], NOW)
    before, here = HOME, HOME
    for number in range(45):
        before, here = here, made.reference(NOW + round(number * STEP * 1e9), HOME, STEP).copy()
        assert np.all(np.abs(here - before) <= ROBOT.velocity[:6] * STEP * 1.001)


def test_near_a_singularity_it_slows_down_and_halts() -> None:
    straight = HOME.copy()
    straight[2] = 0.0  # the elbow stretched
    made = controller(straight)
    made.take([0.1, 0, 0, 0, 0, 0], NOW)
    assert follow(made, 0.08, straight) == pytest.approx(straight)


def test_near_a_limit_it_goes_no_further() -> None:
    there = HOME.copy()
    there[5] = ROBOT.upper[5] - 0.05
    _, rotation = KINEMATICS.tool_pose(there)
    made = controller(there, ROBOT.tool_frame)
    ahead = KINEMATICS.jacobian(there)[3:, 5] @ rotation[:, 2]
    made.take([0, 0, 0, 0, 0, float(np.sign(ahead))], NOW)
    assert follow(made, 0.08, there) == pytest.approx(there)
    made = controller(there, ROBOT.tool_frame)
    made.take([0, 0, 0, 0, 0, -float(np.sign(ahead))], NOW)
    assert follow(made, 0.08, there)[5] < there[5]


@pytest.mark.parametrize("twist", [[0.0] * 5, [np.nan] + [0.0] * 5, [np.inf] * 6, []])
def test_a_twist_is_six_finite_numbers(twist: list[float]) -> None:
    with pytest.raises(Rejected):
        controller().take(twist, NOW)
