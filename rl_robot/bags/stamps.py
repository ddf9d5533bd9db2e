"""Times of messages: their headers' stamps, read without decoding, and many as an array."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError


def header_stamp_ns(raw: bytes) -> int:
    """Nanoseconds of the time stamp that a serialized message begins with, without decoding it.

    Works for every type that starts with a ``std_msgs/Header`` or a ``builtin_interfaces/Time``
    (``rosgraph_msgs/Clock``); the caller knows the type.

    Raises:
        ValueError: fewer bytes than a stamp needs.
    """
    if len(raw) < 12:
        raise ValueError(f"a stamped message has at least 12 bytes, this one {len(raw)}")
    sec, nanosec = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    return sec * 1_000_000_000 + nanosec


def times_array(times_ns: Sequence[int], topic: str) -> npt.NDArray[np.int64]:
    """Return log or publish times (n,) of a topic's messages.

    Raises:
        UserError: one of them is beyond what a stamp can say; MCAP's own times go on further.
    """
    try:
        return np.array(times_ns, np.int64)
    except OverflowError:
        raise UserError(
            f"{topic}: a message was recorded {max(times_ns)} ns after 1970, beyond all stamps"
        ) from None


def header_frame(raw: bytes) -> str:
    """The ``frame_id`` of a serialized message that begins with a header, without decoding it.

    Raises:
        ValueError: the message ends before the frame does.
    """
    end = 16 + struct.unpack_from("<I" if raw[1] & 1 else ">I", raw, 12)[0] if len(raw) > 15 else 0
    if not 16 < end <= len(raw):
        raise ValueError(f"a message of {len(raw)} bytes holds no header")
    return raw[16 : end - 1].decode("utf-8", "replace")
