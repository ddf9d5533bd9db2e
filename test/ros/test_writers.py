"""What goes out on the controllers' topics, by a clock of the test's own."""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND
from rl_robot.ros.topics import Topic
from rl_robot.ros.writers import Writers

PERIOD = 0.1
TIMES = np.arange(1, 8) * 0.02  # a period and its braking
UR5E, IIWA = load_robot("ur5e"), load_robot("iiwa")


class Desk:
    """A node that keeps what is published, with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.said: dict[str, list[Any]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.problems: list[str] = []

    def publisher(self, row: Topic, *, awaited: bool = True, interface: str) -> Any:
        return SimpleNamespace(publish=self.said.setdefault(interface, []).append)

    def create_publisher(self, kind: Any, name: str, depth: int) -> Any:
        return SimpleNamespace(publish=self.said.setdefault(name, []).append)

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def tick(self, seconds: float = 0.01) -> None:
        self.now += seconds
        for _, callback in self.timers:
            callback()

    def writers(self, robot: Robot, factor: float | None = 1.0, **options: Any) -> Writers:
        node: Any = self
        return Writers(
            node,
            robot,
            period=PERIOD,
            factor=factor,
            now=lambda: self.now,
            patience=0.02,
            **options,
        )


def motion(robot: Robot, joint: int = 0) -> Motion:
    """A steady motion of one joint at 0.5 rad/s or m/s, in the end at rest."""
    positions = np.tile(robot.home_positions, (len(TIMES), 1))
    positions[:, joint] += 0.5 * np.minimum(TIMES, 0.12)
    return Motion(robot.joint_names, TIMES, positions)


def test_a_stream_follows_and_falls_silent_at_the_end() -> None:
    desk = Desk()
    writers = desk.writers(IIWA)
    ((seconds, _),) = desk.timers
    assert seconds == pytest.approx(1.0 / IIWA.interfaces[0].rate)
    desk.tick()
    assert desk.said == {"forward_position_controller/commands": []}  # nothing before a motion
    writers.send(IIWA.home_positions, motion(IIWA))
    for _ in range(30):
        desk.tick()
    said = np.array([message.data for message in desk.said["forward_position_controller/commands"]])
    assert len(said) == 14  # at 10, 20, ... and, once more, at the end
    np.testing.assert_allclose(said[:6, 0] - IIWA.home_positions[0], 0.005 * np.arange(1, 7))
    np.testing.assert_array_equal(said[-1], motion(IIWA).positions[-1])


def test_a_stream_slows_down_with_the_pace() -> None:
    desk = Desk()
    desk.writers(IIWA, factor=0.5)
    assert desk.timers[0][0] == pytest.approx(2.0 / IIWA.interfaces[0].rate)


def test_paced_a_controller_hears_one_message_for_each_motion() -> None:
    desk = Desk()
    writers = desk.writers(IIWA, factor=None)
    assert not desk.timers
    writers.send(IIWA.home_positions, motion(IIWA))
    (message,) = desk.said["forward_position_controller/commands"]
    np.testing.assert_array_equal(message.data, motion(IIWA).positions[4])  # where a period ends


def test_held_up_a_streamed_arm_waits_where_it_was_told_to_be() -> None:
    desk = Desk()
    writers = desk.writers(IIWA)
    writers.send(IIWA.home_positions, motion(IIWA))
    for _ in range(3):
        desk.tick()
    desk.tick(1.0)
    before, after = (m.data for m in desk.said["forward_position_controller/commands"][-2:])
    assert after[0] - before[0] == pytest.approx(0.5 * 0.02)  # the patience, not a second
    assert writers.elapsed() == pytest.approx(0.05)


def test_held_up_an_arm_with_a_trajectory_goes_on() -> None:
    desk = Desk()
    writers = desk.writers(UR5E)  # whose gripper is streamed
    writers.send(UR5E.home_positions, motion(UR5E))
    desk.tick(1.0)
    assert writers.elapsed() == pytest.approx(1.0)


# --- a gripper's action: its messages are not among ours, so stand-ins are sent ------------------


@pytest.fixture
def goals(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The goals that are sent to a gripper's action."""
    sent: list[Any] = []

    class Command:
        def __init__(self, position: float = 0.0, max_effort: float = 0.0) -> None:
            self.position, self.max_effort = position, max_effort

    class Goal:
        def __init__(self) -> None:
            self.command = Command()

    class Client:
        def __init__(self, node: Any, kind: Any, name: str) -> None:
            assert name == "hand/gripper"
            self.node = node

        def server_is_ready(self) -> bool:
            return bool(self.node.now < 200.0)

        def send_goal_async(self, goal: Any) -> Any:
            sent.append(goal.command)
            answer = SimpleNamespace(accepted=goal.command.position > 0.01)
            future = SimpleNamespace(result=lambda: answer)
            return SimpleNamespace(add_done_callback=lambda hear: hear(future))

    for name, members in {
        "control_msgs": {},
        "control_msgs.action": {"GripperCommand": SimpleNamespace(Goal=Goal)},
        "control_msgs.msg": {"GripperCommand": Command},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(members, __spec__=ModuleSpec(name, None))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("rclpy.action.ActionClient", Client)
    return sent


def with_action() -> Robot:
    arm, gripper = UR5E.interfaces
    action = replace(gripper, type=GRIPPER_COMMAND, topic="hand/gripper", rate=0.0)
    return replace(UR5E, interfaces=(arm, action))


def closing(start: float, end: float) -> Motion:
    robot = with_action()
    positions = np.tile(robot.home_positions, (2, 1))
    positions[:, -1] = start, end
    return Motion(robot.joint_names, TIMES[:2], positions)


def test_a_gripper_is_sent_goals_with_its_joints_effort(goals: list[Any]) -> None:
    desk, robot = Desk(), with_action()
    writers = desk.writers(robot)
    for start, end in ((0.025, 0.025), (0.025, 0.020), (0.020, 0.019), (0.019, 0.019)):
        writers.send(robot.home_positions, closing(start, end))
    assert [goal.position for goal in goals] == [0.025, 0.020, 0.019]
    assert {goal.max_effort for goal in goals} == {robot.joints[-1].effort}


def test_without_an_action_server_it_is_said(goals: list[Any]) -> None:
    desk = Desk()
    desk.now = 200.0
    writers = desk.writers(with_action())
    writers.send(UR5E.home_positions, closing(0.025, 0.02))
    assert not goals
    assert desk.problems == ["hand/gripper: no action server: the gripper stays"]
    desk.now = 100.0  # it is there now
    writers.send(UR5E.home_positions, closing(0.02, 0.02))
    assert [goal.position for goal in goals] == [0.02]


def test_a_goal_that_is_refused_is_said_and_sent_again(goals: list[Any]) -> None:
    desk = Desk()
    writers = desk.writers(with_action())
    for _ in range(2):
        writers.send(UR5E.home_positions, closing(0.005, 0.005))
    assert [goal.position for goal in goals] == [0.005, 0.005]
    assert desk.problems == ["hand/gripper: the goal was refused: the gripper stays"] * 2


@pytest.mark.parametrize("options", [{"dry_run": True}, {"moving": False}])
def test_a_dry_run_and_a_replay_send_no_goals(goals: list[Any], options: dict[str, bool]) -> None:
    desk = Desk()
    desk.writers(with_action(), **options).send(UR5E.home_positions, closing(0.025, 0.02))
    assert not goals
    told = desk.said.get("dry_run/hand/gripper", [])
    assert [goal.position for goal in told] == ([0.02] if "dry_run" in options else [])


def test_an_action_without_its_messages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "control_msgs", None)
    with pytest.raises(UserError, match=r"gripper: GripperCommand needs the package control_msgs"):
        Desk().writers(with_action())
