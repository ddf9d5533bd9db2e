"""What each kind of controller hears of the safety node: streams, goals, and nothing in a dry run.

That streams add up to the motion, and keep its limits, is shown in test/robots/test_streams.py;
nothing here measures time.
"""

import os
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from benches import open_bench
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from rl_robot.resources import resource_path
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.interfaces import (
    FLOAT64_MULTI_ARRAY,
    GRIPPER_COMMAND,
    POSITION,
    TWIST,
    TWIST_STAMPED,
    VELOCITY,
    CommandInterface,
)
from rl_robot.ros import topics
from rl_robot.ros.messages import joint_state_message, stamp_ns, status_message, trajectory_message
from rl_robot.supervision.session import Session, SessionPlan
from rl_robot.tasks import load_task

TASK = load_task("reach")
TIMES = np.arange(1, 6) * 0.02
KINDS = {
    POSITION: {"type": FLOAT64_MULTI_ARRAY, "mode": POSITION},
    VELOCITY: {"type": FLOAT64_MULTI_ARRAY, "mode": VELOCITY},
    TWIST: {"type": TWIST_STAMPED, "mode": TWIST, "frame": "base_link"},
}


def robot_with(folder: Path, interface: str = "arm_controller", **changes: object) -> Robot:
    """The built-in arm with another kind of controller."""
    values = yaml.safe_load(resource_path("config/robots/arm.yaml").read_text())
    values["urdf"] = "package://rl_robot/urdf/arm.urdf"
    values["interfaces"][interface] |= changes
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_robot(str(path))


class Rig:
    """A driver, a supervisor and a policy around one safety node."""

    def __init__(self, bench: Any, robot: Robot, *, heard: str = "", **parameters: object) -> None:
        self.bench, self.robot = bench, robot
        self.interface = robot.interfaces[0]
        self.measured = robot.home_positions.copy()
        self.joints = bench.publisher(topics.JOINT_STATES)
        self.episodes = bench.publisher(topics.EPISODE)
        self.commands = bench.publisher(topics.POLICY_COMMAND)
        self.executed: list[Any] = bench.collect(topics.SAFETY_COMMAND)
        self.heard: list[np.ndarray] = []
        self.messages: list[Any] = []
        name = f"{heard}{self.interface.topic}"
        kind = topics.INTERFACES[self.interface.type].type
        bench.node.create_subscription(kind, name, self.hear, QoSProfile(depth=100))
        session = Session(SessionPlan("arm", "script", episodes=0), TASK)
        session.begin(0)
        session.on_reset(0, "done", "")
        assert session.episode is not None
        self.values = session.episode.to_values()
        bench.node.create_timer(0.02, self.drive)
        bench.node.create_timer(0.1, self.supervise)
        # Slow, so that a busy machine keeps up.
        given = {"robot": robot.source, "task": "reach", "pace": "0.5", "enabled": True}
        self.parameters = given | parameters
        self.start()

    def start(self) -> None:
        self.begin = self.measured
        self.safety = self.bench.start("safety", **self.parameters)
        self.bench.health.clear()
        self.bench.until(lambda: "safety" in self.bench.health)

    def ready(self) -> None:
        """Whatever was before: enabled, where it came to stand."""
        self.measured = self.begin = ends(self.executed[-1]) if self.executed else self.measured
        if self.safety.poll() is not None:
            self.start()
        assert self.call(Trigger, "clear").success
        self.bench.until(self.enable)

    def call(self, kind: Any, name: str, **request: bool) -> Any:
        return self.bench.call(kind, f"safety/{name}", kind.Request(**request))

    def enable(self) -> bool:
        return bool(self.call(SetBool, "enable", data=True).success)

    def hear(self, message: Any) -> None:
        self.messages.append(message)
        self.heard.append(numbers(self.interface, message))

    def drive(self) -> None:
        names = self.robot.joint_names
        self.joints.publish(joint_state_message(names, now(), self.measured, 0 * self.measured))

    def supervise(self) -> None:
        self.episodes.publish(status_message(now(), "episode", "running", self.values))

    def command(self) -> None:
        """Ask for the first joint to go on from where it was commanded last, by 5 mrad."""
        start = ends(self.executed[-1]) if self.executed else self.measured
        path = np.tile(start, (5, 1))
        path[:, 0] += 0.005 * (TIMES / TIMES[-1]) ** 3
        self.commands.publish(
            trajectory_message(Motion(self.robot.joint_names, TIMES, path), now())
        )
        time.sleep(0.02)

    def move(self) -> None:
        """Command until the controller was told to move after a command was executed."""
        told = len(self.heard)
        self.bench.until(
            lambda: self.source() == "policy" and any(self.moving(self.heard[told:])), self.command
        )

    def moving(self, said: list[np.ndarray]) -> list[bool]:
        if self.interface.mode == POSITION:
            return [bool(abs(one[0] - self.begin[0]) > 1e-6) for one in said]
        return [bool(np.any(one != 0.0)) for one in said]

    def source(self) -> str:
        return str(self.executed[-1].header.frame_id) if self.executed else ""

    def stands(self) -> bool:
        """Whether the last that was said is that the arm stands where it was told to come to."""
        if self.source() != "hold" or not self.heard:
            return False
        if self.interface.mode == POSITION:
            arm = len(self.heard[-1])
            return np.allclose(self.heard[-1], ends(self.executed[-1])[:arm], atol=1e-9)
        return not np.any(self.heard[-1])

    def stays_silent(self) -> bool:
        before = len(self.heard)
        self.bench.spin(0.5)
        return len(self.heard) == before


