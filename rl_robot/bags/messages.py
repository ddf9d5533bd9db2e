"""Messages of a bag, as bytes and decoded, by the stock definitions of ROS 2."""

import struct
from functools import cache
from typing import Any, NamedTuple

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore

from rl_robot.errors import UserError

_STAMPS: tuple[object, ...] = ("std_msgs/msg/Header", "builtin_interfaces/msg/Time")


class Definition(NamedTuple):
    """What a message type consists of: how that is written, the text, and the type's hash."""

    encoding: str
    text: str
    hash: str


class BagMessage(NamedTuple):
    """One serialized message. ``topic`` is relative to the bag's namespace."""

    topic: str
    type: str
    log_ns: int
    publish_ns: int
    raw: bytes


class Series(NamedTuple):
    """The serialized messages of one topic: a list for each of their parts."""

    type: str
    log_ns: list[int]
    publish_ns: list[int]
    raws: list[bytes]


class DecodedMessage(NamedTuple):
    """One message as an object with the fields of its ROS type (arrays are numpy)."""

    topic: str
    log_ns: int
    publish_ns: int
    message: Any


@cache
def typestore() -> Typestore:
    """The stock message types of ROS 2 Jazzy, to read and write without a ROS installation."""
    return get_typestore(Stores.ROS2_JAZZY)


@cache
def message_definition(message_type: str) -> Definition:
    """The definition of a stock type, with those of all types in it.

    Raises:
        UserError: it is not a stock type.
    """
    try:
        text, _ = typestore().generate_msgdef(message_type, ros_version=2)
        return Definition("ros2msg", text, typestore().hash_rihs01(message_type))
    except TypesysError:
        raise UserError(f"message type {message_type} is not one of ROS 2's stock types") from None


def is_stock_definition(message_type: str, encoding: str, data: bytes) -> bool:
    """Whether this is the definition of a stock message type as we write it."""
    try:
        return encoding == "ros2msg" and data == message_definition(message_type).text.encode()
    except UserError:
        return False


@cache
def starts_with_stamp(message_type: str) -> bool:
    """Whether messages of a stock type begin with a header or a time."""
    definition = typestore().fielddefs.get(message_type)
    if definition is None or not definition[1]:
        return False
    _, (_, kind) = definition[1][0]
    return kind in _STAMPS


def fits_type(raw: bytes, message_type: str) -> bool:
    """Whether a serialized message has the structure of its type, if that is a stock type."""
    if message_type not in typestore().fielddefs:
        return True
    try:
        typestore().deserialize_cdr(raw, message_type)
    except (SerdeError, ValueError, IndexError, struct.error, MemoryError):
        return False
    return True
