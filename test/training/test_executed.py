"""What was executed, as the learner's actions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.bags import BagMessage
from rl_robot.bags.cdr import trajectory_bytes
from rl_robot.environments.control_loop import ControlLoop
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task
from rl_robot.training.executed import executed_actions

ROBOT, TASK = load_robot("arm"), load_task("grasp")
ACTION = st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=5)


@given(st.lists(ACTION, min_size=1, max_size=4))
def test_motions_that_were_executed_are_the_actions_that_asked_for_them(
    asked: list[list[float]],
) -> None:
    loop = ControlLoop(TASK, ROBOT)
    loop.reset(ROBOT.home_positions)
    messages, expected = [], []
    for step, action in enumerate(asked):
        motion = loop.propose(np.array(action, np.float32))
        expected.append(loop.executed(motion))
        raw = trajectory_bytes(motion, step + 1, "policy")
        kind = "trajectory_msgs/msg/JointTrajectory"
        messages.append(BagMessage("safety/command", kind, step + 1, 0, raw))
    found = list(executed_actions(messages, ROBOT.home_positions, TASK, ROBOT))
    assert [stamp for stamp, _ in found] == list(range(1, len(asked) + 1))
    np.testing.assert_array_equal([action for _, action in found], expected)
