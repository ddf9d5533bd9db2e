"""Other people's tools read our bags, and our reader reads theirs: Python's and JavaScript's."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from mcap_ros2.decoder import DecoderFactory
from mcap_ros2.writer import Writer as McapRos2Writer
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from rl_robot.bags import BagMessage, BagReader, typestore

NPM = Path(__file__).parent / "npm"
STEPS = 3
MESSAGES = 25


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "episode_000000"
    return synthetic.write_episode(path, synthetic.metadata(0, "success", STEPS))


def sent_messages() -> list[synthetic.Sent]:
    return list(synthetic.episode_messages(10_000_000_000, STEPS, wall_ns=10**18))


def in_order(messages: list[Any]) -> list[Any]:
    """Sorted as a reader may give them: by time, and in no order among those of one time."""
    return sorted(messages, key=lambda m: (m[2], m[0], m[1]))


def expected(sent: list[synthetic.Sent]) -> list[tuple[str, bytes, int]]:
    return in_order([(s.topic, s.raw, s.stamp_ns) for s in sent])


def found(path: Path, topics: list[str] | None = None) -> list[tuple[str, bytes, int]]:
    messages = list(BagReader(path).messages(topics))
    assert [m.log_ns for m in messages] == sorted(m.log_ns for m in messages)
    assert all(isinstance(m, BagMessage) and type(m.raw) is bytes for m in messages)
    assert {m.type for m in messages} <= set(synthetic.TYPES.values())
    return in_order([(m.topic, m.raw, m.log_ns) for m in messages])


def write_with_rosbags(
    path: Path, sent: list[synthetic.Sent], storage: StoragePlugin, mode: CompressionMode
) -> Path:
    """As `ros2 bag record --storage ... --compression-mode ... --compression-format zstd`."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        topics = {
            name: writer.add_connection(f"/{name}", message_type, typestore=typestore())
            for name, message_type in synthetic.TYPES.items()
        }
        for message in sent:
            writer.write(topics[message.topic], message.stamp_ns, message.raw)
    return path


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize(
    "mode", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE]
)
def test_our_reader_reads_what_rosbags_writes(
    tmp_path: Path, storage: StoragePlugin, mode: CompressionMode
) -> None:
    sent = sent_messages()
    path = write_with_rosbags(tmp_path / "bag", sent, storage, mode)
    assert found(path) == expected(sent)
    some = ["joint_states", "camera/image_raw"]
    assert found(path, some) == expected([s for s in sent if s.topic in some])
    reader = BagReader(path)
    assert reader.types == synthetic.TYPES
    assert reader.counts["joint_states"] == 10 * STEPS + 1
    assert reader.counts["diagnostics"] == 0
    assert reader.seconds == pytest.approx(0.1 * STEPS)


def write_with_mcap_ros2(bag: Path, path: Path, **options: Any) -> list[tuple[str, bytes, int]]:
    """Decode some topics of our bag with mcap-ros2-support and write them by its writer."""
    wanted = ["joint_states", "camera/image_raw", "policy/action"]
    with (bag / f"{bag.name}.mcap").open("rb") as source, path.open("wb") as stream:
        reader = make_reader(source, decoder_factories=[DecoderFactory()])
        writer = McapRos2Writer(io.BytesIO())
        # Its own constructor leaves no choice of chunks or none, nor of what is left out.
        writer._writer = McapWriter(stream, **options)
        writer._writer.start(profile="ros2", library="mcap-ros2-support")
        schemas: dict[str, Any] = {}
        for schema, channel, message, decoded in reader.iter_decoded_messages(
            topics=[f"/{topic}" for topic in wanted]
        ):
            if schema.name not in schemas:
                schemas[schema.name] = writer.register_msgdef(schema.name, schema.data.decode())
            times = {"log_time": message.log_time, "publish_time": message.publish_time}
            writer.write_message(channel.topic, schemas[schema.name], decoded, **times)
        writer.finish()
    sent = [s for s in sent_messages() if s.topic in wanted]
    return in_order(
        [(s.topic, canonical(s.raw, synthetic.TYPES[s.topic]), s.stamp_ns) for s in sent]
    )


def canonical(raw: bytes, message_type: str) -> bytes:
    """The message written again: what lies between the fields on the wire is undefined."""
    decoded = typestore().deserialize_cdr(raw, message_type)
    return bytes(typestore().serialize_cdr(decoded, message_type))


@pytest.mark.parametrize(
    ("compression", "chunked"),
    [*((compression, True) for compression in CompressionType), (CompressionType.NONE, False)],
    ids=str,
)
def test_our_reader_reads_what_mcap_ros2_support_writes(
    bag: Path, tmp_path: Path, compression: CompressionType, chunked: bool
) -> None:
    path = tmp_path / "bag.mcap"
    written = write_with_mcap_ros2(
        bag, path, compression=compression, use_chunking=chunked, chunk_size=64 * 1024
    )
    messages = list(BagReader(path).messages())
    got = in_order([(m.topic, canonical(m.raw, m.type), m.log_ns) for m in messages])
    assert got == written
    assert {m.publish_ns for m in messages} <= {s.publish_ns for s in sent_messages()}
    assert BagReader(path).counts["joint_states"] == 10 * STEPS + 1


