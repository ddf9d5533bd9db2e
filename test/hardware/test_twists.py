"""Twists move the tool as they say, and MoveIt Servo's refusals are kept."""

import numpy as np
import pytest

from rl_robot.hardware.controllers import Rejected
from rl_robot.hardware.servo import RESERVE
from rl_robot.hardware.twists import (
    MAX_EXPECTED_LATENCY,
    Twist,
    TwistController,
)
from rl_robot.robots.description import load_robot
from rl_robot.robots.kinematics import Kinematics

ROBOT = load_robot("ur5e")
HOME = np.array([ROBOT.home[name] for name in ROBOT.arm_joints])
KINEMATICS = Kinematics(ROBOT)
NOW = 5_000_000_000
STEP = 0.002


def controller(here: np.ndarray = HOME) -> TwistController:
    return TwistController(ROBOT, here, timeout=0.1 + MAX_EXPECTED_LATENCY)


def told(
    here: np.ndarray, values: list[float], stamp_ns: int = NOW, frame: str = ROBOT.base_frame
) -> TwistController:
    made = controller(here)
    made.take(Twist(frame, stamp_ns, values))
    return made


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
    twist = np.zeros(6)
    twist[axis] = 0.1
    # A stamp that lies in the future is obeyed for too long, as by MoveIt Servo itself.
    made = told(HOME, twist.tolist(), NOW + 500_000_000, frame)
    moving = follow(made, 0.3)
    begin, rotation = KINEMATICS.tool_pose(moving)
    end, turned = KINEMATICS.tool_pose(follow(made, 0.2, moving, begin=0.3))
    moved = end - begin if frame == ROBOT.base_frame else rotation.T @ (end - begin)
    assert moved[axis] == pytest.approx(0.02, abs=0.0005)
    assert np.delete(moved, axis) == pytest.approx(np.zeros(2), abs=5e-4)
    assert turned == pytest.approx(rotation, abs=5e-3)


def test_a_stale_stamp_is_not_obeyed_and_a_fresh_one_until_it_is_stale() -> None:
    for stamp in (0, NOW - 100_000_000):
        assert follow(told(HOME, [0.1, 0, 0, 0, 0, 0], stamp), 0.3) == pytest.approx(HOME)
    made = told(HOME, [0.1, 0, 0, 0, 0, 0])
    assert follow(made, MAX_EXPECTED_LATENCY) == pytest.approx(HOME)  # it is sent ahead
    reached = follow(made, 0.2, begin=MAX_EXPECTED_LATENCY)
    begin, _ = KINEMATICS.tool_pose(HOME)
    assert KINEMATICS.tool_pose(reached)[0][0] - begin[0] == pytest.approx(0.01, abs=0.004)
    assert follow(made, 0.2, reached, begin=0.3) == pytest.approx(reached, abs=1e-9)


def test_it_halts_smoothly() -> None:
    made = told(HOME, [0.2, 0, 0, 0, 0, 0])
    here, rates = HOME, []
    for number in range(200):
        after = made.reference(NOW + round(number * STEP * 1e9), here, STEP).copy()
        rates.append((after - here) / STEP)
        here = after
    assert np.abs(np.diff(rates, axis=0)).max() <= RESERVE * ROBOT.acceleration[0] * STEP * 1.001
    assert rates[-1] == pytest.approx(np.zeros(len(HOME)))


def test_no_joint_is_faster_than_it_may_be() -> None:
    made = told(HOME, [5.0, 0, 0, 0, 0, 0], NOW + 200_000_000)
    here = HOME
    fastest = 0.0
    for number in range(200):
        before, here = here, made.reference(NOW + round(number * STEP * 1e9), HOME, STEP).copy()
        fastest = max(fastest, float(np.max(np.abs(here - before) / ROBOT.velocity[:6])) / STEP)
    assert 0.5 < fastest <= 1.001


def bent(elbow: float) -> np.ndarray:
    there = HOME.copy()
    there[2] = elbow  # 0: stretched, and singular
    return there


def rates(there: np.ndarray, values: list[float]) -> np.ndarray:
    """Return how fast joints are once they have sped up, near ``there``."""
    made = told(there, values, NOW + 1_000_000_000)
    begin = follow(made, 0.16, there)
    return (made.reference(NOW + 160_000_000, begin, STEP) - begin) / STEP


def towards(there: np.ndarray) -> np.ndarray:
    """Return a slow twist (6,) that stretches the elbow, as the Jacobian has it."""
    change = np.zeros(6)
    change[2] = -0.01 * np.sign(there[2])
    return KINEMATICS.jacobian(there) @ change


def test_near_a_singularity_it_slows_down_half_as_much_on_the_way_out() -> None:
    there = bent(0.55)
    condition = np.linalg.cond(KINEMATICS.jacobian(there))
    assert 17.0 < condition < 30.0
    into = rates(there, towards(there).tolist())[2] / -0.01
    out = rates(there, (-towards(there)).tolist())[2] / 0.01
    assert into == pytest.approx(1.0 - (condition - 17.0) / 13.0, abs=0.05)
    assert out == pytest.approx(1.0 - (condition - 17.0) / 26.0, abs=0.05)


@pytest.mark.parametrize("elbow", [0.0, 0.1])
def test_at_a_singularity_nothing_moves_not_even_out_of_it(elbow: float) -> None:
    there = bent(elbow)
    assert np.linalg.cond(KINEMATICS.jacobian(there)) > 30.0
    for way in (1.0, -1.0):
        made = told(there, (way * towards(bent(0.1))).tolist())
        assert follow(made, 0.3, there) == pytest.approx(there)


def test_near_a_limit_it_goes_no_further() -> None:
    there = HOME.copy()
    there[5] = ROBOT.upper[5] - 0.05
    _, rotation = KINEMATICS.tool_pose(there)
    ahead = float(np.sign(KINEMATICS.jacobian(there)[3:, 5] @ rotation[:, 2]))
    made = told(there, [0, 0, 0, 0, 0, ahead], frame=ROBOT.tool_frame)
    assert follow(made, 0.18, there) == pytest.approx(there)
    made = told(there, [0, 0, 0, 0, 0, -ahead], frame=ROBOT.tool_frame)
    assert follow(made, 0.18, there)[5] < there[5]


@pytest.mark.parametrize(
    ("frame", "twist"),
    [
        (ROBOT.base_frame, [np.nan] + [0.0] * 5),
        ("", [0.0] * 6),
        ("somewhere", [0.1] * 6),
    ],
)
def test_what_is_refused_ends_the_twist_before(frame: str, twist: list[float]) -> None:
    made = told(HOME, [0.1, 0, 0, 0, 0, 0], NOW + 1_000_000_000)
    moving = follow(made, 0.2)
    with pytest.raises(Rejected):
        made.take(Twist(frame, NOW + 1_000_000_000, twist))
    stopped = follow(made, 0.3, moving, begin=0.2)
    assert follow(made, 0.2, stopped, begin=0.5) == pytest.approx(stopped, abs=1e-9)


@pytest.mark.parametrize("twist", [[0.0] * 5, [np.nan] + [0.0] * 5, [np.inf] * 6, []])
def test_a_twist_is_six_finite_numbers(twist: list[float]) -> None:
    with pytest.raises(Rejected):
        told(HOME, twist)