def now() -> int:
    return time.time_ns()


def numbers(interface: CommandInterface, message: Any) -> np.ndarray:
    if interface.type == TWIST_STAMPED:
        parts = message.twist.linear, message.twist.angular
        return np.array([value for part in parts for value in (part.x, part.y, part.z)])
    return np.array(message.data)


def ends(message: Any) -> np.ndarray:
    return np.array(message.points[-1].positions)


@pytest.fixture(scope="module", params=list(KINDS))
def shared_rig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp(request.param)
    with open_bench(folder) as bench:
        yield Rig(bench, robot_with(folder, **KINDS[request.param]))


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.ready()
    return shared_rig


def test_a_stream_follows_the_motion_and_ends_at_rest(rig: Rig) -> None:
    told = len(rig.messages)
    rig.move()
    rig.bench.until(rig.stands)
    begin, arm = rig.begin, len(rig.robot.arm_joints)
    said = np.array(rig.heard[told:])
    if rig.interface.mode == POSITION:
        steps = np.diff(said, axis=0)
        assert np.all(steps[:, 0] >= -1e-9)  # the first joint, and it alone, forward all the way
        np.testing.assert_allclose(said[:, 1:], np.tile(begin[1:arm], (len(said), 1)), atol=1e-9)
        assert begin[0] < said[-1, 0] <= ends(rig.executed[-1])[0] + 1e-9
    elif rig.interface.mode == VELOCITY:
        assert np.all((said[:, 0] >= -1e-9) & (said[:, 0] <= rig.robot.velocity[0]))
        np.testing.assert_allclose(said[:, 1:], 0.0, atol=1e-9)
    else:
        messages = rig.messages[told:]
        assert {message.header.frame_id for message in messages} == {"base_link"}
        stamps = [stamp_ns(message) for message in messages]
        assert stamps == sorted(stamps)
        assert abs(stamps[-1] - now()) < 60_000_000_000
        # The first joint turns the tool about the vertical, from the x axis towards y.
        assert np.all(said[:, 5] >= -1e-9)
        assert np.max(said[:, 1]) > 0.0
        np.testing.assert_allclose(said[:, 2:5], 0.0, atol=1e-9)


def test_a_stream_stops_for_an_emergency_stop_and_goes_on_after_it(rig: Rig) -> None:
    rig.move()
    assert rig.call(Trigger, "emergency_stop").success
    rig.bench.until(rig.stands)
    rig.bench.until(rig.stays_silent)
    for _ in range(10):
        rig.command()
    assert rig.stays_silent()
    assert not rig.enable()
    rig.ready()
    rig.move()


def test_a_disabled_stream_ends_at_rest(rig: Rig) -> None:
    rig.move()
    assert rig.call(SetBool, "enable", data=False).success
    rig.bench.until(rig.stands)
    rig.bench.until(rig.stays_silent)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_ends_at_rest_when_its_process_is_ended(rig: Rig, number: int) -> None:
    """A velocity controller without a timeout would go on for ever at what it heard last."""
    rig.move()
    rig.safety.send_signal(number)
    rig.bench.until(rig.stands)
    rig.bench.until(lambda: rig.safety.poll() is not None)
    assert rig.stays_silent()
    assert rig.safety.returncode == 0


