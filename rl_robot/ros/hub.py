"""What the checkup of an arm sees of the graph and does in it, over ROS."""

import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from rl_robot.bags.cdr import read_image, trajectory_bytes
from rl_robot.hardware.graph_checks import Calibration, Endpoint, Picture, picture_of
from rl_robot.hardware.hub import Reply, Sent
from rl_robot.hardware.joint_checks import JointSample
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND
from rl_robot.ros import topics
from rl_robot.ros.messages import motion as motion_of
from rl_robot.ros.messages import stamp_ns, status_message, status_values
from rl_robot.ros.node import GraphNode
from rl_robot.supervision.session import ENDED, Session, SessionPlan
from rl_robot.tasks import Task

MOST_SAMPLES = 30_000  # of the joint states that are kept: a minute at 500 Hz
MOST_PICTURES = 300
MOST_NAMES = 1000
_NO_DEADLINE = 1e6  # s: what stands for none is longer
_TELEOP = "teleop/command"


@dataclass
class _Call:
    client: Client
    request: Any
    reply: Reply
    future: Future | None = None


class RosHub:
    """A ``hardware.hub.Hub`` of one node.

    It stands for the supervisor, with an episode that is over: then teleop alone moves the robot.
    """

    def __init__(self, node: GraphNode, robot: Robot, task: Task, *, stand_in: bool) -> None:
        """Publish and subscribe for ``node``; press the ``stand_in``'s button if there is one."""
        self.robot, self.period = robot, task.period
        self.joints: deque[JointSample] = deque(maxlen=MOST_SAMPLES)
        self.sent: list[Sent] = []
        self.pictures: dict[str, deque[Picture]] = {
            camera.name: deque(maxlen=MOST_PICTURES) for camera in robot.cameras
        }
        self.calibrations: dict[str, Calibration] = {}
        self.robot_description: str | None = None
        self._node = node
        self._begun_ns = time.time_ns()
        self._newest_ns = 0
        self._safety: dict[str, str] = {}
        self._paused: int | None = None
        self._calls: list[_Call] = []
        self._asked = ""
        self._eyes: list[Subscription] = []
        self._listen()
        self._command = node.create_publisher(JointTrajectory, _TELEOP, topics.COMMAND.profile(1))
        self._button = node.publisher(topics.EMERGENCY_STOP)
        self._clients = {
            name: node.create_client(kind, name)
            for name, kind in (
                ("safety/enable", SetBool),
                ("safety/clear", Trigger),
                ("stand_in/press_stop", Trigger),
            )
        }
        self._stand_in = stand_in
        self._say_episode(task)

    def _listen(self) -> None:
        node = self._node
        node.listen(topics.JOINT_STATES, self._take_joints, depth=100)
        node.listen(topics.SAFETY_COMMAND, self._take_sent, depth=100)
        node.listen(topics.DIAGNOSTICS, self._take_health, depth=20)
        node.listen(topics.ROBOT_DESCRIPTION, self._take_description)
        for name in self.pictures:
            take_picture, take_info = partial(self._take_picture, name), partial(self._info, name)
            self._eyes += [
                node.listen(
                    topics.IMAGE_RAW, take_picture, depth=5, raw=True, awaited=False, camera=name
                ),
                node.listen(topics.CAMERA_INFO, take_info, awaited=False, camera=name),
            ]

    def _say_episode(self, task: Task) -> None:
        session = Session(SessionPlan(self.robot.name, "script", episodes=0), task)
        session.begin(time.time_ns())
        assert session.episode is not None
        over = replace(session.episode, phase=ENDED)
        publisher = self._node.publisher(topics.EPISODE)
        publisher.publish(status_message(over.stamp_ns, "episode", over.phase, over.to_values()))

    # --- what is heard ---------------------------------------------------------------------

    def close_eyes(self) -> None:
        """Hear of no more pictures."""
        for subscription in self._eyes:
            self._node.destroy_subscription(subscription)
        self._eyes.clear()

    def now(self) -> float:
        """Return the time: s of this machine's clock since the hub was made."""
        return self._seconds(time.time_ns())

    def _seconds(self, nanoseconds: int) -> float:
        return (nanoseconds - self._begun_ns) * 1e-9

    def _take_joints(self, message: JointState) -> None:
        received, stamp = time.time_ns(), stamp_ns(message)
        self._newest_ns = stamp
        self.joints.append(
            JointSample(
                stamp=self._seconds(stamp),
                received=self._seconds(received),
                names=tuple(message.name[:MOST_NAMES]),
                positions=tuple(message.position[:MOST_NAMES]),
            )
        )

    def _take_sent(self, message: JointTrajectory) -> None:
        executed = motion_of(message)
        order = [executed.names.index(name) for name in self.robot.joint_names]
        self.sent.append(Sent(self.now(), executed.times, executed.positions[:, order]))

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "safety":
                self._safety = status_values(status)

    def _take_description(self, message: String) -> None:
        self.robot_description = message.data

    def _take_picture(self, camera: str, raw: bytes) -> None:
        received = self.now()
        try:
            image = read_image(raw)
        except ValueError as error:
            self._node.problem(f"camera {camera}: {error}")
            return
        pixels = np.frombuffer(image.data, dtype=np.uint8)
        size = (image.width, image.height)
        stamp = self._seconds(image.stamp_ns)
        self.pictures[camera].append(picture_of(stamp, received, pixels, size))

    def _info(self, camera: str, message: CameraInfo) -> None:
        self.calibrations[camera] = Calibration(
            width=message.width,
            height=message.height,
            k=tuple(float(value) for value in message.k),
            d=tuple(float(value) for value in message.d),
            frame_id=message.header.frame_id,
        )

    def publishers(self, topic: str) -> list[Endpoint]:
        """Return who publishes a topic."""
        return [_endpoint(one) for one in self._node.get_publishers_info_by_topic(topic)]

    def endpoints(self) -> Mapping[str, list[Endpoint]]:
        """Return who hears each command topic, or serves its action."""
        heard: dict[str, list[Endpoint]] = {}
        for interface in self.robot.interfaces:
            topic = interface.topic
            if interface.type == GRIPPER_COMMAND:
                found = self._node.count_services(f"{topic}/_action/send_goal")
                heard[topic] = [Endpoint(GRIPPER_COMMAND)] * found
            else:
                infos = self._node.get_subscriptions_info_by_topic(topic)
                heard[topic] = [_endpoint(one) for one in infos]
        return heard

    # --- what is done ----------------------------------------------------------------------

    def enable(self, wanted: bool) -> Reply:
        """Call safety/enable."""
        return self._call("safety/enable", SetBool.Request(data=wanted))

    def clear(self) -> Reply:
        """Call safety/clear."""
        return self._call("safety/clear", Trigger.Request())

    def press_stop(self) -> None:
        """Press the stand-in's button, or else the topic."""
        if self._stand_in:
            self._call("stand_in/press_stop", Trigger.Request())
        else:
            self._button.publish(Bool(data=True))

    def stopped(self) -> bool:
        """Return whether the safety node's health says that it is stopped."""
        return self._safety.get("emergency_stop") == "true"

    def command(self, motion: Motion) -> None:
        """Publish a motion as teleop, based on the newest joint state."""
        self._command.publish(trajectory_bytes(motion, self._newest_ns))

    def pause_safety(self, paused: bool) -> str:
        """Halt the safety node's process, or let it go on."""
        if not paused:
            if self._paused is not None:
                with suppress(ProcessLookupError):
                    os.kill(self._paused, signal.SIGCONT)
                self._paused = None
            return ""
        if self._safety.get("host") != socket.gethostname():
            return "the safety node runs on another machine: it can't be halted from here"
        try:
            os.kill(int(self._safety["pid"]), signal.SIGSTOP)
        except (OSError, KeyError, ValueError) as error:
            return f"the safety node's process can't be halted: {error}"
        self._paused = int(self._safety["pid"])
        return ""

    def ask(self, question: str) -> bool | None:
        """Ask at the terminal, where this process has one."""
        if sys.stdin is None or not sys.stdin.isatty():
            return False
        if self._asked != question:
            self._asked = question
            print(question, end="", flush=True)
        if not select.select([sys.stdin], [], [], 0.0)[0]:
            return None
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def tick(self) -> None:
        """See to the calls that are under way."""
        for call in list(self._calls):
            if call.future is None:
                if call.client.service_is_ready():
                    call.future = call.client.call_async(call.request)
            elif call.future.done():
                answer = call.future.result()
                call.reply.success, call.reply.text = answer.success, answer.message
                call.reply.done = True
                self._calls.remove(call)

    def close(self) -> None:
        """Leave nobody halted."""
        self.pause_safety(False)

    def _call(self, name: str, request: Any) -> Reply:
        reply = Reply()
        self._calls.append(_Call(self._clients[name], request, reply))
        self.tick()
        return reply


def _endpoint(info: Any) -> Endpoint:
    quality = info.qos_profile
    deadline = quality.deadline.nanoseconds * 1e-9
    return Endpoint(
        type=info.topic_type,
        best_effort=quality.reliability == ReliabilityPolicy.BEST_EFFORT,
        latched=quality.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        deadline=deadline if deadline < _NO_DEADLINE else 0.0,
    )
