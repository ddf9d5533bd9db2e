"""The peer of the graph: bare processes that hand on the same messages and do nothing else.

camera -> perception -> policy -> safety -> camera: ten joint states and a 320x240 picture, a pose,
a trajectory, a trajectory. Plain rclpy nodes, each forwarding on arrival, and a recorder that takes
everything raw and drops it. Paced, the camera shows the next picture when the command for the one
before has come; else it shows ten per second.

Run as ``python raw_chain.py ROLE``; ``RawChain`` starts all of them.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from rl_robot.errors import UserError
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.ros.messages import (
    image_message,
    joint_state_message,
    pose_message,
    stamp_ns,
    trajectory_message,
)

PERIOD = 0.1  # s
SAMPLES = 10  # joint states per period
SUBSTEPS = 5  # points of a trajectory
QUEUE = 10
COUNTED = 50  # periods between two counts that the paced camera prints

JOINTS, PICTURE, POSE = "raw/joint_states", "raw/image", "raw/pose"
COMMAND, SAFE_COMMAND = "raw/command", "raw/safe_command"
TYPES = {
    JOINTS: JointState,
    PICTURE: Image,
    POSE: PoseStamped,
    COMMAND: JointTrajectory,
    SAFE_COMMAND: JointTrajectory,
}
ROLES = ("recorder", "safety", "policy", "perception", "camera")
EXECUTORS = ("wait sets", "events")  # rclpy's SingleThreadedExecutor and its EventsExecutor

_WATCHDOG = 1.0  # s after which the paced camera shows its picture again


class _Role(Node):
    """A process of the chain."""

    def __init__(self, name: str) -> None:
        super().__init__(f"raw_{name}", start_parameter_services=False)
        self.robot = load_robot("arm")

    def say(self, topic: str) -> Any:
        """Return a publisher."""
        return self.create_publisher(TYPES[topic], topic, QUEUE)

    def hear(self, topic: str, callback: Any, *, raw: bool = False) -> None:
        """Subscribe."""
        self.create_subscription(TYPES[topic], topic, callback, QUEUE, raw=raw)


class Camera(_Role):
    """Shows pictures and joint states, as the simulator node does, but always the same ones."""

    def __init__(self, paced: bool) -> None:
        super().__init__("camera")
        self._paced = paced
        self._stamp = 0
        self._shown_at = 0.0
        camera = self.robot.cameras[0]
        shape = (camera.height, camera.width, 3)
        self._image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
        self._joints = self.say(JOINTS)
        self._picture = self.say(PICTURE)
        self.hear(SAFE_COMMAND, self._take)
        self._sample = self._periods = 0
        self.create_timer(_WATCHDOG if paced else PERIOD / SAMPLES, self._on_timer)

    def _take(self, message: JointTrajectory) -> None:
        if self._paced and stamp_ns(message) == self._stamp:
            self._periods += 1
            if self._periods % COUNTED == 0:
                print(self._periods, flush=True)
            self._period()

    def _on_timer(self) -> None:
        if not self._paced:
            self._say_joints(time.time_ns())
            self._sample += 1
            if self._sample % SAMPLES == 0:
                self._show(time.time_ns())
        elif time.monotonic() - self._shown_at > _WATCHDOG:
            self._period()

    def _period(self) -> None:
        stamp = time.time_ns()
        for _ in range(SAMPLES):
            self._say_joints(stamp)
        self._show(stamp)

    def _say_joints(self, stamp: int) -> None:
        home = self.robot.home_positions
        self._joints.publish(joint_state_message(self.robot.joint_names, stamp, home, home, home))

    def _show(self, stamp: int) -> None:
        self._stamp, self._shown_at = stamp, time.monotonic()
        self._picture.publish(image_message(self._image, stamp, "camera_optical_frame"))


class Perception(_Role):
    """A pose for each picture."""

    def __init__(self, paced: bool) -> None:
        super().__init__("perception")
        self._pose = self.say(POSE)
        self.hear(PICTURE, self._take)

    def _take(self, message: Image) -> None:
        pose = pose_message(stamp_ns(message), "base_link", (0.4, 0.0, 0.02), (0.0, 0.0, 0.0, 1.0))
        self._pose.publish(pose)


class Policy(_Role):
    """A command of joint motion for each pose."""

    def __init__(self, paced: bool) -> None:
        super().__init__("policy")
        self._positions = self.robot.home_positions
        self._command = self.say(COMMAND)
        self.hear(JOINTS, self._take_joints)
        self.hear(POSE, self._take)

    def _take_joints(self, message: JointState) -> None:
        self._positions = np.array(message.position)

    def _take(self, message: PoseStamped) -> None:
        times = PERIOD * np.arange(1, SUBSTEPS + 1) / SUBSTEPS
        motion = Motion(self.robot.joint_names, times, np.tile(self._positions, (SUBSTEPS, 1)))
        self._command.publish(trajectory_message(motion, stamp_ns(message)))


class Safety(_Role):
    """The same command, handed on; hears the joint states as safety must."""

    def __init__(self, paced: bool) -> None:
        super().__init__("safety")
        self._positions = self.robot.home_positions
        self._safe = self.say(SAFE_COMMAND)
        self.hear(JOINTS, self._take_joints)
        self.hear(COMMAND, self._take)

    def _take_joints(self, message: JointState) -> None:
        self._positions = np.array(message.position)

    def _take(self, message: JointTrajectory) -> None:
        self._safe.publish(message)


class Recorder(_Role):
    """Takes everything raw."""

    def __init__(self, paced: bool) -> None:
        super().__init__("recorder")
        for topic in TYPES:
            self.hear(topic, lambda _: None, raw=True)


_CLASSES = {
    "camera": Camera,
    "perception": Perception,
    "policy": Policy,
    "safety": Safety,
    "recorder": Recorder,
}


class RawChain:
    """The running processes of a chain."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role.

        Raises:
            UserError: a process has ended.
        """
        for role, process in self._processes.items():
            if process.poll() is not None:
                raise UserError(f"the raw chain's {role} ended with status {process.returncode}")
        return {role: process.pid for role, process in self._processes.items()}

    def wait_for_periods(self, count: int) -> int:
        """Wait until the paced chain has run ``count`` periods; return how many it has.

        Raises:
            UserError: a process has ended.
        """
        output = self._processes["camera"].stdout
        assert output is not None
        while line := output.readline():
            if int(line) >= count:
                return int(line)
        raise UserError("the raw chain's camera ended")


@contextmanager
def raw_chain(*, executor: str, paced: bool, record: bool = True) -> Iterator[RawChain]:
    """Run the chain in this process's ROS domain."""
    command = [sys.executable, str(Path(__file__)), "--executor", executor]
    command += ["--paced"] if paced else []
    roles = [role for role in ROLES if record or role != "recorder"]
    processes = {
        role: subprocess.Popen(
            [*command, role], stdout=subprocess.PIPE if role == "camera" else None
        )
        for role in roles
    }
    try:
        yield RawChain(processes)
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        for process in processes.values():
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _executor(name: str) -> Executor:
    if name == "wait sets":
        return SingleThreadedExecutor()
    from rclpy.experimental import EventsExecutor

    return EventsExecutor()


def main(argv: Sequence[str] | None = None) -> None:
    """Run one process of the chain until SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--executor", choices=EXECUTORS, default=EXECUTORS[0])
    parser.add_argument("--paced", action="store_true")
    given = parser.parse_args(argv)
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = _executor(given.executor)
    executor.add_node(_CLASSES[given.role](given.paced))
    while not stopped:
        executor.spin_once(timeout_sec=0.1)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
