"""What was executed in a bag, as the learner's actions."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import BagMessage, typestore
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.environments.control_loop import Action, ControlLoop
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task


def executed_actions(
    messages: Iterable[BagMessage], start: npt.NDArray[np.float64], task: Task, robot: Robot
) -> Iterator[tuple[int, Action]]:
    """Return the actions that the motions of ``safety/command`` amount to, with their stamps (ns).

    Args:
        messages: of that topic, in order.
        start: set points (n,) before the first.
        task: whose actions.
        robot: whose motions.
    """
    loop = ControlLoop(task, robot)
    loop.reset(start)
    for message in messages:
        said: Any = typestore().deserialize_cdr(message.raw, message.type)
        # Only where it ended: that is what the set points have come to.
        end = np.asarray(said.points[-1].positions)[None]
        motion = Motion(tuple(said.joint_names), np.zeros(1), end)
        yield header_stamp_ns(message.raw), loop.executed(motion)
