"""Bags that others recorded: the same messages as each tool writes them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as RosbagsWriter

from rl_robot.bags import typestore
from rl_robot.bags.messages import message_definition

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 20_000_000
STRING = "std_msgs/msg/String"
JOINT_STATE = "sensor_msgs/msg/JointState"


class Said(NamedTuple):
    """A message as somebody recorded it."""

    topic: str
    type: str
    log_ns: int
    raw: bytes


def joint_state(stamp_ns: int, positions: Sequence[float]) -> bytes:
    types = typestore().types
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    message = types[JOINT_STATE](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
        name=[f"joint_{i}" for i in range(len(positions))],
        position=np.array(positions, dtype=float),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )
    return bytes(typestore().serialize_cdr(message, JOINT_STATE))


def text(data: str) -> bytes:
    return bytes(typestore().serialize_cdr(typestore().types[STRING](data=data), STRING))


def said(count: int = 60) -> list[Said]:
    """Two topics, one of them with every third message; long enough for several chunks."""
    messages = []
    for i in range(count):
        now = START_NS + i * PERIOD_NS
        raw = joint_state(now, np.linspace(0.0, i, 6).tolist())
        messages.append(Said("/joint_states", JOINT_STATE, now, raw))
        if i % 3 == 0:
            messages.append(Said("/note", STRING, now + 1, text(f"number {i}")))
    return messages


def write_mcap(path: Path, messages: Sequence[Said], **options: Any) -> Path:
    """Write an MCAP file by the mcap package; the options are its writer's."""
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=1500, **options)
        writer.start("ros2")
        channels: dict[tuple[str, str], int] = {}
        for i, (topic, kind, log_ns, raw) in enumerate(messages):
            if (topic, kind) not in channels:
                schema = writer.register_schema(kind, "ros2msg", _definition(kind))
                channels[topic, kind] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic, kind], log_ns, raw, log_ns - 1000, i)
        writer.finish()
    return path


def write_rosbag2(
    path: Path,
    messages: Sequence[Said],
    *,
    storage: StoragePlugin = StoragePlugin.SQLITE3,
    compression: CompressionMode = CompressionMode.NONE,
    custom: dict[str, str] | None = None,
) -> Path:
    """Write a folder by the rosbags package."""
    writer = RosbagsWriter(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    for key, value in (custom or {}).items():
        writer.set_custom_data(key, value)
    with writer:
        connections: dict[str, Any] = {}
        for topic, kind, log_ns, raw in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(connections[topic], log_ns, raw)
    return path


def mcap_options() -> Iterator[dict[str, Any]]:
    """Every way in which the mcap package can leave something out."""
    bare = {
        "index_types": IndexType.NONE,
        "repeat_channels": False,
        "repeat_schemas": False,
        "use_statistics": False,
        "use_summary_offsets": False,
    }
    for compression in CompressionType:
        yield {"compression": compression}
        yield {"compression": compression, **bare}
    yield {"use_chunking": False}
    yield {"use_chunking": False, **bare}
    yield {"enable_crcs": False, "enable_data_crcs": False}
    yield {"enable_crcs": False, "enable_data_crcs": False, "use_chunking": False, **bare}
    yield {"enable_data_crcs": True}
    for name, value in bare.items():
        yield {name: value}


def _definition(kind: str) -> bytes:
    if kind not in typestore().fielddefs:
        return b"float64 mine"
    return message_definition(kind).text.encode()
