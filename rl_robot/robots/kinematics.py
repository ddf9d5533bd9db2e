"""Forward, differential and inverse kinematics of the arm, by MuJoCo on the robot alone."""

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.robots.model import compile_model, robot_spec

Array = NDArray[np.float64]

DAMPING = 0.02
_POSITION_TOLERANCE = 1e-5  # m
_ANGLE_TOLERANCE = 1e-4  # rad
_ITERATIONS = 200
_LARGEST_STEP = 0.3  # rad or m per iteration: the linearization holds for small steps only


class Kinematics:
    """Kinematics of the robot's tool frame in its base frame. q is (n_arm,), in arm_joints order.

    Raises:
        UserError: MuJoCo cannot read the robot's URDF.
    """

    def __init__(self, robot: Robot) -> None:
        spec = robot_spec(robot)
        for element in [*spec.geoms, *spec.meshes]:  # only frames matter here
            spec.delete(element)
        self._model = compile_model(spec, robot)
        self._data = mujoco.MjData(self._model)
        self._tool = self._model.body(robot.tool_frame).id
        joints = [self._model.joint(name) for name in robot.arm_joints]
        self._positions = np.array([joint.qposadr[0] for joint in joints])
        self._velocities = np.array([joint.dofadr[0] for joint in joints])
        arm = [robot.joint(name) for name in robot.arm_joints]
        self._lower = np.array([joint.lower for joint in arm])
        self._upper = np.array([joint.upper for joint in arm])
        self._home = np.array([robot.home[name] for name in robot.arm_joints])
        self._jacobian = np.zeros((6, self._model.nv))

    def tool_pose(self, q: ArrayLike) -> tuple[Array, Array]:
        """Return the tool's position (3,) in m and its rotation (3, 3), tool to base frame."""
        self._data.qpos[self._positions] = q
        mujoco.mj_kinematics(self._model, self._data)
        position = self._data.xpos[self._tool].copy()
        return position, self._data.xmat[self._tool].reshape(3, 3).copy()

    def jacobian(self, q: ArrayLike) -> Array:
        """Return the geometric Jacobian (6, n_arm): linear then angular rows, base frame."""
        self._data.qpos[self._positions] = q
        mujoco.mj_kinematics(self._model, self._data)
        return self._jacobian_here()

    def step_towards(self, q: Array, position: Array, rotation: Array) -> tuple[Array, Array]:
        """One damped least-squares step of differential inverse kinematics.

        Wampler, "Manipulator inverse kinematic solutions based on vector formulations and damped
        least-squares methods", IEEE Transactions on Systems, Man, and Cybernetics, 1986.

        Returns:
            The step (n_arm,) and the pose error (6,) before it: m, then rad.
        """
        here, orientation = self.tool_pose(q)
        error = np.concatenate([position - here, rotation_vector(rotation @ orientation.T)])
        jacobian = self._jacobian_here()
        gram = jacobian @ jacobian.T
        gram[np.diag_indices(6)] += DAMPING**2
        return jacobian.T @ np.linalg.solve(gram, error), error

    def solve_ik(self, position: ArrayLike, yaw: float, start: ArrayLike | None = None) -> Array:
        """Return joint positions (n_arm,) that put the tool at ``position``, pointing down.

        Args:
            position: (3,) of the tool in the base frame, m.
            yaw: of the tool's x axis about the base frame's z axis, rad.
            start: (n_arm,) where the search starts; home by default.

        Raises:
            UserError: no solution within the joint limits was found.
        """
        target, rotation = np.asarray(position, dtype=float), pointing_down(yaw)
        q = self._home.copy() if start is None else np.array(start, dtype=float)
        for _ in range(_ITERATIONS):
            step, error = self.step_towards(q, target, rotation)
            if np.linalg.norm(error[:3]) < _POSITION_TOLERANCE and (
                np.linalg.norm(error[3:]) < _ANGLE_TOLERANCE
            ):
                return q
            step *= min(1.0, _LARGEST_STEP / max(np.abs(step).max(), 1e-12))
            q = np.clip(q + step, self._lower, self._upper)
        where = ", ".join(f"{value:.3f}" for value in target)
        raise UserError(f"the tool cannot reach ({where}) m at yaw {yaw:.3f} rad, pointing down")

    def _jacobian_here(self) -> Array:
        mujoco.mj_comPos(self._model, self._data)
        linear, angular = self._jacobian[:3], self._jacobian[3:]
        mujoco.mj_jacBody(self._model, self._data, linear, angular, self._tool)
        return self._jacobian[:, self._velocities]


def pointing_down(yaw: float) -> Array:
    """Return the rotation (3, 3) of a tool that points down, its x axis at ``yaw``."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, -1.0]])


def tool_yaw(rotation: Array) -> float:
    """Return the angle in rad of the tool's x axis about the base frame's z axis."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def rotation_vector(rotation: Array) -> Array:
    """Return the rotation vector (3,) in rad of a rotation matrix (3, 3)."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
