"""Messages of a bag, as bytes and decoded, by the stock definitions of ROS 2."""

from functools import cache
from typing import Any, NamedTuple

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.store import Typestore

from rl_robot.errors import UserError


class BagMessage(NamedTuple):
    """One serialized message. ``topic`` is relative to the bag's namespace."""

    topic: str
    type: str
    log_ns: int
    publish_ns: int
    raw: bytes


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
def message_definition(message_type: str) -> tuple[str, str]:
    """Full definition with all dependencies, and the type's hash."""
    try:
        definition, _ = typestore().generate_msgdef(message_type, ros_version=2)
        return definition, typestore().hash_rihs01(message_type)
    except TypesysError:
        raise UserError(f"message type {message_type} is not one of ROS 2's stock types") from None
