"""What an observer says that it lacks."""

from collections.abc import Callable
from typing import Any

import pytest

from rl_robot.robots.description import load_robot
from rl_robot.ros import observer, topics
from rl_robot.ros.cdr import numbers_bytes
from rl_robot.ros.observer import TICK_PATIENCE, Observer
from rl_robot.tasks import load_task


class EmptyMailbox:
    def take(self) -> list[object]:
        return []


class FakeNode:
    """What an observer needs of a node, with the callbacks to call by hand."""

    def __init__(self) -> None:
        self.health: dict[str, str] = {}
        self.heard: dict[str, Callable[[Any], None]] = {}
        self.timers: list[Callable[[], None]] = []

    def listen(self, topic: topics.Topic, callback: Callable[[Any], None], **_: object) -> None:
        self.heard[topic.name] = callback

    def mailbox(self, *_: object, **__: object) -> EmptyMailbox:
        return EmptyMailbox()

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
