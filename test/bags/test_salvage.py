"""Damaged bags: whole chunks are kept, whatever happens to the rest, and nothing corrupt is."""

import errno
import os
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer

from rl_robot.bags import BagReader, EpisodeWriter
from rl_robot.bags.check import check
from rl_robot.bags.mcap_file import McapFile
from rl_robot.bags.repair import repair
from rl_robot.bags.salvage import Salvage, salvage, salvage_contents
from rl_robot.errors import UserError

TYPES = {name: synthetic.TYPES[name] for name in ("clock", "reward")}
CHUNKS, STEPS = 4, 5
PLAIN = CompressionType.NONE
START_NS, STEP_NS = 10**10, 10**8

Message = tuple[int, int, int, int, bytes]


class Extent(NamedTuple):
    """A chunk of the file: its bytes, and how many messages are in the chunks until it."""

    at: int
    end: int
    until: int


class Sample(NamedTuple):
    """A sound file, what is in it, and where."""

    data: bytes
    messages: list[Message]
    chunks: list[Extent]
    metadata: dict[str, str]


def write_small(path: Path) -> Path:
    """Write a bag of a few kilobytes and several chunks."""
    writer = EpisodeWriter(path, TYPES)
    stamp = START_NS
    for chunk in range(CHUNKS):
        for _ in range(STEPS):
            sec, nanosec = divmod(stamp, 10**9)
            time = synthetic._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
            writer.write("clock", synthetic.serialize("clock", clock=time), stamp, stamp + 1)
            raw = synthetic.numbers("reward", stamp, {"total": stamp * 1e-9})
            writer.write("reward", raw, stamp, stamp + 2)
            stamp += STEP_NS
        for now in (2.0 * chunk, 2.0 * chunk + 1.0):
            writer.write_out_old(now)
    return writer.close(synthetic.metadata(3, "success", CHUNKS * STEPS))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    bag = write_small(tmp_path_factory.mktemp("small") / "bag")
    return sample_of(bag / "bag.mcap")


def sample_of(file: Path) -> Sample:
    found = salvage(file)
    assert found.losses == []
    chunks, until = [], 0
    for part in found._kept:
        assert part.chunk is not None
        until += len(list(part.messages()))
        chunks.append(Extent(part.chunk.at, part.chunk.end, until))
    return Sample(file.read_bytes(), [tuple(m) for m in found.messages()], chunks, found.metadata)


def salvaged(data: bytes) -> Salvage:
    return salvage_contents(memoryview(data))


def messages_of(found: Salvage) -> list[Message]:
    return [tuple(message) for message in found.messages()]


def test_a_sound_bag_is_whole(sample: Sample) -> None:
    assert len(sample.messages) == 2 * CHUNKS * STEPS
    assert len(sample.chunks) == CHUNKS
    assert sample.metadata["outcome"] == "success"
    assert len(sample.data) < 10_000


def test_cut_at_every_byte(sample: Sample) -> None:
    """Each chunk that is whole before the cut is kept, and nothing that was not written."""
    for size in range(len(sample.data)):
        found = salvaged(sample.data[:size])
        whole = [chunk for chunk in sample.chunks if chunk.end <= size]
        least = whole[-1].until if whole else 0
        kept = messages_of(found)
        assert kept == sample.messages[: len(kept)], size
        assert len(kept) >= least, size
        assert len(kept) == least + found.unfinished, size
        assert found.chunks == len(whole), size
        assert found.losses, size
        assert found.metadata in ({}, sample.metadata), size


def test_every_byte_flipped(sample: Sample) -> None:
    """Only a chunk that was hit is lost, whole, and it is named."""
    chance = random.Random(0)
    for place in range(len(sample.data)):
        data = bytearray(sample.data)
        data[place] ^= 1 << chance.randrange(8)
        found = salvaged(bytes(data))
        assert found.losses, place
        kept = messages_of(found)
        hit = [i for i, chunk in enumerate(sample.chunks) if chunk.at <= place < chunk.end]
        if not hit or len(kept) == len(sample.messages):
            # The times that a chunk says of itself are not what its checksum covers.
            assert kept == sample.messages, place
            continue
        lost = sample.chunks[hit[0]]
        before = sample.chunks[hit[0] - 1].until if hit[0] else 0
        assert kept == sample.messages[:before] + sample.messages[lost.until :], place
        named = [loss for loss in found.losses if loss.at <= place < max(loss.end, loss.at + 1)]
        assert named, (place, found.losses)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_nothing_corrupt_is_believed(sample: Sample, data: st.DataObject) -> None:
    """Flips of many bits, bytes lost and bytes doubled, and the end cut off."""
    damaged = bytearray(sample.data)
    places = st.integers(0, len(damaged) - 1)
    for place in data.draw(st.lists(places, max_size=12)):
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        start = data.draw(places)
        length = data.draw(st.integers(1, 400))
        if data.draw(st.booleans()):
            del damaged[start : start + length]
        else:
            damaged[start:start] = damaged[start : start + length]
    whole_end = data.draw(st.booleans())
    if not whole_end:
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    found = salvaged(bytes(damaged))
    allowed = Counter(sample.messages)
    # A part of the file that is there twice is whole twice.
    doubled = Counter(dict.fromkeys(allowed, 2))
    assert not Counter(messages_of(found)) - doubled
    assert found.metadata in ({}, sample.metadata)
    assert bytes(damaged) == sample.data or found.losses


