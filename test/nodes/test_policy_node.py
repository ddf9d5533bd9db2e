"""The policy node: it acts once per tick, and never fails in silence."""

import os
from pathlib import Path
from typing import Any

import pytest

from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import (
    joint_state_message,
    numbers,
    numbers_message,
    pose_message,
    stamp_ns,
    status_message,
    yaw_quaternion,
)
from rl_robot.supervision.session import Session, SessionPlan
from rl_robot.tasks import load_task

ROBOT = load_robot("arm")
TASK = load_task("grasp")
BROKEN_TASK = """
from rl_robot.tasks.grasp import Grasp

class Broken(Grasp):
    def observation(self, snapshot, action_history):
        raise KeyError("a mistake in the task")
"""


class Rig:
    """Plays sensors, perception and supervisor around one policy node."""

    def __init__(self, bench: Any, **parameters: object) -> None:
        self.bench = bench
        self.joints = bench.publisher(topics.JOINT_STATES)
        self.ages = bench.publisher(topics.PERCEPTION_AGES)
        self.poses = bench.publisher(topics.OBJECT_POSE, object="block")
        self.episodes = bench.publisher(topics.EPISODE)
        self.actions = bench.collect(topics.POLICY_ACTION)
        self.commands = bench.collect(topics.POLICY_COMMAND)
        self.process = bench.start("policy", pace="1.0", **parameters)
        bench.until(lambda: "policy" in bench.health)
        listened = (self.joints, self.ages, self.poses, self.episodes)
        bench.until(lambda: all(publisher.get_subscription_count() for publisher in listened))

    def run_episode(self, stamp: int) -> None:
        session = Session(SessionPlan("arm", "script", episodes=0), TASK)
        session.begin(stamp)
        episode = session.on_reset(stamp, "done", "")
        assert episode is not None
        self.episodes.publish(status_message(stamp, "episode", episode.phase, episode.to_values()))

    def tick(self, stamp: int) -> None:
        home = ROBOT.home_positions
        self.joints.publish(joint_state_message(ROBOT.joint_names, stamp, home, 0 * home))
        place = pose_message(stamp, ROBOT.base_frame, (0.4, 0.0, 0.02), yaw_quaternion(0.1))
        self.poses.publish(place)
        self.ages.publish(numbers_message({"block": 0.0}, stamp))


def test_it_acts_once_for_each_tick_of_an_episode(bench: Any) -> None:
    rig = Rig(bench)
    stamps = [TASK.period_ns * tick for tick in range(1, 5)]
    rig.tick(stamps[0])
    bench.spin(0.5)
    assert rig.actions == []  # no episode runs
    rig.run_episode(stamps[0])
    for count, stamp in enumerate(stamps, start=1):
        rig.tick(stamp)
        rig.tick(stamp)  # said twice, acted on once
        bench.until(lambda count=count: len(rig.actions) == len(rig.commands) == count)
    assert [stamp_ns(action) for action in rig.actions] == stamps
    assert [stamp_ns(command) for command in rig.commands] == stamps
    values = numbers(rig.actions[0])
    assert set(TASK.action_names) <= set(values)
    assert values["explore"] == 0.0
    assert set(rig.commands[0].joint_names) == set(ROBOT.joint_names)


@pytest.fixture
def broken_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a task that raises, where processes started from now on find it."""
    (tmp_path / "broken_task.py").write_text(BROKEN_TASK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    return "broken_task:Broken"


def test_a_failing_policy_ends_its_node_with_the_reason(broken_task: str, bench: Any) -> None:
    rig = Rig(bench, task=broken_task)
    rig.run_episode(TASK.period_ns)
    bench.until(lambda: rig.process.poll() is not None, lambda: rig.tick(TASK.period_ns))
    assert rig.process.returncode not in (0, 2)  # a fault, not bad input: it is started again
    assert "a mistake in the task" in bench.log("policy")
