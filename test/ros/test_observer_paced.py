"""When a paced observer has all that belongs to a tick."""

from typing import Any

import numpy as np
import pytest

from rl_robot.bags.cdr import joint_state_bytes, numbers_bytes, trajectory_bytes
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.mailbox import Letter
from rl_robot.ros.observer import Observer
from rl_robot.tasks import load_task

ROBOT = load_robot("arm")
TICK, PERIOD = 10_000_000_000, 100_000_000


class FilledMailbox:
    """What is put into it comes out once."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def take(self) -> list[Letter]:
        letters, self.letters = self.letters, []
        return letters


class FakeNode:
    """What an observer needs of a node."""

    def __init__(self) -> None:
        self.health: dict[str, str] = {}
        self.heard: dict[str, Any] = {}
        self.mailboxes: dict[str, FilledMailbox] = {}

    def listen(self, topic: topics.Topic, callback: Any, **_: object) -> None:
        self.heard[topic.name] = callback

    def mailbox(self, topic: topics.Topic, **_: object) -> FilledMailbox:
        return self.mailboxes.setdefault(topic.name, FilledMailbox())

    def every(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("periods", "complete"), [(0.9, True), (1.0, True), (1.04, True), (1.6, False), (2.0, False)]
)
def test_a_tick_needs_the_command_of_the_period_before_which_may_jitter(
    periods: float, complete: bool
) -> None:
    node: Any = FakeNode()
    observer = Observer(node, ROBOT, load_task("grasp"), lambda: None, paced=True)
    home, still = ROBOT.home_positions, np.zeros(len(ROBOT.joint_names))
    hold = trajectory_bytes(
        Motion(ROBOT.joint_names, np.zeros(1), home[None]), TICK - round(periods * PERIOD), "policy"
    )
    joints = joint_state_bytes(ROBOT.joint_names, TICK, home, still)
    node.mailboxes["joint_states"].letters = [Letter(joints, 0)]
    node.mailboxes["safety/command"].letters = [Letter(hold, 0)]
    node.heard["perception/ages"](numbers_bytes({}, TICK))
    assert observer.snapshot() is None  # the block was never seen
    assert (node.health["lacks"] != "the messages of this tick") == complete
