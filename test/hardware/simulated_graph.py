"""A graph in simulated time: the stand-in, a safety node reduced to its filter, and a hub to both.

What it leaves out is what only processes have: discovery, services that come late, being held up.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rl_robot.hardware import faults
from rl_robot.hardware.controllers import Trajectory
from rl_robot.hardware.graph_checks import Calibration, Endpoint, Picture
from rl_robot.hardware.hub import Reply, Sent
from rl_robot.hardware.joint_checks import JointSample
from rl_robot.hardware.stand_in import StandIn
from rl_robot.hardware.twists import Twist
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.robots.interfaces import GRIPPER_COMMAND, TWIST
from rl_robot.robots.streams import Course, Stream
from rl_robot.safety.chain import make_filter

BEGIN_NS = 1_700_000_000_000_000_000
TICK = 0.01  # s


class SimulatedGraph:
    """A ``Hub``; ``latency`` (s, drawn for each message) is what joint states take to come."""

    def __init__(
        self, robot: Robot, fault: str = faults.NONE, *, latency: tuple[float, float] = (0.0, 0.02)
    ) -> None:
        self.robot, self.period = robot, 0.1
        self.joints: list[JointSample] = []
        self.sent: list[Sent] = []
        self.pictures: dict[str, list[Picture]] = defaultdict(list)
        self.calibrations = {camera.name: _calibration(camera) for camera in robot.cameras}
        self.answer: bool | None = True
        self.asked: list[str] = []
        self.enabled = self.latched = self.paused = False
        self.looking = True
        self._fault = fault
        self._time = 0.0
        self._random = np.random.default_rng(0)
        self._latency = latency
        self._arm = StandIn(robot, BEGIN_NS, fault=fault)
        self.robot_description: str | None = self._arm.robot_description
        self._filter = make_filter(robot, period=self.period)
        self._course: Course | None = None
        self._began = 0.0
        self._streams = {
            one.name: Stream(one, robot, TICK) for one in robot.interfaces if one.streamed
        }

    # --- time --------------------------------------------------------------------------------

    def now(self) -> float:
        return self._time

    def tick(self) -> None:
        """Let 10 ms pass."""
        self._time = round(self._time + TICK, 6)
        for sample in self._arm.advance(self._now_ns()):
            stamp = (sample.stamp_ns - BEGIN_NS) * 1e-9
            came = self._time + float(self._random.uniform(*self._latency))
            self.joints.append(JointSample(stamp, came, sample.names, tuple(sample.positions)))
        self._show()
        if not self.paused:
            self._oversee()

    def close_eyes(self) -> None:
        self.looking = False

    def _now_ns(self) -> int:
        return BEGIN_NS + round(self._time * 1e9)

    def _show(self) -> None:
        if not self.looking or self._fault == "missing_camera" or round(self._time / TICK) % 10:
            return
        for camera in self.robot.cameras:
            number = 0 if self._fault == "frozen_camera" else len(self.pictures[camera.name])
            size = camera.width, camera.height
            # Whatever its rate is, it is kept: the graph has one picture every 0.1 s.
            stamp = len(self.pictures[camera.name]) / camera.rate
            came = stamp + 0.02 + (faults.PICTURES_LATE if self._fault == "late_pictures" else 0.0)
            picture = Picture(stamp, came, *size, 90.0, 30.0, number)
            self.pictures[camera.name].append(picture)

    # --- safety ------------------------------------------------------------------------------

    def command(self, motion: Motion) -> None:
        if self.enabled and not self.paused:
            self._step(motion)

    def _oversee(self) -> None:
        elapsed = self._time - self._began
        if self.enabled and elapsed >= 1.5 * self.period - 1e-6:
            self._step(None)
        if self._course is None or (not self.enabled and elapsed > self._course.end + TICK):
            return
        for interface in self.robot.interfaces:
            if interface.name in self._streams and elapsed <= self._course.end + TICK:
                values = self._streams[interface.name].values(
                    self._course, elapsed, np.zeros(len(self.robot.joints))
                )
                now = self._now_ns()
                told = values.tolist()
                command = Twist(interface.frame, now, told) if interface.mode == TWIST else told
                self._arm.command(interface.name, command, now)

    def _step(self, motion: Motion | None) -> None:
        self._filter.interrupt(self._time - self._began)
        start = self._filter.state.positions
        safe = self._filter.step(motion).motion
        tail = self._filter.tail()
        times = np.concatenate([safe.times, tail.times])
        positions = np.vstack([safe.positions, tail.positions])
        self._began = self._time
        self._course = Course.of(start, Motion(safe.names, times, positions))
        self.sent.append(Sent(self._time, safe.times, safe.positions))
        for interface in self.robot.interfaces:
            if interface.name not in self._streams:
                columns = [safe.names.index(name) for name in interface.joints]
                command = Trajectory(interface.joints, 0, times, positions[:, columns].tolist())
                self._arm.command(interface.name, command, self._now_ns())

    def enable(self, wanted: bool) -> Reply:
        if not wanted:
            if self.enabled:
                self._step(None)
            self.enabled = False
            return Reply(True, True)
        if self.latched:
            return Reply(True, False, "stopped")
        if not self.enabled:
            last = self.joints[-1]
            place = dict(zip(last.names, last.positions, strict=True))
            self._filter.reset(np.array([place[name] for name in self.robot.joint_names]))
            self._began, self.enabled = self._time, True
            self._step(None)
        return Reply(True, True)

    def clear(self) -> Reply:
        self.latched = False
        return Reply(True, True)

    def press_stop(self) -> None:
        self._arm.stop_pressed(self._now_ns())
        if self._fault != "dead_stop":
            self.latched = True
            self.enable(False)

    def stopped(self) -> bool:
        return self.latched

    def pause_safety(self, paused: bool) -> str:
        self.paused = paused
        return ""

    def ask(self, question: str) -> bool | None:
        self.asked.append(question)
        return self.answer

    # --- the graph ---------------------------------------------------------------------------

    def publishers(self, topic: str) -> list[Endpoint]:
        joints = topic == self.robot.joint_state_topic
        return [Endpoint(f"sensor_msgs/msg/{'JointState' if joints else 'Image'}")]

    def endpoints(self) -> dict[str, Sequence[Endpoint]]:
        assert all(one.type != GRIPPER_COMMAND for one in self.robot.interfaces)
        return {one.topic: [Endpoint(one.type)] for one in self.robot.interfaces}


def _calibration(camera: object) -> Calibration:
    fx, fy, cx, cy = (getattr(camera, name) for name in ("fx", "fy", "cx", "cy"))
    return Calibration(
        width=camera.width,  # type: ignore[attr-defined]
        height=camera.height,  # type: ignore[attr-defined]
        k=(fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0),
        d=tuple(camera.distortion),  # type: ignore[attr-defined]
        frame_id=camera.frame_id,  # type: ignore[attr-defined]
    )
