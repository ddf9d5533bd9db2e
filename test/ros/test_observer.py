"""What an observer says that it lacks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rl_robot.bags.cdr import joint_state_bytes, numbers_bytes
from rl_robot.robots.description import load_robot
from rl_robot.ros import observer, topics
from rl_robot.ros.mailbox import Letter
from rl_robot.ros.messages import status_message
from rl_robot.ros.observer import TICK_PATIENCE, Observer
from rl_robot.supervision.session import Session, SessionPlan
from rl_robot.tasks import load_task


class FakeMailbox:
    def __init__(self, letters: list[Letter]) -> None:
        self.letters = letters

    def take(self) -> list[Letter]:
        taken, self.letters[:] = list(self.letters), []
        return taken


class FakeNode:
    """What an observer needs of a node, with the callbacks to call by hand."""

    def __init__(self) -> None:
        self.health: dict[str, str] = {}
        self.heard: dict[str, Callable[[Any], None]] = {}
        self.timers: list[Callable[[], None]] = []
        self.letters: dict[str, list[Letter]] = {}  # in the mailboxes

    def listen(self, topic: topics.Topic, callback: Callable[[Any], None], **_: object) -> None:
        self.heard[topic.name] = callback

    def mailbox(self, topic: topics.Topic, **_: object) -> FakeMailbox:
        return FakeMailbox(self.letters.setdefault(topic.name, []))

    def every(self, _: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, paced: bool) -> None:
        self.now = 100.0
        self.node: Any = FakeNode()
        monkeypatch.setattr(observer.time, "monotonic", lambda: self.now)
        self.observer = Observer(
            self.node, load_robot("arm"), load_task("grasp"), lambda: None, paced=paced
        )

    def tick(self, stamp: int) -> None:
        self.node.heard["perception/ages"](numbers_bytes({}, stamp))

    def lacks(self, after: float = 0.0) -> str:
        self.now += after
        for timer in self.node.timers:
            timer()
        return self.node.health["lacks"]


@pytest.mark.parametrize("paced", [False, True])
def test_ticks_are_lacking_until_they_come_and_when_they_stop(
    monkeypatch: pytest.MonkeyPatch, paced: bool
) -> None:
    rig = Rig(monkeypatch, paced=paced)
    assert rig.lacks() == "perception/ages"
    rig.tick(1)
    assert rig.lacks() == ""
    assert rig.lacks(after=TICK_PATIENCE - 1.0) == ""
    assert rig.lacks(after=2.0) == "perception/ages"
    rig.tick(2)
    assert rig.lacks() == ""


@pytest.mark.parametrize(
    ("paced", "said"), [(False, "perception/ages"), (True, "the messages of this tick")]
)
def test_a_paced_graph_that_stands_still_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, paced: bool, said: str
) -> None:
    rig = Rig(monkeypatch, paced=paced)
    rig.tick(1)
    assert rig.observer.snapshot() is None
    assert rig.lacks() != ""
    assert rig.lacks(after=TICK_PATIENCE + 1.0) == said


def broken_episode() -> Any:
    task = load_task("grasp")
    session = Session(SessionPlan(robot="arm", policy="script"), task)
    session.begin(1)
    episode = session.break_off(2, "simulator died and was started again")
    assert episode is not None
    return status_message(episode.stamp_ns, "episode", episode.phase, episode.to_values())


def test_after_a_broken_episode_what_came_before_it_is_unheard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch, paced=False)
    joints = Letter(joint_state_bytes(load_robot("arm").joint_names, 1, *np.zeros((3, 7))), 1)
    health = rig.node.health
    assert health["unheard"] == "joint_states,perception/ages"
    rig.node.letters["joint_states"].append(joints)
    rig.lacks()
    assert health["unheard"] == "perception/ages"
    rig.tick(1)
    assert health["unheard"] == ""
    rig.node.letters["joint_states"].append(joints)  # waits, from before
    rig.node.heard["episode"](broken_episode())
    rig.lacks()
    assert health["heard"] == "0"
    assert health["unheard"] == "joint_states,perception/ages"
    rig.tick(1)
    rig.node.letters["joint_states"].append(joints)
    rig.lacks()
    assert health["unheard"] == ""


def test_paced_a_broken_episode_waits_for_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, paced=True)
    rig.node.heard["episode"](broken_episode())
    assert not rig.node.health.get("unheard")
