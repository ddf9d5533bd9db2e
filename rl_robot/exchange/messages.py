"""Stock messages as serialized bytes, made without a ROS installation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import typestore

JOINT_STATE = "sensor_msgs/msg/JointState"
IMAGE = "sensor_msgs/msg/Image"
STRING = "std_msgs/msg/String"


def joint_state(stamp_ns: int, names: Sequence[str], positions: npt.NDArray[np.float64]) -> bytes:
    """A JointState of positions (n,): of joints, or of named numbers of any kind."""
    empty = np.zeros(0)
    return _serialized(
        JOINT_STATE,
        header=_header(stamp_ns, ""),
        name=list(names),
        position=positions.astype(np.float64),
        velocity=empty,
        effort=empty,
    )


def image(stamp_ns: int, frame: str, picture: npt.NDArray[np.uint8]) -> bytes:
    """An rgb8 Image of an (H, W, 3) picture."""
    height, width, _ = picture.shape
    return _serialized(
        IMAGE,
        header=_header(stamp_ns, frame),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=picture.reshape(-1),
    )


def string(text: str) -> bytes:
    """A String."""
    return _serialized(STRING, data=text)


def _header(stamp_ns: int, frame: str) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = typestore().types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return typestore().types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def _serialized(message_type: str, **fields: Any) -> bytes:
    message = typestore().types[message_type](**fields)
    return bytes(typestore().serialize_cdr(message, message_type))
