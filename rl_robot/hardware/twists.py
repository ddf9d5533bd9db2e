"""MoveIt Servo behind its topic: twists of the tool become joint motion, with its own refusals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware.controllers import Rejected
from rl_robot.hardware.servo import RESERVE
from rl_robot.robots.description import Robot
from rl_robot.robots.kinematics import Kinematics

Array = NDArray[np.float64]

# Defaults of MoveIt Servo's parameters of the same names.
LOWER_SINGULARITY_THRESHOLD = 17.0
HARD_STOP_SINGULARITY_THRESHOLD = 30.0
LEAVING_SINGULARITY_THRESHOLD_MULTIPLIER = 2.0
JOINT_LIMIT_MARGIN = 0.1  # rad or m
_AHEAD = 0.05  # s over which it is seen whether a singularity comes nearer


class TwistController:
    """A twist of the tool, in the base's or the tool's axes, by the inverse Jacobian.

    Taken from MoveIt Servo (moveit2, ``moveit_servo``, ``servo_node.cpp``, ``command.cpp`` and
    ``utils/common.cpp``): a twist is stale once its *stamp* is ``incoming_command_timeout`` old, so
    a stamp of 0 is never obeyed and one that lies in the future is obeyed for too long; on a stale
    one the arm halts smoothly. Joint velocities come from the pseudo-inverse of the Jacobian, are
    all scaled where one would exceed its limit, scaled down from a condition number of 17 on and
    halted at 30 (later where it leaves the singularity), and halted where a joint comes near its
    position limit.
    """

    def __init__(
        self, robot: Robot, here: Array, *, frame: str, incoming_command_timeout: float
    ) -> None:
        """Hold ``here`` (n_arm,); ``frame`` is the robot's base or tool frame."""
        self.joints = robot.arm_joints
        self._kinematics = Kinematics(robot)
        self._in_tool = frame == robot.tool_frame
        self._timeout = incoming_command_timeout
        limits = [robot.joint(name) for name in robot.arm_joints]
        self._lower = np.array([joint.lower for joint in limits])
        self._upper = np.array([joint.upper for joint in limits])
        self._velocity = np.array([joint.velocity for joint in limits])
        self._acceleration = RESERVE * np.array([joint.acceleration for joint in limits])
        self._twist = np.zeros(6)
        self._stamp_ns = 0
        self._rates = np.zeros(len(limits))
        self._reference = np.array(here, dtype=float)

    def take(self, twist: Sequence[float], stamp_ns: int) -> None:
        """Obey a twist (6,): linear m/s, then angular rad/s, captured at ``stamp_ns``.

        Raises:
            Rejected: not six finite numbers.
        """
        taken = np.array(twist, dtype=float)
        if taken.shape != (6,) or not np.isfinite(taken).all():
            raise Rejected("a twist is six finite numbers")
        self._twist, self._stamp_ns = taken, stamp_ns

    def reference(self, now_ns: int, here: Array, step: float) -> Array:
        """Return the reference (n_arm,) now, ``step`` s after it was asked for last."""
        stale = (now_ns - self._stamp_ns) * 1e-9 >= self._timeout
        # At rest and stale there is nothing to work out.
        if stale and not self._rates.any():
            return self._reference
        wanted = np.zeros(len(self.joints)) if stale else self._joint_rates(here)
        change = wanted - self._rates
        most = float(np.max(np.abs(change) / (self._acceleration * step), initial=1.0))
        self._rates = self._rates + change / most  # all alike, so that the tool keeps its way
        self._reference = np.clip(self._reference + self._rates * step, self._lower, self._upper)
        return self._reference

    def _joint_rates(self, here: Array) -> Array:
        twist = self._twist
        if self._in_tool:
            _, rotation = self._kinematics.tool_pose(here)
            twist = np.concatenate([rotation @ twist[:3], rotation @ twist[3:]])
        jacobian = self._kinematics.jacobian(here)
        rates = np.linalg.pinv(jacobian) @ twist
        rates = rates * self._singularity_scale(here, jacobian, rates)
        excess = float(np.max(np.abs(rates) / self._velocity, initial=0.0))
        rates = rates / max(excess, 1.0)
        below = (here < self._lower + JOINT_LIMIT_MARGIN) & (rates < 0.0)
        above = (here > self._upper - JOINT_LIMIT_MARGIN) & (rates > 0.0)
        return np.zeros_like(rates) if np.any(below | above) else rates

    def _singularity_scale(self, here: Array, jacobian: Array, rates: Array) -> float:
        condition = np.linalg.cond(jacobian)
        if condition <= LOWER_SINGULARITY_THRESHOLD:
            return 1.0
        ahead = np.linalg.cond(self._kinematics.jacobian(here + rates * _AHEAD))
        span = HARD_STOP_SINGULARITY_THRESHOLD - LOWER_SINGULARITY_THRESHOLD
        if ahead < condition:
            span *= LEAVING_SINGULARITY_THRESHOLD_MULTIPLIER
        return float(max(0.0, 1.0 - (condition - LOWER_SINGULARITY_THRESHOLD) / span))
