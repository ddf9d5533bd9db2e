"""The header of a serialized message, read without decoding the message."""

import struct


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


def header_frame(raw: bytes) -> str:
    """The ``frame_id`` of a serialized message that begins with a header, without decoding it.

    Raises:
        ValueError: the message ends before the frame does.
    """
    end = 16 + struct.unpack_from("<I" if raw[1] & 1 else ">I", raw, 12)[0] if len(raw) > 15 else 0
    if not 16 < end <= len(raw):
        raise ValueError(f"a message of {len(raw)} bytes holds no header")
    return raw[16 : end - 1].decode("utf-8", "replace")
