"""What each command interface of a robot gets of a motion, in a graph and in an environment."""

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.robots.interfaces import (
    FLOAT64_MULTI_ARRAY,
    GRIPPER_COMMAND,
    POSITION,
    CommandInterface,
)

ARRAY = FLOAT64_MULTI_ARRAY

# A gripper's action is sent another goal when that is further from the last one, m: each goal
# takes the place of the one before, and some drivers stop in between.
GOAL_TOLERANCE = 0.002
_STANDS = 1e-6  # m that a gripper which stands moves in its last sample, at most


def interface_motion(interface: CommandInterface, motion: Motion, period: float) -> Motion:
    """Return the part of a motion that one interface of positions is sent, in its order of joints.

    An interface that takes arrays holds one set point and no time: it is sent where the motion
    stands after one control period, to be taken at once (``times`` is [0.0]).

    Args:
        interface: one of the robot's.
        motion: of at least the interface's joints, over one period (s) or longer.
        period: the control period, s.

    Raises:
        ValueError: the motion lacks one of the interface's joints.
    """
    columns = [motion.names.index(joint) for joint in interface.joints]
    positions = motion.positions[:, columns]
    if interface.type != FLOAT64_MULTI_ARRAY:
        return Motion(interface.joints, motion.times, positions)
    end = min(int(np.searchsorted(motion.times, period - 1e-9)), len(motion.times) - 1)
    return Motion(interface.joints, np.zeros(1), positions[end : end + 1])


class GripperGoals:
    """Which goals a gripper's action is sent, of the motions that follow one another."""

    def __init__(self, tolerance: float = GOAL_TOLERANCE) -> None:
        """Send no goal that is nearer to the last one than ``tolerance`` (m), but the final one."""
        self._tolerance = tolerance
        self._last: float | None = None

    def goal(self, positions: npt.NDArray[np.float64]) -> float | None:
        """Return the goal of a motion, or None where the last one will do.

        Args:
            positions: (H,) of the gripper's joint, m, to the end of the braking.
        """
        goal = float(positions[-1])
        stands = len(positions) == 1 or abs(goal - positions[0]) < _STANDS
        nearest = _STANDS if stands else self._tolerance
        if self._last is not None and abs(goal - self._last) <= nearest:
            return None
        self._last = goal
        return goal


def describe_motion(
    robot: Robot, measured: npt.NDArray[np.float64], motion: Motion, period: float
) -> str:
    """Say in one line where the joints were ``measured`` (n,), and where a motion takes them next.

    Next is after one ``period`` (s); the speeds are the means until then.
    """
    end = min(int(np.searchsorted(motion.times, period - 1e-9)), len(motion.times) - 1)
    order = [motion.names.index(name) for name in robot.joint_names]
    ahead = motion.positions[end][order]
    rows = dict(zip(robot.joint_names, zip(measured, ahead, strict=True), strict=True))
    parts = []
    for interface in robot.interfaces:
        said = []
        for name in interface.joints:
            now, then = (round(float(value), 3) + 0.0 for value in rows[name])  # no -0.000
            speed = round((rows[name][1] - rows[name][0]) / period, 2) + 0.0
            said.append(f"{name} {now:.3f} -> {then:.3f} ({speed:+.2f}/s)")
        parts.append(f"{interface.topic}: {', '.join(said)}")
    return "; ".join(parts)


def check_messages(robot: Robot) -> None:
    """Refuse a robot whose messages are not installed.

    Raises:
        UserError: a gripper's action, without the package that it is of.
    """
    for interface in robot.interfaces:
        if interface.type == GRIPPER_COMMAND and find_spec("control_msgs") is None:
            raise UserError(
                f"{robot.source}: interfaces: {interface.name}: GripperCommand needs the package "
                "control_msgs, which is not installed here: install it (Debian: "
                "ros-<distribution>-control-msgs), or give a forward position controller "
                "(std_msgs/msg/Float64MultiArray)"
            )


def check_simulated(robot: Robot) -> None:
    """Refuse a robot that simulators can't take the place of.

    Raises:
        UserError: an interface takes velocities, twists or goals.
    """
    for interface in robot.interfaces:
        if interface.mode != POSITION or interface.type == GRIPPER_COMMAND:
            kind = interface.type.rsplit("/", 1)[1]
            raise UserError(
                f"{robot.source}: interfaces: {interface.name}: simulators take positions, not "
                f"{kind} of mode {interface.mode}: give a variant of the robot ('extends:') whose "
                "interfaces are of JointTrajectory or Float64MultiArray of mode position"
            )
