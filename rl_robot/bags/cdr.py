"""The messages that make up most of a control period, straight to and from the wire.

rclpy builds a message of Python objects field by field and walks through them again: a trajectory
of five points takes it 0.3 ms, and a control period holds some forty such messages. Publishers take
serialized bytes as well. The format is CDR (OMG's, as every ROS 2 middleware writes it).
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rl_robot.robots.cartesian import Motion

NANOSECONDS = 1_000_000_000

_HEADER = 4  # bytes before the data, from whose end alignment counts
_LITTLE_ENDIAN = b"\x00\x01\x00\x00"
_COUNT = struct.Struct("<I")
_STAMP = struct.Struct("<iI")
_BYTE = struct.Struct("<B")
_POSE = struct.Struct("<7d")


def numbers_bytes(numbers: Mapping[str, float], stamp: int, frame_id: str = "") -> bytes:
    """Return named stamped numbers (action, reward, margins): a JointState every tool plots."""
    return joint_state_bytes(tuple(numbers), stamp, list(numbers.values()), frame_id=frame_id)


def joint_state_bytes(
    names: Sequence[str],
    stamp: int,
    positions: Sequence[float] | np.ndarray,
    velocities: Sequence[float] | np.ndarray = (),
    efforts: Sequence[float] | np.ndarray = (),
    *,
    frame_id: str = "",
) -> bytes:
    """Return a serialized sensor_msgs/JointState of values in the order of the names."""
    data = _begin(stamp, frame_id, tuple(names))
    for values in (positions, velocities, efforts):
        _add_doubles(data, values)
    return bytes(data)


def trajectory_bytes(motion: Motion, stamp: int, frame_id: str = "") -> bytes:
    """Return a serialized trajectory_msgs/JointTrajectory with times from the motion's start."""
    data = _begin(stamp, frame_id, motion.names)
    data += _COUNT.pack(len(motion.times))
    nothing = _COUNT.pack(0) * 3  # velocities, accelerations, efforts
    for seconds, positions in zip(motion.times, motion.positions, strict=True):
        _add_doubles(data, positions)
        data += nothing
        data += _STAMP.pack(*divmod(round(float(seconds) * NANOSECONDS), NANOSECONDS))
    return bytes(data)


def image_bytes(rgb: np.ndarray, stamp: int, frame_id: str) -> bytes:
    """Return a serialized rgb8 sensor_msgs/Image of an (H, W, 3) uint8 array."""
    height, width = rgb.shape[:2]
    data = bytearray(_LITTLE_ENDIAN + _STAMP.pack(*divmod(stamp, NANOSECONDS)))
    _add_string(data, frame_id)
    _align(data, 4)
    data += _COUNT.pack(height) + _COUNT.pack(width)
    _add_string(data, "rgb8")
    data += b"\0"  # little-endian pixels
    _align(data, 4)
    data += _COUNT.pack(3 * width) + _COUNT.pack(rgb.size)
    return b"".join((data, rgb.tobytes()))


def string_bytes(text: str) -> bytes:
    """Return a serialized std_msgs/String."""
    data = bytearray(_LITTLE_ENDIAN)
    _add_string(data, text)
    return bytes(data)


def pose_bytes(
    stamp: int, frame_id: str, position: Iterable[float], quaternion: Iterable[float]
) -> bytes:
    """Return a serialized geometry_msgs/PoseStamped; the quaternion in xyzw order."""
    data = bytearray(_LITTLE_ENDIAN + _STAMP.pack(*divmod(stamp, NANOSECONDS)))
    _add_string(data, frame_id)
    _align(data, 8)
    data += _POSE.pack(*position, *quaternion)
    return bytes(data)


def read_numbers(raw: bytes) -> tuple[int, dict[str, float]]:
    """Return stamp (ns) and numbers by name of what `numbers_bytes` gave.

    Raises:
        ValueError: not that, or cut short.
    """
    said = read_joint_state(raw)
    return said.stamp_ns, dict(zip(said.names, said.positions.tolist(), strict=True))


class RawJoints(NamedTuple):
    """A sensor_msgs/JointState: values (n,) in the order of the names, or empty."""

    stamp_ns: int
    names: list[str]
    positions: np.ndarray
    velocities: np.ndarray
    efforts: np.ndarray


def read_joint_state(raw: bytes) -> RawJoints:
    """Return what a serialized sensor_msgs/JointState says.

    Raises:
        ValueError: not that, or cut short.
    """
    try:
        reader = _Reader(raw)
        stamp, _ = reader.header()
        names = [reader.string() for _ in range(reader.count())]
        return RawJoints(stamp, names, *(reader.doubles() for _ in range(3)))
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"no serialized joint state: {error}") from None