def test_an_unfinished_chunk_gives_its_complete_records(tmp_path: Path) -> None:
    """Chunks are packed in blocks, so what lies before the cut can be unpacked."""
    chance = np.random.default_rng(0)
    types = {"perception/image": synthetic.TYPES["perception/image"]}
    writer = EpisodeWriter(tmp_path / "bag", types)
    for step in range(12):  # 12 KB each, which don't pack
        pixels = chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        stamp = START_NS + step * STEP_NS
        writer.write(
            "perception/image", synthetic.image("perception/image", stamp, pixels), stamp, stamp
        )
    writer.close(synthetic.metadata(0, "success", 12))
    whole = sample_of(tmp_path / "bag" / "bag.mcap")
    [chunk] = whole.chunks
    most = 0
    for size in range(chunk.at, chunk.end, 997):
        found = salvaged(whole.data[:size])
        kept = messages_of(found)
        assert kept == whole.messages[: len(kept)]
        assert len(kept) == found.unfinished >= most
        most = len(kept)
        # All but the block that was cut, of 16 KB, and the message that reaches into it.
        assert len(kept) * 12_400 > size - chunk.at - 2 * 16_384 - 12_400
    assert most >= 9


def test_a_repaired_bag_is_a_bag(sample: Sample, tmp_path: Path) -> None:
    bag = write_small(tmp_path / "run" / "episode_000003")
    file = bag / "episode_000003.mcap"
    place = sample.chunks[1]
    data = bytearray(file.read_bytes())
    data[(place.at + place.end) // 2] ^= 0x10
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged .* rl_robot bag repair"):
        BagReader(bag)
    problems = check(bag)
    assert any("a chunk (10.500 to 10.900 s) is dropped" in problem for problem in problems)

    done = repair(bag)
    assert done.path == tmp_path / "run" / "episode_000003.repaired"
    assert done.missing == {"/clock": STEPS, "/reward": STEPS}
    assert done.kept == {"/clock": 3 * STEPS, "/reward": 3 * STEPS}
    reader = BagReader(done.path)
    assert reader.episode.outcome == "success"
    assert "messages known to be lost" in reader.episode.extra["repaired"]
    kept = [m.log_ns for m in reader.messages(["clock"])]
    steps = [*range(STEPS), *range(2 * STEPS, 4 * STEPS)]
    assert kept == [START_NS + step * STEP_NS for step in steps]
    # What is lost stays known: its numbers are missing.
    assert check(done.path) == ["/clock: 5 messages are missing", "/reward: 5 messages are missing"]
    assert file.read_bytes() == bytes(data)
    with pytest.raises(UserError, match=r"repaired exists already: name another folder with --out"):
        repair(bag)


def test_a_bag_that_was_never_finished_gets_its_name(tmp_path: Path) -> None:
    bag = write_small(tmp_path / "episode_000007")
    part = bag.rename(tmp_path / "episode_000007.part")
    file = part / "episode_000007.mcap"
    last = sample_of(file).chunks[-1]
    file.write_bytes(file.read_bytes()[: last.at + 5])
    (part / "metadata.yaml").unlink()
    assert check(part)[0] == "the recording was never finished"
    done = repair(part)
    assert done.path == bag
    assert sum(done.kept.values()) == 2 * 3 * STEPS
    assert check(bag) == []
    assert part.exists()


def test_what_is_still_being_written_is_refused_and_can_be_closed(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "bag", TYPES)
    raw = synthetic.numbers("reward", START_NS, {"total": 1.0})
    writer.write("reward", raw, START_NS, START_NS)
    for now in (0.0, 1.0):
        writer.write_out_old(now)
    for path in (tmp_path / "bag.part", tmp_path / "bag.part" / "bag.mcap"):
        with pytest.raises(UserError, match="is still being written: repair it when its recorder"):
            repair(path, None if path.is_dir() else tmp_path / "other")
    bag = writer.close(None)
    assert sorted(tmp_path.iterdir()) == [bag]
    assert check(bag) == []
    other = EpisodeWriter(tmp_path / "left", TYPES)
    other.write("reward", raw, START_NS, START_NS)
    for now in (0.0, 1.0):
        other.write_out_old(now)
    other.leave()  # as when its process ends
    assert repair(tmp_path / "left.part").kept == {"/reward": 1}


@pytest.mark.parametrize("step", ["write", "close"])
def test_nothing_is_left_of_a_repair_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bag = write_small(tmp_path / "bag")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(EpisodeWriter, step, full)
    with pytest.raises(UserError, match=r"repaired can't be written: No space left on device"):
        repair(bag)
    assert list(tmp_path.iterdir()) == [bag]


def test_nothing_left_is_said(tmp_path: Path) -> None:
    file = tmp_path / "noise.mcap"
    file.write_bytes(random.Random(1).randbytes(5000))
    done = repair(file)
    assert done.path is None
    assert not done.kept
    assert done.losses
    assert [path.name for path in tmp_path.iterdir()] == ["noise.mcap"]


# --- files of other writers ----------------------------------------------------------------------


def write_foreign(file: Path, **options: object) -> Path:
    with file.open("wb") as stream:
        writer = Writer(stream, chunk_size=700, **options)  # type: ignore[arg-type]
        writer.start(profile="ros2", library="another")
        definition = b"float64 data"
        schema = writer.register_schema("std_msgs/msg/Float64", "ros2msg", definition)
        channel = writer.register_channel("/value", "cdr", schema)
        for index in range(60):
            raw = b"\x00\x01\x00\x00" + np.float64(index).tobytes()
            writer.add_message(channel, index, raw, index, sequence=index)
        writer.finish()
    return file


@pytest.mark.parametrize("compression", list(CompressionType))
def test_foreign_chunks_with_checksums(tmp_path: Path, compression: CompressionType) -> None:
    data = write_foreign(tmp_path / "a.mcap", compression=compression).read_bytes()
    original = messages_of(salvaged(data))
    assert [message[2] for message in original] == list(range(60))
    for size in range(0, len(data), 3):
        kept = messages_of(salvaged(data[:size]))
        assert kept == original[: len(kept)]
    chance = random.Random(2)
    extents = chunk_extents(tmp_path / "a.mcap")
    for _ in range(300):
        start, end = chance.choice(extents)
        place = chance.randrange(start + 60, end)
        damaged = bytearray(data)
        damaged[place] ^= 1 << chance.randrange(8)
        kept = messages_of(salvaged(bytes(damaged)))
        assert not Counter(kept) - Counter(original)
        assert len(kept) >= 60 - 25


def chunk_extents(file: Path) -> list[tuple[int, int]]:
    found = McapFile(file)
    starts = [place.at for place in found._chunks]
    return [(at, at + 9 + int.from_bytes(found._view[at + 1 : at + 9], "little")) for at in starts]


def test_what_has_no_checksum_is_kept_and_counted(tmp_path: Path) -> None:
    loose = write_foreign(tmp_path / "loose.mcap", use_chunking=False).read_bytes()
    found = salvaged(loose[: len(loose) // 3])
    assert 10 < len(messages_of(found)) < 60
    assert found.unverified >= len(messages_of(found))
    plain = write_foreign(tmp_path / "plain.mcap", enable_crcs=False).read_bytes()
    found = salvaged(plain[: len(plain) // 2])
    assert found.unverified == found.chunks + 2  # the type and the topic
    assert messages_of(found)


def test_any_damage_of_a_file_without_checksums_is_survived(tmp_path: Path) -> None:
    """Nothing tells its bytes from right ones, but whatever they say, it is read or left out."""
    file = write_foreign(tmp_path / "plain.mcap", enable_crcs=False, compression=PLAIN)
    data = file.read_bytes()
    chance = random.Random(4)
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 2, 8])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        found = salvaged(bytes(damaged))
        assert len(messages_of(found)) <= 61


def test_bounds(tmp_path: Path) -> None:
    """A chunk that claims to unpack to an exabyte is not even tried."""
    data = bytearray(write_foreign(tmp_path / "a.mcap").read_bytes())
    start, _ = chunk_extents(tmp_path / "a.mcap")[0]
    data[start + 9 + 16 : start + 9 + 24] = (1 << 60).to_bytes(8, "little")
    found = salvaged(bytes(data))
    assert len(messages_of(found)) < 60
    assert found.losses
