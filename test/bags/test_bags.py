"""Bags: stock readers open them, damage is named, contents can be compared."""

import contextlib
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Channel, Message, Metadata
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader

from rl_robot.bags import (
    BagReader,
    EpisodeMetadata,
    EpisodeWriter,
    TopicQos,
    compare_bags,
)
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.errors import UserError

STEPS = 8


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "episode_000000"
    return synthetic.write_episode(path, synthetic.metadata(0, "success", STEPS))


def sent_messages() -> list[synthetic.Sent]:
    return list(synthetic.episode_messages(10_000_000_000, STEPS, wall_ns=10**18))


def test_own_reader_gives_back_what_was_written(bag: Path) -> None:
    reader = BagReader(bag)
    got = [(m.topic, m.raw, m.log_ns, m.publish_ns) for m in reader.messages()]
    sent = [(s.topic, s.raw, s.stamp_ns, s.publish_ns) for s in sent_messages()]
    assert sorted(got) == sorted(sent)
    assert [m[2] for m in got] == sorted(m[2] for m in got)
    assert reader.types == synthetic.TYPES
    assert reader.counts["joint_states"] == 10 * STEPS + 1
    assert reader.counts["diagnostics"] == 0
    assert reader.seconds == pytest.approx(0.1 * STEPS)
    assert BagReader(reader.file).episode == reader.episode


def test_own_reader_selects_and_decodes(bag: Path) -> None:
    decoded = list(BagReader(bag).decoded(["reward"]))
    assert [m.log_ns for m in decoded] == [10_000_000_000 + i * 10**8 for i in range(1, STEPS + 1)]
    assert list(decoded[-1].message.name) == ["total", "step", "success", "terminated"]
    assert decoded[-1].message.position[2] == 1.0


def test_rosbags_decodes_every_topic(bag: Path) -> None:
    with AnyReader([bag]) as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == {
            f"/{name}": message_type for name, message_type in synthetic.TYPES.items()
        }
        decoded = [(c.topic, reader.deserialize(raw, c.msgtype)) for c, _, raw in reader.messages()]
    assert len(decoded) == len(sent_messages())
    assert {topic for topic, _ in decoded} == {f"/{s.topic}" for s in sent_messages()}


def test_mcap_ros2_support_decodes_every_topic(bag: Path) -> None:
    file = bag / "episode_000000.mcap"
    with file.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        messages = list(reader.iter_decoded_messages())
    assert len(messages) == len(sent_messages())
    pictures = [m.decoded_message for m in messages if m.channel.topic == "/camera/image_raw"]
    first = np.frombuffer(pictures[0].data, np.uint8).reshape(240, 320, 3)
    np.testing.assert_array_equal(first, synthetic.frame(0.0, grasped=True))


def test_chunks_are_small_and_checksummed(bag: Path) -> None:
    with (bag / "episode_000000.mcap").open("rb") as stream:
        summary = make_reader(stream, validate_crcs=True).get_summary()
    assert summary is not None
    chunks = summary.chunk_indexes
    assert len(chunks) > STEPS
    assert all(c.uncompressed_size <= 256 * 1024 for c in chunks)
    assert {c.compression for c in chunks} == {"zstd"}


def test_metadata_comes_back(tmp_path: Path) -> None:
    given = synthetic.metadata(
        7,
        "broken",
        3,
        reason="node 'policy' died",
        lost_periods=2,
        extra={"host": "bench"},
    )
    writer = EpisodeWriter(tmp_path / "bag", synthetic.TYPES, namespace="/left")
    writer.close(given)
    reader = BagReader(tmp_path / "bag")
    assert reader.episode == given
    assert reader.namespace == "/left"
    assert reader.types == synthetic.TYPES
    with AnyReader([tmp_path / "bag"]) as reader:
        assert "/left/reward" in {c.topic for c in reader.connections}


def test_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="'won' is not one of success"):
        synthetic.metadata(0, "won", 3)


def test_qos_is_kept(tmp_path: Path) -> None:
    qos = {"episode": TopicQos(depth=3, transient_local=True), "clock": TopicQos(reliable=False)}
    EpisodeWriter(tmp_path / "bag", synthetic.TYPES, qos=qos).close(
        synthetic.metadata(0, "success", 0)
    )
    with AnyReader([tmp_path / "bag"]) as reader:
        profiles = {c.topic: c.ext.offered_qos_profiles[0] for c in reader.connections}
    assert profiles["/episode"].depth == 3
    assert profiles["/episode"].durability.name == "TRANSIENT_LOCAL"
    assert profiles["/clock"].reliability.name == "BEST_EFFORT"
    assert profiles["/reward"].reliability.name == "RELIABLE"


