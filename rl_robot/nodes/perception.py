"""perception: pictures in; object poses, the policy-sized picture and the graph's tick out.

A picture that is frozen, malformed or out of order is reported and never used; a camera that falls
silent is reported. While an object is hidden its last pose is said again with its old stamp.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rclpy.publisher import Publisher

from rl_robot.bags.cdr import image_bytes, numbers_bytes, pose_bytes, read_image
from rl_robot.errors import UserError
from rl_robot.perception.block import BlockDetector, PoseTracker
from rl_robot.perception.image_check import ImageCheck
from rl_robot.perception.resize import policy_image
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import (
    yaw_quaternion,
)
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.tasks import load_task

PATIENCE = 5.0  # s of wall time for the first picture, and for each one when paced
WATCH_PERIOD = 0.1  # s between two looks at how long the camera has been silent


@dataclass(frozen=True)
class Parameters:
    """Parameters of the perception node."""

    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"


class PerceptionNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("perception")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        task = load_task(given.task)
        if not robot.cameras:
            raise UserError(f"robot '{robot.name}' has no camera: list one in its YAML")
        factor = parse_pace(given.pace)
        self._camera = robot.cameras[0]
        if factor is None:  # paced, a camera gives one picture for each control period
            self._camera = replace(self._camera, rate=1.0 / task.period)
        self._base_frame = robot.base_frame
        # Half a picture's time of slack, so that jitter does not skip a control period.
        self._between_ticks_ns = round((task.period - 0.5 / self._camera.rate) * 1e9)
        self._last_tick_ns = 0
        self._max_silence = _max_silence(self._camera.rate, factor)
        self._pictures = 0
        self._picture_at = time.monotonic()
        self._check = ImageCheck(self._camera)
        self._detectors = {name: BlockDetector(self._camera) for name in task.objects}
        self._trackers = {name: PoseTracker() for name in task.objects}
        self._refused = 0
        self._seconds = 0.0
        self._said: list[tuple[Publisher, Any]] = []  # of the newest tick
        self._image = self.publisher(topics.PERCEPTION_IMAGE)
        self._ages = self.publisher(topics.PERCEPTION_AGES)
        self._poses = {
            name: self.publisher(topics.OBJECT_POSE, object=name) for name in task.objects
        }
        name = self._camera.name
        self.listen(topics.IMAGE_RAW, self._take_picture, depth=2, raw=True, camera=name)
        self.every(WATCH_PERIOD, self._watch_camera)

    def _watch_camera(self) -> None:
        silent = time.monotonic() - self._picture_at
        self.health["pictures"] = str(self._pictures)
        self.health["camera_silent_s"] = f"{silent:.1f}"
        if silent > (self._max_silence if self._pictures else PATIENCE):
            self.problem(f"{self._camera.name}: no picture for {silent:.1f} s")

    def _take_picture(self, raw: bytes) -> None:
        self._pictures += 1
        self._picture_at = time.monotonic()
        try:
            message = read_image(raw)
        except ValueError as error:
            self.problem(f"{self._camera.name}: {error}")
            return
        stamp = message.stamp_ns
        if stamp == self._last_tick_ns:
            self._say()  # said again for a node that was restarted
            return
        if stamp < self._last_tick_ns:
            self._restart(stamp)
        picture, trouble = self._check.check(
            stamp_ns=stamp,
            width=message.width,
            height=message.height,
            encoding=message.encoding,
            step=message.step,
            data=message.data,
        )
        if trouble:
            self.problem(f"{self._camera.name}: {trouble}")
            self._refused += picture is None
        if picture is not None and stamp - self._last_tick_ns >= self._between_ticks_ns:
            self._last_tick_ns = stamp
            self._perceive(stamp, picture)
        self.health["pictures_refused"] = str(self._refused)
        self.health["detection_ms"] = f"{1e3 * self._seconds:.2f}"

    def _restart(self, stamp: int) -> None:
        """Begin anew: the source's clock was set back (a restarted simulator or camera)."""
        self.problem(f"{self._camera.name}: its clock went back to {stamp * 1e-9:.3f} s")
        self._last_tick_ns = 0
        self._check.reset()
        for tracker in self._trackers.values():
            tracker.clear()

    def _perceive(self, stamp: int, picture: np.ndarray) -> None:
        began = time.perf_counter()
        held = {
            name: self._trackers[name].update(stamp, detector.detect(picture))
            for name, detector in self._detectors.items()
        }
        seen = {name: pose for name, pose in held.items() if pose is not None}
        self._said = []
        for name, pose in seen.items():
            turned = yaw_quaternion(pose.yaw)
            said = pose_bytes(pose.stamp_ns, self._base_frame, pose.position, turned)
            self._said.append((self._poses[name], said))
        # After the poses: whoever hears of the tick finds what it speaks of, and the recorder files
        # the poses, whose stamps stand still, by it.
        ages = {name: (stamp - pose.stamp_ns) * 1e-9 for name, pose in seen.items()}
        self._said.append((self._ages, numbers_bytes(ages, stamp)))
        # Last: whoever acts on poses alone need not wait for it.
        small = image_bytes(policy_image(picture), stamp, self._camera.frame_id)
        self._said.append((self._image, small))
        self._say()
        self._seconds = time.perf_counter() - began

    def _say(self) -> None:
        for publisher, message in self._said:
            publisher.publish(message)


def _max_silence(rate: float, factor: float | None) -> float:
    """Wall time (s) between two pictures of a sound camera of ``rate`` Hz, at most.

    Paced (no ``factor`` of real time), pictures wait for the rest of the graph.
    """
    if factor is None:
        return PATIENCE
    return max(2.5 / (rate * factor), WATCH_PERIOD)


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(PerceptionNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
