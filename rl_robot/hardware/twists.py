"""MoveIt Servo behind its topic: twists of the tool become joint motion, with its own refusals."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware.controllers import Rejected
from rl_robot.hardware.servo import RESERVE
from rl_robot.robots.description import Robot
from rl_robot.robots.kinematics import Kinematics

Array = NDArray[np.float64]

# MoveIt Servo's parameters of the same names: its defaults, but for the latency.
LOWER_SINGULARITY_THRESHOLD = 17.0
HARD_STOP_SINGULARITY_THRESHOLD = 30.0
LEAVING_SINGULARITY_THRESHOLD_MULTIPLIER = 2.0
SINGULARITY_STEP_SCALE = 0.01
JOINT_LIMIT_MARGIN = 0.1  # rad or m
PUBLISH_PERIOD = 0.01  # s
MAX_EXPECTED_LATENCY = 0.04  # s; its default, 0.1, is more than a stream copes with


@dataclass(frozen=True)
class Twist:
    """What a TwistStamped message holds, unchecked.

    ``values`` are linear m/s, then angular rad/s, in the axes of the link ``frame``.
    """

    frame: str
    stamp_ns: int
    values: Sequence[float]


_STALE = Twist("", 0, (0.0,) * 6)


class TwistController:
    """A twist of the tool, in the base's or the tool's axes, by the inverse Jacobian.

    Taken from MoveIt Servo (moveit2, ``moveit_servo``: ``servo_node.cpp``, ``servo.cpp``,
    ``command.cpp``, ``common.cpp``, the same in branches jazzy, kilted and main) with its defaults,
    but for what ``ur5e_servo.yaml`` asks: ``command_in_type: speed_units``, no caps
    (``scale.linear`` and ``scale.rotational`` 0), and a ``max_expected_latency`` of 0.04 s:

    - A twist is stale once its *stamp* is ``incoming_command_timeout`` old, so a stamp of 0 is
      never obeyed and one that lies in the future is obeyed for too long.
    - Only the frame's axes count (``apply_twist_commands_about_ee_frame``): the twist is the
      tool's, whatever the frame. One in an unknown frame, or that is not finite, is not obeyed, and
      ends the one before.
    - Joint velocities come from the pseudo-inverse of the Jacobian. They are scaled down from a
      condition number of 17 on, to nothing at 30, half as much on the way out of the singularity
      (but from 30 on nothing moves, wherever to); all scaled where one would exceed its limit; and
      all halted where a joint that is within 0.1 of a position limit goes on towards it.
    - It sends trajectories that end ``max_expected_latency`` from now: joints do everything, also
      halt, by that much later.

    Not as there: where its smoothing plugin filters, joints accelerate within limits, and a loop
    runs whenever the reference is asked for.
    """

    def __init__(self, robot: Robot, here: Array, *, timeout: float) -> None:
        """Hold ``here`` (n_arm,).

        Args:
            robot: whose arm it moves.
            here: positions, rad or m.
            timeout: s after which it begins to stand still when nothing comes: its
                ``incoming_command_timeout`` and ``max_expected_latency`` together.
        """
        self.joints = robot.arm_joints
        self._kinematics = Kinematics(robot)
        self._frames = (robot.base_frame, robot.tool_frame)
        self._latency = min(MAX_EXPECTED_LATENCY, 0.5 * timeout)
        self._timeout = timeout - self._latency  # incoming_command_timeout
        limits = [robot.joint(name) for name in robot.arm_joints]
        self._lower = np.array([joint.lower for joint in limits])
        self._upper = np.array([joint.upper for joint in limits])
        self._velocity = np.array([joint.velocity for joint in limits])
        self._acceleration = RESERVE * np.array([joint.acceleration for joint in limits])
        self._twist = _STALE
        self._rates = np.zeros(len(limits))
        self._planned = np.array(here, dtype=float)  # where the trajectory ends
        self._window: deque[tuple[int, Array]] = deque()  # when, where
        self._reference = self._planned.copy()

    def take(self, twist: Twist) -> None:
        """Obey a twist of six values.

        Raises:
            Rejected: not six finite numbers, or in the axes of neither base nor tool.
        """
        self._twist = _STALE
        values = np.array(twist.values, dtype=float)
        if values.shape != (6,) or not np.isfinite(values).all():
            raise Rejected("a twist is six finite numbers")
        if twist.frame not in self._frames:
            raise Rejected(f"frame '{twist.frame}', expected one of {', '.join(self._frames)}")
        self._twist = twist

    def reference(self, now_ns: int, here: Array, step: float) -> Array:
        """Return the reference (n_arm,) now, ``step`` s after it was asked for last."""
        self._plan(now_ns, step)
        while self._window and self._window[0][0] <= now_ns:
            self._reference = self._window.popleft()[1]
        return self._reference

    def _plan(self, now_ns: int, step: float) -> None:
        """Decide where to be ``max_expected_latency`` from now."""
        stale = (now_ns - self._twist.stamp_ns) * 1e-9 >= self._timeout
        if stale and not self._rates.any():
            return
        wanted = np.zeros(len(self.joints)) if stale else self._joint_rates(self._planned)
        change = wanted - self._rates
        most = float(np.max(np.abs(change) / (self._acceleration * step), initial=1.0))
        self._rates = self._rates + change / most  # all alike, so that the tool keeps its way
        self._planned = np.clip(self._planned + self._rates * step, self._lower, self._upper)
        self._window.append((now_ns + round(self._latency * 1e9), self._planned))

    def _joint_rates(self, at: Array) -> Array:
        twist = np.array(self._twist.values, dtype=float)
        if self._twist.frame == self._frames[1]:
            _, rotation = self._kinematics.tool_pose(at)
            twist = np.concatenate([rotation @ twist[:3], rotation @ twist[3:]])
        jacobian = self._kinematics.jacobian(at)
        rates = np.linalg.pinv(jacobian) @ twist
        rates = rates * self._singularity_scale(at, jacobian, twist)
        excess = float(np.max(np.abs(rates) / self._velocity, initial=0.0))
        rates = rates / max(excess, 1.0)
        after = at + rates * PUBLISH_PERIOD
        below = (after < self._lower + JOINT_LIMIT_MARGIN) & (rates < 0.0)
        above = (after > self._upper - JOINT_LIMIT_MARGIN) & (rates > 0.0)
        return np.zeros_like(rates) if np.any(below | above) else rates

    def _singularity_scale(self, at: Array, jacobian: Array, twist: Array) -> float:
        """Return by how much to slow down, 0 to 1."""
        left, singular, _ = np.linalg.svd(jacobian, full_matrices=False)
        condition = singular[0] / max(singular[-1], 1e-12)
        if condition <= LOWER_SINGULARITY_THRESHOLD:
            return 1.0
        if condition >= HARD_STOP_SINGULARITY_THRESHOLD:
            return 0.0
        # The way that the tool responds least to; its sign is seen by a small step along it.
        towards = left[:, -1]
        aside = at + np.linalg.pinv(jacobian) @ (towards * SINGULARITY_STEP_SCALE)
        if np.linalg.cond(self._kinematics.jacobian(aside)) <= condition:
            towards = -towards
        span = HARD_STOP_SINGULARITY_THRESHOLD - LOWER_SINGULARITY_THRESHOLD
        if towards @ twist <= 0.0:
            span *= LEAVING_SINGULARITY_THRESHOLD_MULTIPLIER
        return float(1.0 - (condition - LOWER_SINGULARITY_THRESHOLD) / span)