def test_bag_in_the_making_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "episode_000003"
    writer = EpisodeWriter(path, synthetic.TYPES)
    assert not path.exists()
    with pytest.raises(UserError, match=r"episode_000003\.part exists already"):
        EpisodeWriter(path, synthetic.TYPES)
    writer.close(synthetic.metadata(3, "truncated", 0))
    assert [p.name for p in tmp_path.iterdir()] == ["episode_000003"]
    with pytest.raises(UserError, match="never overwritten"):
        EpisodeWriter(path, synthetic.TYPES)


def messages_on_disk(unfinished: Path) -> list[tuple[str, bytes]]:
    """Return what a bag without an end gives to whoever reads it from its beginning."""
    topics, messages = {}, []
    with next(unfinished.glob("*.mcap")).open("rb") as stream, contextlib.suppress(EndOfFile):
        for record in StreamReader(stream, validate_crcs=True).records:
            if isinstance(record, Channel):
                topics[record.id] = record.topic
            elif isinstance(record, Message):
                messages.append((topics[record.channel_id], record.data))
    return messages


def test_a_bag_in_the_making_holds_what_is_older_than_half_a_second(tmp_path: Path) -> None:
    sent = [*synthetic.small_step(10**10, 10**18), *synthetic.small_step(10**10 + 10**8, 10**18)]
    first, second = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    writer = EpisodeWriter(tmp_path / "bag", synthetic.TYPES)

    def on_disk(now: float) -> list[tuple[str, bytes]]:
        writer.write_out_old(now)
        return sorted(messages_on_disk(tmp_path / "bag.part"))

    for message in first:
        writer.write(*message)
    assert on_disk(100.0) == []
    assert on_disk(100.4) == []
    for message in second:
        writer.write(*message)
    together = sorted((f"/{s.topic}", s.raw) for s in sent)
    assert on_disk(100.5) == together
    writer.write(*first[0])
    assert on_disk(101.2) == together  # the next chunk has just been begun
    assert len(on_disk(101.7)) == len(sent) + 1
    writer.close(synthetic.metadata(0, "success", 2))
    assert len(list(BagReader(tmp_path / "bag").messages())) == len(sent) + 1


def test_pictures_are_written_out_in_time_as_well(tmp_path: Path) -> None:
    sent = list(synthetic.episode_messages(10**10, 1, wall_ns=10**18))
    writer = EpisodeWriter(tmp_path / "bag", synthetic.TYPES)
    for message in sent:
        writer.write(*message)
    for now in (100.0, 100.5):
        writer.write_out_old(now)
    on_disk = messages_on_disk(tmp_path / "bag.part")
    assert sorted(on_disk) == sorted((f"/{s.topic}", s.raw) for s in sent)
    writer.abort()


def test_what_is_said_at_the_end_counts(tmp_path: Path) -> None:
    begun = synthetic.metadata(3, "broken", 0, reason="the recording was cut short")
    writer = EpisodeWriter(tmp_path / "bag", synthetic.TYPES, begun=begun)
    file = tmp_path / "bag.part" / "bag.mcap"
    said = []
    with file.open("rb") as stream, contextlib.suppress(EndOfFile):
        for record in StreamReader(stream).records:
            said += [record.metadata] if isinstance(record, Metadata) else []
    assert [one["reason"] for one in said] == ["the recording was cut short"]  # at once
    assert BagReader(writer.close(synthetic.metadata(3, "success", 9))).episode.steps == 9
    assert BagReader(tmp_path / "bag").episode.outcome == "success"


def test_aborted_bag_leaves_nothing(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path / "bag", synthetic.TYPES).abort()
    assert list(tmp_path.iterdir()) == []


def test_type_that_is_not_stock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"my_msgs/msg/Secret is not one of ROS 2's stock types"):
        EpisodeWriter(tmp_path / "bag", {"x": "my_msgs/msg/Secret"})
    assert list(tmp_path.iterdir()) == []


