"""Kinematics against finite differences, and inverse against forward."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.kinematics import Kinematics, pointing_down, rotation_vector, tool_yaw

HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=["arm", "arm7", "ur5e", "fr3", "iiwa"])
def arm(request: pytest.FixtureRequest) -> Robot:
    return load_robot(request.param)


@pytest.fixture(scope="module")
def kinematics(arm: Robot) -> Kinematics:
    return Kinematics(arm)


def home(arm: Robot) -> np.ndarray:
    return arm.home_positions[: len(arm.arm_joints)]


def test_home_is_where_the_yaml_says(arm: Robot, kinematics: Kinematics) -> None:
    position, rotation = kinematics.tool_pose(home(arm))
    assert np.allclose(position, [0.32, 0.0, 0.25], atol=1e-5)
    assert np.allclose(rotation, pointing_down(0.0), atol=1e-4)


def test_jacobian_agrees_with_finite_differences(arm: Robot, kinematics: Kinematics) -> None:
    random = np.random.default_rng(0)
    half = 1e-6
    for _ in range(10):
        q = random.uniform(arm.lower, arm.upper)[: len(arm.arm_joints)]
        jacobian = kinematics.jacobian(q)
        for joint, unit in enumerate(np.eye(len(q))):
            ahead, turned_ahead = kinematics.tool_pose(q + half * unit)
            behind, turned_behind = kinematics.tool_pose(q - half * unit)
            linear = (ahead - behind) / (2 * half)
            angular = rotation_vector(turned_ahead @ turned_behind.T) / (2 * half)
            assert np.allclose(jacobian[:, joint], [*linear, *angular], atol=1e-6)


def test_results_do_not_change_afterwards(arm: Robot, kinematics: Kinematics) -> None:
    position, rotation = kinematics.tool_pose(home(arm))
    jacobian = kinematics.jacobian(home(arm))
    kept = position.copy(), rotation.copy(), jacobian.copy()
    kinematics.jacobian(np.ones(len(arm.arm_joints)))
    for value, copy in zip((position, rotation, jacobian), kept, strict=True):
        assert np.array_equal(value, copy)


def test_inverse_kinematics_reaches_the_whole_workspace(arm: Robot, kinematics: Kinematics) -> None:
    corners = itertools.product((0.26, 0.54), (-0.16, 0.16), (0.012, 0.28), (-1.5, 0.0, 1.5))
    for x, y, z, yaw in corners:
        q = kinematics.solve_ik([x, y, z], yaw)
        position, rotation = kinematics.tool_pose(q)
        assert np.allclose(position, [x, y, z], atol=2e-5)
        assert np.allclose(rotation, pointing_down(yaw), atol=2e-4)
        assert np.all(arm.lower[: len(q)] <= q)
        assert np.all(q <= arm.upper[: len(q)])


def test_inverse_kinematics_says_what_it_cannot_reach(kinematics: Kinematics) -> None:
    with pytest.raises(UserError, match=r"cannot reach \(1.000, 0.000, 0.200\) m"):
        kinematics.solve_ik([1.0, 0.0, 0.2], 0.0)


def test_a_users_own_robot_has_kinematics() -> None:
    crane = load_robot(str(HERE / "crane.yaml"))
    kinematics = Kinematics(crane)
    position, rotation = kinematics.tool_pose([0.1, 0.2, 0.3])
    assert np.allclose(position, [0.1, 0.0, 0.2])
    assert tool_yaw(rotation) == pytest.approx(-0.3)
    assert np.allclose(kinematics.solve_ik([0.2, 0.0, 0.25], 0.4), [0.2, 0.15, -0.4], atol=1e-4)


def test_rotation_vector_is_the_axis_times_the_angle() -> None:
    turn = pointing_down(0.7) @ pointing_down(0.2).T
    assert np.allclose(rotation_vector(turn), [0.0, 0.0, 0.5])
    assert np.allclose(rotation_vector(np.eye(3)), 0.0)
