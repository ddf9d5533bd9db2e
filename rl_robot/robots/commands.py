"""What each command interface of a robot gets of a motion, in a graph and in an environment."""

import numpy as np

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.interfaces import FLOAT64_MULTI_ARRAY, CommandInterface

ARRAY = FLOAT64_MULTI_ARRAY


def interface_motion(interface: CommandInterface, motion: Motion, period: float) -> Motion:
    """Return the part of a motion that one interface is sent, in its order of joints.

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
    if interface.type != ARRAY:
        return Motion(interface.joints, motion.times, positions)
    end = min(int(np.searchsorted(motion.times, period - 1e-9)), len(motion.times) - 1)
    return Motion(interface.joints, np.zeros(1), positions[end : end + 1])