def test_a_halted_process_does_not_make_a_position_jump(bench: Any, tmp_path: Path) -> None:
    """A position controller waits where the stream broke off; from there it goes on."""
    robot = robot_with(tmp_path, **KINDS[POSITION])
    rig = Rig(bench, robot)
    speed = 1.0  # rad/s

    def turn() -> None:
        start = ends(rig.executed[-1]) if rig.executed else rig.measured
        rig.measured = start.copy()  # it follows
        path = np.tile(start, (5, 1))
        path[:, 0] += speed * TIMES * (-1.0 if start[0] > 0.5 else 1.0)
        motion = Motion(robot.joint_names, TIMES, path)
        rig.commands.publish(trajectory_message(motion, now()))
        bench.spin(0.1)

    bench.until(lambda: rig.source() == "policy" and len(rig.heard) > 50, turn)
    for _ in range(4):
        turn()
        turn()
        os.kill(bench.processes[0].pid, signal.SIGSTOP)
        bench.spin(0.3)
        os.kill(bench.processes[0].pid, signal.SIGCONT)
    told = len(rig.heard)
    bench.until(lambda: len(rig.heard) > told + 20, turn)
    steps = np.abs(np.diff(np.array(rig.heard), axis=0)).max()
    # What the fastest motion does in the patience after which a stream is held up, and 1 mrad
    # between the filter's path and the straight lines along it. The arm catches up with the policy.
    assert 0.0 < steps <= robot.velocity[0] * 0.02 + 0.001


def test_a_dry_run_reaches_no_controller_and_says_what_it_would_send(
    bench: Any, tmp_path: Path
) -> None:
    robot = robot_with(tmp_path, **KINDS[VELOCITY])
    reached: list[Any] = []
    for interface in robot.interfaces:
        kind = topics.INTERFACES[interface.type].type
        bench.node.create_subscription(kind, interface.topic, reached.append, QoSProfile(depth=9))
    rig = Rig(bench, robot, heard="dry_run/", dry_run=True)
    rig.move()
    bench.until(rig.stands)
    assert not reached
    assert [bench.node.count_publishers(one.topic) for one in robot.interfaces] == [0, 0]
    assert bench.health["safety"]["dry_run"].startswith("true")
    bench.until(lambda: "dry run, not sent: arm_controller" in bench.log("safety"))
    assert "shoulder_pan 0.000 ->" in bench.log("safety")


def test_joints_go_by_their_names_for_drivers_have_an_order_of_their_own(bench: Any) -> None:
    """A UR's joint_state_broadcaster names the elbow first."""
    robot = load_robot("ur5e")
    order = np.argsort(robot.joint_names)
    assert robot.joint_names[order[0]] == "elbow_joint"
    joints = bench.publisher(topics.JOINT_STATES)
    executed = bench.collect(topics.SAFETY_COMMAND)
    sent = bench.collect(topics.TRAJECTORY_INTERFACE, interface=robot.interfaces[0].topic)

    def drive() -> None:
        names = [robot.joint_names[index] for index in order]
        positions = robot.home_positions[order]
        joints.publish(joint_state_message(names, now(), positions, 0 * positions))

    bench.node.create_timer(0.02, drive)
    bench.start("safety", robot="ur5e", task="reach", pace="0.5", enabled=True)
    bench.until(lambda: executed and sent)
    assert tuple(executed[0].joint_names) == robot.joint_names
    np.testing.assert_array_equal(ends(executed[0]), robot.home_positions)
    np.testing.assert_array_equal(ends(sent[0]), robot.home_positions[:6])


def test_a_grippers_action_without_its_messages_is_refused_in_one_line(
    bench: Any, tmp_path: Path
) -> None:
    if find_spec("control_msgs") is not None:
        pytest.skip("control_msgs is installed here")
    robot = robot_with(tmp_path, "gripper_controller", type=GRIPPER_COMMAND, topic="hand/gripper")
    process = bench.start("safety", robot=robot.source, task="reach")
    bench.until(lambda: process.poll() is not None)
    assert process.returncode == 2
    (line,) = [text for text in bench.log("safety").splitlines() if "control_msgs" in text]
    assert "Float64MultiArray" in line
