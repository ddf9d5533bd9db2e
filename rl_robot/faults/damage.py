"""Damage to serialized messages (CDR, as every ROS 2 middleware writes it)."""

import struct
from random import Random

from rl_robot.bags.stamps import header_stamp_ns

_HEADER = 4  # bytes that say how the rest is written
_STAMP = slice(_HEADER, _HEADER + 8)  # of a message that begins with one
_NANOSECONDS = 1_000_000_000
_SECONDS = range(-(2**31), 2**31)  # that a stamp can hold


def flip_bits(raw: bytes, count: int, luck: Random) -> bytes:
    """Return a message with up to ``count`` bits flipped, none of them in its CDR header."""
    if len(raw) <= _HEADER:
        return raw
    damaged = bytearray(raw)
    for _ in range(count):
        damaged[luck.randrange(_HEADER, len(raw))] ^= 1 << luck.randrange(8)
    return bytes(damaged)


def shift_stamp(raw: bytes, seconds: float) -> bytes:
    """Return a message that begins with a stamp, stamped later, as far as a stamp can say it.

    Raises:
        ValueError: fewer bytes than a stamp needs.
    """
    stamp = header_stamp_ns(raw) + round(seconds * _NANOSECONDS)
    whole, rest = divmod(stamp, _NANOSECONDS)
    whole = min(max(whole, _SECONDS[0]), _SECONDS[-1])
    order = "<iI" if raw[1] & 1 else ">iI"
    return raw[: _STAMP.start] + struct.pack(order, whole, rest) + raw[_STAMP.stop :]


def copy_stamp(source: bytes, target: bytes) -> bytes:
    """Return the message ``target`` with the stamp of ``source``; both begin with one.

    Raises:
        ValueError: fewer bytes than a stamp needs.
    """
    for raw in (source, target):
        header_stamp_ns(raw)
    return target[: _STAMP.start] + source[_STAMP] + target[_STAMP.stop :]
