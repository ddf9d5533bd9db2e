"""calibrator: takes the pictures that a calibration needs, whenever the robot rests in a new pose.

It only listens. It says what is still missing, keeps the pictures in a folder, and ends by itself
when they are enough.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from rl_robot.bags.cdr import read_joint_state
from rl_robot.bags.messages import BagMessage
from rl_robot.bags.pictures import COMPRESSED_IMAGE, compressed_topic
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.calibration.board import Board
from rl_robot.calibration.collector import SPEED, Collector
from rl_robot.calibration.coverage import ENOUGH_VIEWS, Coverage
from rl_robot.calibration.folder import FolderWriter
from rl_robot.calibration.gathering import hand_of, picture_pixels
from rl_robot.errors import UserError
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters

LISTEN_PERIOD = 0.2  # s between two looks for drivers that are not there yet
SAY_PERIOD = 2.0  # s between two lines about why no picture is taken


@dataclass(frozen=True)
class Parameters:
    """Parameters of the calibrator node."""

    folder: str
    robot: str = ""  # empty: pictures for intrinsics alone, which need no joint states
    camera: str = "camera"
    columns: int = Board.columns
    rows: int = Board.rows
    square: float = Board.square
    marker: float = Board.marker
    dictionary: str = Board.dictionary
    speed: float = SPEED
    enough: int = ENOUGH_VIEWS


class _Wanted(NamedTuple):
    """A topic that no driver says yet: the types it may have, who takes its messages of a type."""

    types: Mapping[str, Any]
    take: Callable[[str, bytes], None]
    depth: int


class CalibratorNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("calibrator")
        given = read_parameters(self, Parameters)
        board = Board(given.columns, given.rows, given.square, given.marker, given.dictionary)
        robot = load_robot(given.robot) if given.robot else None
        self._board = board
        self._enough = given.enough
        joints = robot.arm_joints if robot else ()
        self._collector = Collector(
            board,
            joints=joints,
            hand=hand_of(robot) if robot else None,
            speed=given.speed,
            keep_images=True,
        )
        self._writer = FolderWriter(Path(given.folder), joints)
        self._kept = 0
        self._pictures = 0
        self._refused = self._collector.refused.copy()
        pictures = {topics.IMAGE_RAW.type_name: topics.IMAGE_RAW.type}
        pictures[COMPRESSED_IMAGE] = CompressedImage
        image = self.resolve_topic_name(topics.IMAGE_RAW.named(camera=given.camera))
        self._wanted = {image: _Wanted(pictures, self._take_picture, 5)}
        if robot:
            states = {topics.JOINT_STATES.type_name: topics.JOINT_STATES.type}
            name = self.resolve_topic_name(robot.joint_state_topic)
            if name == image:
                raise UserError(f"{name} can't be the topic of both pictures and joint states")
            self._wanted[name] = _Wanted(states, self._take_joints, 200)
        told = " and ".join(self._wanted)
        self.every(LISTEN_PERIOD, partial(self._in_words, self._listen_to_drivers))
        self.every(SAY_PERIOD, self._say_why_not)
        self._say(f"listening to {told}; {self._missing()}")

    def _in_words(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back, and end the process with one line if that can't go on.

        The executor would print where in the program it happened.
        """
        try:
            callback(*arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            self.exit_code = 2

    def _listen_to_drivers(self) -> None:
        """Subscribe to what has a publisher now; where pictures come compressed only, to those."""
        for name, wanted in list(self._wanted.items()):
            names = [name]
            if COMPRESSED_IMAGE in wanted.types:
                names.append(compressed_topic(name))
            for candidate in names:
                if self._listen_to(candidate, wanted):
                    del self._wanted[name]
                    break

    def _listen_to(self, name: str, wanted: _Wanted) -> bool:
        """Subscribe with the type and the reliability that are offered, if anybody offers any.

        Drivers of cameras offer best effort at times, which a reliable reader would not hear; but
        large pictures get through reliably only.

        Raises:
            UserError: the topic carries something else.
        """
        offered = self.get_publishers_info_by_topic(name)
        if not offered:
            return False
        kind = offered[0].topic_type
        if kind not in wanted.types:
            raise UserError(f"{name} carries {kind}, expected {' or '.join(wanted.types)}")
        best_effort = ReliabilityPolicy.BEST_EFFORT in {
            info.qos_profile.reliability for info in offered
        }
        profile = QoSProfile(
            depth=wanted.depth,
            reliability=ReliabilityPolicy.BEST_EFFORT
            if best_effort
            else ReliabilityPolicy.RELIABLE,
        )
        take = partial(self._in_words, wanted.take, kind)
        self.create_subscription(wanted.types[kind], name, take, profile, raw=True)
        return True

    def _take_picture(self, kind: str, raw: bytes) -> None:
        self._pictures += 1
        try:
            stamp = header_stamp_ns(raw)
        except ValueError as error:
            self.problem(f"a picture can't be read: {error}")
            return
        message = BagMessage("", kind, stamp, stamp, raw)
        name = f"{len(self._collector.taken):03}.png"
        self._collector.add_picture(stamp, name, partial(picture_pixels, message))
        self._keep()

    def _take_joints(self, _kind: str, raw: bytes) -> None:
        try:
            said = read_joint_state(raw)
        except ValueError as error:
            self.problem(f"a joint state can't be read: {error}")
            return
        self._collector.add_joints(said.stamp_ns, said.names, said.positions)
        self._keep()

    def _keep(self) -> None:
        """Write what was taken, and end when it is enough."""
        taken = self._collector.taken
        if len(taken) == self._kept:
            return
        for place in range(self._kept, len(taken)):
            one = taken[place]
            if one.size != taken[0].size:
                raise UserError("the camera changed the size of its pictures: begin again")
            assert one.image is not None
            self._writer.add(one.stamp_ns, one.image, one.joints)
            taken[place] = replace(one, image=None)
        self._kept = len(taken)
        self._refused = self._collector.refused.copy()
        self.health["pictures"] = str(self._kept)
        missing = self._missing()
        self._say(f"picture {self._kept} taken; {missing or 'that is enough'}")
        if not missing:
            self.exit_code = 0

    def _missing(self) -> str:
        taken = self._collector.taken
        size = taken[0].size if taken else (1, 1)
        coverage = Coverage.of(self._board, [one.view for one in taken], size)
        missing = coverage.missing(self._enough)
        return f"still missing: {'; '.join(missing)}" if missing else ""

    def _say_why_not(self) -> None:
        """Say why no picture was taken lately."""
        if self._wanted or not self._pictures:
            missing = " and ".join(self._wanted) or "pictures"
            self._say(f"waiting for {missing}: is the name right, and the ROS domain?")
            return
        lately = self._collector.refused - self._refused
        self._refused = self._collector.refused.copy()
        if lately:
            self._say(f"waiting: {lately.most_common(1)[0][0]}")

    def _say(self, text: str) -> None:
        print(text, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(CalibratorNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
