"""Pictures and robot poses from bags and folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.bags.cdr import read_image, read_joint_state
from rl_robot.bags.found import find_bags, is_bag
from rl_robot.bags.messages import BagMessage, typestore
from rl_robot.bags.pictures import COMPRESSED_IMAGE, IMAGE, compressed_topic, decode_picture
from rl_robot.bags.reader import BagReader
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.calibration.board import Board
from rl_robot.calibration.collector import Collector, Taken
from rl_robot.calibration.folder import has_pictures, read_folder
from rl_robot.calibration.views import View, transform
from rl_robot.errors import UserError
from rl_robot.experience.pictures import PICTURES, read_pictures
from rl_robot.robots.description import Robot
from rl_robot.robots.kinematics import Kinematics

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_MOST_PIXELS = 64 * 1024 * 1024
_JOINT_STATE = "sensor_msgs/msg/JointState"


@dataclass
class Gathered:
    """What sources gave.

    Attributes:
        views: pictures that show the board.
        size: width and height of all pictures, px.
        refused: how many pictures were not used, by the reason.
        damaged: those that could not be read, and why.
    """

    views: list[View] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    refused: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)

    def add(self, collector: Collector, where: str) -> None:
        """Add what a collector took.

        Raises:
            UserError: its pictures are of another size than those before.
        """
        self.refused += collector.refused
        self.damaged += collector.damaged
        there = {view.name for view in self.views}
        for taken in collector.taken:
            if taken.view.name in there:  # several folders number their pictures alike
                view = replace(taken.view, name=f"{where}/{taken.view.name}")
                taken = replace(taken, view=view)
            self._add(taken, where)

    def _add(self, taken: Taken, where: str) -> None:
        width, height = taken.size
        if self.views and taken.size != self.size:
            raise UserError(
                f"{where}: {taken.view.name} is of {width}x{height} pixels, those before are of "
                f"{self.size[0]}x{self.size[1]}: calibrate one size at a time"
            )
        self.size = taken.size
        self.views.append(taken.view)


@dataclass(frozen=True)
class Topics:
    """Where a bag holds what; empty: the only one of pictures, joint states as the YAML says."""

    pictures: str = ""
    joint_states: str = ""


def hand_of(robot: Robot) -> Callable[[Array], Array]:
    """Return what gives the pose (4, 4) of the tool in the base frame for joints (n_arm,)."""
    kinematics = Kinematics(robot)
    return lambda joints: transform(*reversed(kinematics.tool_pose(joints)))


def gather(
    places: Sequence[str],
    board: Board,
    robot: Robot | None,
    *,
    topics: Topics,
    camera_asked: bool,
    speed: float,
    with_robot: bool,
) -> Gathered:
    """Read all sources: bags, folders of bags, runs, and folders of pictures.

    Args:
        places: their paths.
        board: what pictures should show.
        robot: whose joints and topics these are.
        topics: where bags hold what, if not where the robot's YAML says.
        camera_asked: whether the pictures' topic is what somebody asked for: then no other will do.
        speed: of a joint from which on the robot is in motion, rad/s or m/s.
        with_robot: whether the hand's pose is needed with each picture.

    Raises:
        UserError: nothing there, nothing of the topics, or a part of it is damaged.
    """
    paths = [Path(place).resolve() for place in places]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path} is given twice: its pictures would count twice")
    found = Gathered()
    hand = hand_of(robot) if robot is not None and with_robot else None
    for place in places:
        path = Path(place)
        if path.is_dir() and not is_bag(path, unfinished=True) and has_pictures(path):
            collector = Collector(board)
            read_folder(path, collector, robot, hand, with_robot=with_robot)
            found.add(collector, place)
            continue
        for bag in find_bags([path]):
            joints = robot.arm_joints if robot is not None and with_robot else ()
            collector = Collector(board, joints=joints, hand=hand, speed=speed)
            _read_bag(BagReader(bag), collector, robot, topics, camera_asked)
            found.add(collector, str(bag))
    return found


def _read_bag(
    bag: BagReader, collector: Collector, robot: Robot | None, topics: Topics, camera_asked: bool
) -> None:
    pictures = _picture_topic(bag, topics.pictures, only=camera_asked)
    wanted = {pictures}
    joint_states = ""
    if robot is not None and collector.needs_joints:
        joint_states = _joint_topic(bag, topics.joint_states or robot.joint_state_topic)
        wanted.add(joint_states)
    for message in bag.messages(wanted):
        try:
            if message.topic == joint_states:
                said = read_joint_state(message.raw)
                collector.add_joints(said.stamp_ns, said.names, said.positions)
            else:
                stamp = _picture_stamp(message)
                name = f"{bag.path.name} at {stamp * 1e-9:.3f} s"
                collector.add_picture(stamp, name, partial(picture_pixels, message))
        except ValueError as error:
            raise UserError(f"{bag.file}: {message.topic}: {error}") from None
    collector.finish()
    if collector.needs_joints and not len(collector.track):
        assert robot is not None
        raise UserError(
            f"{bag.file}: {joint_states} never holds all of {', '.join(robot.arm_joints)}: is it "
            f"a bag of {robot.name}?"
        )


def _picture_topic(bag: BagReader, name: str, *, only: bool) -> str:
    """Find the topic of pictures: the one named, or the only one unless that is not enough."""
    there = sorted(name for name, kind in bag.types.items() if kind in PICTURES)
    for candidate in _spellings(name) + _spellings(compressed_topic(name)) if name else []:
        if candidate in there:
            return candidate
    if len(there) == 1 and not only:
        return there[0]
    said = f"no pictures on {name}" if name else "pictures on several topics"
    if not there:
        raise UserError(f"{bag.file} holds no pictures")
    raise UserError(f"{bag.file}: {said}: say --topic with one of {', '.join(there)}")


def _joint_topic(bag: BagReader, name: str) -> str:
    there = sorted(topic for topic, kind in bag.types.items() if kind == _JOINT_STATE)
    for candidate in _spellings(name):
        if candidate in there:
            return candidate
    raise UserError(
        f"{bag.file}: no joint states on {name}: say --joint-states with one of "
        f"{', '.join(there) or 'none: the bag holds none'}"
    )


def _spellings(name: str) -> list[str]:
    return [name, name.removeprefix("/"), f"/{name}"]


def _picture_stamp(message: BagMessage) -> int:
    """Return when a picture was captured; all stamped messages begin alike."""
    stamp = header_stamp_ns(message.raw)
    if stamp <= 0:
        raise ValueError("pictures have no stamps of their capture")
    return stamp


def picture_pixels(message: BagMessage) -> Image:
    """Return the picture (H, W) or (H, W, 3) RGB of a message.

    Raises:
        ValueError: it can't be read.
    """
    if message.type == COMPRESSED_IMAGE:
        said: Any = _decoded(message)
        grey = decode_picture(bytes(said.data), cv2.IMREAD_GRAYSCALE)
        return np.asarray(grey, np.uint8)
    image = read_image(message.raw)
    if not 0 < image.width * image.height <= _MOST_PIXELS:
        raise ValueError(f"a picture of {image.width}x{image.height} is not read")
    return read_pictures(IMAGE, [message.raw], (image.width, image.height))[0]


def _decoded(message: BagMessage) -> Any:
    try:
        return typestore().deserialize_cdr(message.raw, message.type)
    except Exception as error:  # the decoder raises whatever damaged bytes lead it to
        raise ValueError(f"no serialized {message.type}: {error!r}") from None