def test_missing_bag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no bag at .*nowhere"):
        BagReader(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a bag: it holds no"):
        BagReader(tmp_path)


def test_foreign_bag_has_no_episode(bag: Path, tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    from rl_robot.bags import typestore

    with Writer(tmp_path / "foreign", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/clock", synthetic.TYPES["clock"], typestore=typestore())
        for sent in sent_messages():
            if sent.topic == "clock":
                writer.write(topic, sent.stamp_ns, sent.raw)
    reader = BagReader(tmp_path / "foreign")
    assert [m.log_ns for m in reader.messages()] == [
        s.stamp_ns for s in sent_messages() if s.topic == "clock"
    ]
    with pytest.raises(UserError, match="holds no episode recorded by rl_robot"):
        _ = reader.episode


@pytest.fixture(scope="module")
def small_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of a few kilobytes, of which the structure is a large part."""
    writer = EpisodeWriter(tmp_path_factory.mktemp("small") / "episode_000000", synthetic.TYPES)
    for sent in synthetic.small_step(10_000_000_000, 10**18):
        writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
    return writer.close(synthetic.metadata(0, "success", 1))


def damaged(bag: Path, tmp_path: Path, contents: bytes) -> Path:
    copy = tmp_path / "damaged"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bag, copy)
    (copy / "episode_000000.mcap").write_bytes(contents)
    return copy


def test_every_truncation_is_named(small_bag: Path, tmp_path: Path) -> None:
    contents = (small_bag / "episode_000000.mcap").read_bytes()
    for size in [*range(60), *range(60, len(contents), 97), len(contents) - 1]:
        with pytest.raises(UserError, match=r"episode_000000\.mcap is damaged \(.+\)"):
            BagReader(damaged(small_bag, tmp_path, contents[:size]))


def test_every_flipped_bit_is_noticed(small_bag: Path, tmp_path: Path) -> None:
    contents = (small_bag / "episode_000000.mcap").read_bytes()
    size = len(contents)
    chance = random.Random(0)
    # Everywhere in the header, the footer and the end of the index; elsewhere by chance.
    places = [*range(60), *range(size - 60, size), *chance.sample(range(size), 300)]
    for place in places:
        flipped = bytearray(contents)
        flipped[place] ^= 1 << chance.randrange(8)
        with pytest.raises(UserError, match=r"episode_000000\.mcap is damaged"):
            BagReader(damaged(small_bag, tmp_path, bytes(flipped)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_header_stamp_of_either_byte_order(order: str) -> None:
    flag = 1 if order == "<" else 0
    numbers = np.array([-3, 999_999_999], dtype=f"{order}i4").tobytes()
    assert header_stamp_ns(bytes([0, flag, 0, 0]) + numbers) == -3 * 10**9 + 999_999_999


def test_header_stamp_needs_a_stamp() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        header_stamp_ns(b"\0\1\0\0\0")


def write(path: Path, messages: list[synthetic.Sent]) -> Path:
    writer = EpisodeWriter(path, synthetic.TYPES)
    for sent in messages:
        writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
    return writer.close(synthetic.metadata(0, "success", STEPS))


def test_equal_bags_compare_equal(bag: Path, tmp_path: Path) -> None:
    messages = sent_messages()
    later = [s._replace(publish_ns=s.publish_ns + 5) for s in messages]
    assert compare_bags(bag, write(tmp_path / "again", later)) == []


def test_differences_are_named(bag: Path, tmp_path: Path) -> None:
    messages = [s for s in sent_messages() if s.topic != "clock"]
    last = max(i for i, s in enumerate(messages) if s.topic == "reward")
    stamp = messages[last].stamp_ns
    other = synthetic.numbers("reward", stamp, {"total": 5.0})
    messages[last] = messages[last]._replace(raw=other)
    messages.append(messages[0])
    other_bag = write(tmp_path / "other", messages)
    assert compare_bags(bag, other_bag) == [
        f"clock: {STEPS + 1} messages and 0",
        f"reward: message {STEPS - 1} differs (at 10.800 s and 10.800 s)",
        "robot_description: 1 messages and 2",
    ]
    assert len(compare_bags(bag, other_bag, ignore=("reward", "clock"))) == 1


def test_padding_on_the_wire_is_no_difference(bag: Path, tmp_path: Path) -> None:
    messages = sent_messages()
    place = next(i for i, s in enumerate(messages) if s.topic == "camera/image_raw")
    raw = bytearray(messages[place].raw)
    frame = raw.index(b"camera_optical_frame\0")
    padding = frame + len(b"camera_optical_frame\0")
    assert raw[padding] == 0
    raw[padding] = 0xAB
    messages[place] = messages[place]._replace(raw=bytes(raw))
    assert compare_bags(bag, write(tmp_path / "padded", messages)) == []


def test_metadata_of_a_later_version_is_read() -> None:
    values = synthetic.metadata(0, "success", 3).to_strings() | {"operator": "someone"}
    assert EpisodeMetadata.from_strings(values).extra == {"operator": "someone"}
