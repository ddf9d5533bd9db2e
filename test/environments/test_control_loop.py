import numpy as np
import pytest

from rl_robot.environments import ControlLoop
from rl_robot.experience.alignment import SnapshotAssembler
from rl_robot.robots.description import load_robot
from rl_robot.safety.filter import SafetyFilter
from rl_robot.tasks import Reach

ROBOT = load_robot("arm")
TASK = Reach()


def test_history_and_reference_are_what_was_executed_not_what_was_proposed():
    loop = ControlLoop(TASK, ROBOT)
    safety = SafetyFilter(ROBOT.joints, period=TASK.period)
    safety.reset(ROBOT.home_positions)
    assembler = SnapshotAssembler(ROBOT)
    assembler.set_goal([0.4, 0.0, 0.2])
    assembler.add_joint_state(0, ROBOT.joint_names, ROBOT.home_positions, np.zeros(7))
    snapshot = assembler.at(0)

    proposed = np.array([1.0, -0.5, 0.2, 0.3, 1.0], dtype=np.float32)
    first = loop.executed(safety.step(loop.propose(proposed)).motion)
    held = loop.executed(safety.step(None).motion)
    assert np.array_equal(loop.reference, safety.state.positions)
    history = loop.observe(snapshot)["action_history"]
    assert np.array_equal(history, [first, held])
    assert np.linalg.norm(held[:4]) < np.linalg.norm(proposed[:4])

    loop.reset(ROBOT.home_positions)
    assert np.array_equal(loop.observe(snapshot)["action_history"], TASK.initial_history())


def test_a_motion_within_limits_is_executed_as_proposed():
    loop = ControlLoop(TASK, ROBOT)
    action = np.array([0.1, -0.1, 0.05, 0.1, 1.0], dtype=np.float32)
    assert loop.executed(loop.propose(action)) == pytest.approx(action, abs=0.01)
