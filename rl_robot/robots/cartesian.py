"""The learner's Cartesian action and the joint motion that carries it out, both ways."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_robot.robots.description import Robot
from rl_robot.robots.kinematics import Kinematics, pointing_down, tool_yaw

Array = NDArray[np.float64]
Box = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class Motion:
    """Positions of named joints over time.

    ``times`` (H,) in seconds from the start, ``positions`` (H, n) in rad or m, in the order of
    ``names``.
    """

    names: tuple[str, ...]
    times: Array
    positions: Array


class CartesianAction:
    """Maps a normalized action (5,) in [-1, 1] to joint motion over one control period, and back.

    The action is the tool's velocity along the base frame's x, y and z (times ``max_speed``, m/s),
    its yaw rate (times ``max_yaw_rate``, rad/s), and the gripper: above 0 open, else close. The
    tool keeps pointing down, and inside ``workspace`` (lower and upper corner (3,), m) if given.
    """

    names: ClassVar[tuple[str, ...]] = ("x", "y", "z", "yaw", "gripper")
    binary: ClassVar[tuple[bool, ...]] = (False, False, False, False, True)  # only the sign counts

    def __init__(
        self,
        robot: Robot,
        *,
        max_speed: float = 0.2,
        max_yaw_rate: float = 2.0,
        period: float = 0.1,
        substeps: int = 5,
        workspace: Box | None = None,
    ) -> None:
        self._robot = robot
        self._kinematics = Kinematics(robot)
        self._scale = np.array([max_speed] * 3 + [max_yaw_rate]) * period
        self._times = period * np.arange(1, substeps + 1) / substeps
        self._substep = period / substeps
        lower, upper = workspace if workspace is not None else ([-np.inf] * 3, [np.inf] * 3)
        self._lower = np.asarray(lower, dtype=float)
        self._upper = np.asarray(upper, dtype=float)
        self._n_arm = len(robot.arm_joints)

    def to_motion(self, reference: ArrayLike, action: ArrayLike) -> Motion:
        """Return the motion that carries out ``action``, from the last commanded positions.

        Args:
            reference: (n,) positions last commanded, in the robot's joint order.
            action: (5,) in [-1, 1]; values beyond are clipped.

        Raises:
            ValueError: wrong shape, or a value that is not finite.
        """
        start = _checked(reference, (len(self._robot.joints),), "reference")
        command = np.clip(_checked(action, (5,), "action"), -1.0, 1.0)
        arm = start[: self._n_arm]
        position, rotation = self._kinematics.tool_pose(arm)
        yaw = tool_yaw(rotation)
        # A tool outside the box is not pulled in, only kept from going further out.
        lower, upper = np.minimum(self._lower, position), np.maximum(self._upper, position)
        points = []
        for fraction in self._times / self._times[-1]:
            moved = fraction * command[:4] * self._scale
            target = np.clip(position + moved[:3], lower, upper)
            step, _ = self._kinematics.step_towards(arm, target, pointing_down(yaw + moved[3]))
            arm = self._within_limits(arm, step)
            points.append(arm)
        positions = np.column_stack([points, self._gripper_path(start, command[4])])
        return Motion(self._robot.joint_names, self._times.copy(), positions)

    def to_action(self, start: ArrayLike, motion: Motion) -> Array:
        """Return the action (5,) that ``motion``, executed from ``start`` (n,), amounts to.

        A gripper that does not move counts as told to stay at the end that it is nearer to.

        Raises:
            ValueError: wrong shape, a value that is not finite, or joints other than the robot's.
        """
        names = self._robot.joint_names
        before = _checked(start, (len(names),), "start")
        if sorted(motion.names) != sorted(names):
            raise ValueError(f"the motion's joints are {motion.names}, the robot's are {names}")
        order = [motion.names.index(name) for name in names]
        after = _checked(motion.positions[-1], (len(names),), "motion")[order]
        start_position, start_rotation = self._kinematics.tool_pose(before[: self._n_arm])
        end_position, end_rotation = self._kinematics.tool_pose(after[: self._n_arm])
        turn = math.remainder(tool_yaw(end_rotation) - tool_yaw(start_rotation), math.tau)
        moved = np.append(end_position - start_position, turn) / self._scale
        action = np.append(moved, self._gripper_action(before, after))
        return np.clip(action, -1.0, 1.0)

    def _within_limits(self, arm: Array, step: Array) -> Array:
        """Take the step, slowed along its direction to what the joints' velocities allow."""
        most = self._robot.velocity[: self._n_arm] * self._substep
        slower = max(1.0, float(np.max(np.abs(step) / most)))
        bounds = self._robot.lower[: self._n_arm], self._robot.upper[: self._n_arm]
        return np.clip(arm + step / slower, *bounds)

    def _gripper_path(self, start: Array, command: float) -> Array:
        """Return the gripper's positions (H, 1), or (H, 0) for a robot without gripper."""
        gripper = self._robot.gripper
        if gripper is None:
            return np.empty((len(self._times), 0))
        goal = gripper.open if command > 0.0 else gripper.closed
        reach = self._robot.velocity[-1] * self._times
        return (start[-1] + np.clip(goal - start[-1], -reach, reach))[:, None]

    def _gripper_action(self, before: Array, after: Array) -> float:
        gripper = self._robot.gripper
        if gripper is None:
            return -1.0
        moved = after[-1] - before[-1]
        if abs(moved) > 1e-9:
            return 1.0 if moved > 0.0 else -1.0
        return 1.0 if after[-1] > (gripper.open + gripper.closed) / 2.0 else -1.0


def _checked(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    array = np.asarray(values, dtype=float)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite: {array}")
    return array