def read_pose(raw: bytes) -> tuple[int, np.ndarray, np.ndarray]:
    """Return stamp (ns), position (3,) and quaternion (4,) xyzw of a serialized PoseStamped.

    Raises:
        ValueError: not that, or cut short.
    """
    try:
        reader = _Reader(raw)
        stamp, _ = reader.header()
        values = reader.take(_POSE, 8)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"no serialized pose: {error}") from None
    return stamp, np.array(values[:3]), np.array(values[3:])


def read_trajectory(raw: bytes) -> tuple[int, str, Motion]:
    """Return stamp (ns), frame_id and motion of a serialized JointTrajectory of one of our nodes.

    Raises:
        ValueError: not that, or cut short.
    """
    try:
        reader = _Reader(raw)
        stamp, frame_id = reader.header()
        names = tuple(reader.string() for _ in range(reader.count()))
        times, rows = [], []
        for _ in range(reader.count()):
            rows.append(reader.doubles())
            for _unused in ("velocities", "accelerations", "effort"):
                reader.doubles()
            seconds, rest = reader.take(_STAMP)
            times.append(seconds + rest / NANOSECONDS)
        positions = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"no serialized trajectory: {error}") from None
    return stamp, frame_id, Motion(names, np.array(times), positions)


class _Reader:
    """Reads little-endian CDR; sizes are bounded by the message before anything is made."""

    def __init__(self, raw: bytes) -> None:
        if raw[:2] != _LITTLE_ENDIAN[:2]:
            raise ValueError("not little-endian CDR")
        self._raw = raw
        self._at = _HEADER

    def header(self) -> tuple[int, str]:
        sec, nanosec = self.take(_STAMP)
        return sec * NANOSECONDS + nanosec, self.string()

    def take(self, kind: struct.Struct, alignment: int = 4) -> tuple[Any, ...]:
        self._at += -(self._at - _HEADER) % alignment
        values = kind.unpack_from(self._raw, self._at)
        self._at += kind.size
        return values

    def count(self) -> int:
        (count,) = self.take(_COUNT)
        if count > len(self._raw):
            raise ValueError(f"{count} values in a message of {len(self._raw)} bytes")
        return count

    def string(self) -> str:
        size = self.count()
        text = self._raw[self._at : self._at + size]
        if len(text) != size or not size:
            raise ValueError("a text is cut short")
        self._at += size
        return text[:-1].decode()

    def bytes(self, size: int) -> memoryview:
        data = memoryview(self._raw)[self._at : self._at + size]
        if len(data) != size:
            raise ValueError(f"{len(data)} of {size} bytes")
        self._at += size
        return data

    def doubles(self) -> np.ndarray:
        count = self.count()
        if not count:
            return np.empty(0)
        self._at += -(self._at - _HEADER) % 8
        values = np.frombuffer(self._raw, "<f8", count, self._at)
        self._at += 8 * count
        return values


class RawImage(NamedTuple):
    """A sensor_msgs/Image whose ``data`` is still a part of the message it came in."""

    stamp_ns: int
    height: int
    width: int
    encoding: str
    step: int
    data: memoryview


def read_image(raw: bytes) -> RawImage:
    """Return a serialized sensor_msgs/Image, whatever its encoding, without copying the pixels.

    Raises:
        ValueError: not that, or cut short.
    """
    try:
        reader = _Reader(raw)
        stamp, _ = reader.header()
        (height,), (width,) = reader.take(_COUNT), reader.take(_COUNT)
        encoding = reader.string()
        reader.take(_BYTE, 1)
        (step,) = reader.take(_COUNT)
        size = reader.count()
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"no serialized image: {error}") from None
    return RawImage(stamp, height, width, encoding, step, reader.bytes(size))


@lru_cache(64)
def _names(frame_id: str, names: tuple[str, ...]) -> bytes:
    """Return what follows the stamp: frame and names, the same in every message of a topic."""
    data = bytearray(_LITTLE_ENDIAN + _STAMP.pack(0, 0))
    _add_string(data, frame_id)
    _align(data, 4)
    data += _COUNT.pack(len(names))
    for name in names:
        _add_string(data, name)
    _align(data, 4)
    return bytes(data[_HEADER + _STAMP.size :])


def _begin(stamp: int, frame_id: str, names: tuple[str, ...]) -> bytearray:
    sec, nanosec = divmod(stamp, NANOSECONDS)
    return bytearray(_LITTLE_ENDIAN + _STAMP.pack(sec, nanosec) + _names(frame_id, names))


def _add_string(data: bytearray, text: str) -> None:
    _align(data, 4)
    encoded = text.encode() + b"\0"
    data += _COUNT.pack(len(encoded)) + encoded


def _add_doubles(data: bytearray, values: Sequence[float] | np.ndarray) -> None:
    data += _COUNT.pack(len(values))
    if len(values):
        _align(data, 8)
        data += np.asarray(values, dtype="<f8").tobytes()


def _align(data: bytearray, size: int) -> None:
    data += bytes(-(len(data) - _HEADER) % size)