@pytest.mark.parametrize(
    "options",
    [
        {"index_types": IndexType.NONE},
        {"use_statistics": False},
        {"enable_crcs": False},
        {"enable_data_crcs": True},
        {"repeat_channels": False, "repeat_schemas": False},
    ],
    ids=str,
)
def test_our_reader_needs_none_of_what_a_writer_may_leave_out(
    bag: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "bag.mcap"
    written = write_with_mcap_ros2(bag, path, chunk_size=64 * 1024, **options)
    messages = list(BagReader(path).messages())
    assert in_order([(m.topic, canonical(m.raw, m.type), m.log_ns) for m in messages]) == written


def test_rosbags_gives_the_times_and_bytes_that_were_written(bag: Path) -> None:
    with AnyReader([bag]) as reader:
        messages = [(c.topic.lstrip("/"), bytes(raw), ns) for c, ns, raw in reader.messages()]
    assert in_order(messages) == expected(sent_messages())


@pytest.fixture(scope="session")
def javascript() -> Path:
    """Folder with the scripts and the packages that they need, kept in the virtual environment."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine")
    files = sorted(file for file in NPM.iterdir() if file.is_file())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path(sys.prefix) / f"npm-{digest}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=sys.prefix, prefix="npm-") as made:
            for file in files:
                shutil.copy(file, made)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            command += ["--fetch-retries=0", "--fetch-timeout=20000", "--loglevel=error"]
            try:
                done = subprocess.run(
                    command, cwd=made, capture_output=True, text=True, check=False, timeout=90
                )
            except subprocess.TimeoutExpired:
                pytest.skip("the packages from npm did not come within 90 s")
            if done.returncode:
                pytest.skip(f"no packages from npm: {' '.join(done.stderr.split())[:200]}")
            with contextlib.suppress(OSError):  # another worker may have been quicker
                os.rename(made, folder)
                Path(made).mkdir()  # for the context to remove
    return folder


def run_node(
    folder: Path, script: str, *arguments: str | Path
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["node", script, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def node(folder: Path, script: str, *arguments: str | Path) -> str:
    done = run_node(folder, script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_javascript_reads_our_bags(bag: Path, javascript: Path) -> None:
    seen = json.loads(node(javascript, "read.mjs", bag / f"{bag.name}.mcap"))
    sent = sent_messages()
    assert seen["profile"] == "ros2"
    assert seen["topics"] == {
        f"/{topic}": [message_type, "ros2msg", "cdr"]
        for topic, message_type in synthetic.TYPES.items()
    }
    assert sorted(seen["messages"]) == sorted(
        [f"/{s.topic}", str(s.stamp_ns), str(s.publish_ns), zlib.crc32(s.raw)] for s in sent
    )
    times = [int(ns) for _, ns, _, _ in seen["messages"]]
    assert times == sorted(times)
    assert seen["streamed"] == int(seen["counted"]) == len(sent)
    assert seen["whole"]
    assert seen["crc"][0] == seen["crc"][1] != 0
    [[name, values]] = [entry for entry in seen["metadata"] if entry[0] == "rl_robot"]
    assert (name, values["outcome"]) == ("rl_robot", "success")


def test_javascript_notices_a_flipped_bit(bag: Path, javascript: Path, tmp_path: Path) -> None:
    contents = bytearray((bag / f"{bag.name}.mcap").read_bytes())
    contents[len(contents) // 2] ^= 1
    (tmp_path / "damaged.mcap").write_bytes(contents)
    done = run_node(javascript, "read.mjs", tmp_path / "damaged.mcap")
    assert done.returncode
    assert "Error" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"useChunks": True},
        {"useChunks": False},
        {"useChunkIndex": False, "useMessageIndex": False},
        {"useStatistics": False, "useSummaryOffsets": False},
        {"repeatSchemas": False, "repeatChannels": False},
    ],
    ids=str,
)
def test_our_reader_reads_what_javascript_writes(
    javascript: Path, tmp_path: Path, options: dict[str, bool]
) -> None:
    path = tmp_path / "bag.mcap"
    node(javascript, "write.mjs", path, str(MESSAGES), json.dumps(options))
    reader = BagReader(path)
    assert reader.types == {
        "joint_states": "sensor_msgs/msg/JointState",
        "left/chatter": "std_msgs/msg/String",
    }
    assert reader.counts == {"joint_states": MESSAGES, "left/chatter": MESSAGES}
    states = list(reader.decoded(["joint_states"]))
    times = [10_000_000_000 + i * 100_000_000 for i in range(MESSAGES)]
    assert [m.log_ns for m in states] == times
    assert [m.publish_ns for m in states] == [ns + 5 for ns in times]
    for i, (state, ns) in enumerate(zip(states, times, strict=True)):
        stamp = state.message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == ns
        assert list(state.message.name) == ["shoulder", "elbow"]
        np.testing.assert_array_equal(state.message.position, [i, -i / 2])
        np.testing.assert_array_equal(state.message.effort, [0.5])
    texts = [m.message.data for m in reader.decoded(["left/chatter"])]
    assert texts == [f"message {i}" for i in range(MESSAGES)]
