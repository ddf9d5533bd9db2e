"""Bags of other recorders are read as their own tools read them; what is no bag is refused."""

import shutil
import struct
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
import zstandard
from foreign import (
    JOINT_STATE,
    START_NS,
    STRING,
    Said,
    joint_state,
    mcap_options,
    said,
    text,
    write_mcap,
    write_rosbag2,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.opcode import Opcode
from mcap.writer import CompressionType
from rosbags.rosbag2 import CompressionMode, StoragePlugin

import rl_robot.bags.packed as packing
from rl_robot.bags import BagReader, TopicQos, compare_bags
from rl_robot.bags.check import check
from rl_robot.bags.mcap_records import (
    MAGIC,
    Chunk,
    DamageError,
    read_chunk,
    unpack,
    unpack_beginning,
    walk,
)
from rl_robot.bags.metadata import custom_of, qos_of
from rl_robot.bags.packed import unpack_message
from rl_robot.errors import UserError

SAID = said()


def require_read(path: Path, messages: list[Said]) -> BagReader:
    """The bag gives these messages, in the order of their log times, however it is asked."""
    bag = BagReader(path)
    expected = sorted((m.log_ns, m.topic.lstrip("/"), m.type, m.raw) for m in messages)
    found = [(m.log_ns, m.topic, m.type, m.raw) for m in bag.messages()]
    assert [m[0] for m in found] == sorted(m[0] for m in found)
    assert sorted(found) == expected
    topics = {m.topic.lstrip("/") for m in messages}
    assert bag.counts == Counter(m.topic.lstrip("/") for m in messages)
    assert bag.types.keys() == topics
    assert bag.seconds == pytest.approx((expected[-1][0] - expected[0][0]) * 1e-9)
    for topic, series in bag.series([*topics, "absent"]).items():
        mine = [m for m in expected if m[1] == topic]
        assert list(series.log_ns) == [m[0] for m in mine]
        assert sorted(series.raws) == sorted(m[3] for m in mine)
        assert series.type == (mine[0][2] if mine else "")
    only = [m.raw for m in bag.messages(["note"])]
    assert only == [m.raw for m in messages if m.topic == "/note"]
    return bag


@pytest.mark.parametrize(
    "options", list(mcap_options()), ids=lambda o: "-".join(o) + str([*o.values()])
)
def test_mcap_of_any_writer_with_or_without_an_index(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write_mcap(tmp_path / "bag.mcap", SAID, **options)
    bag = require_read(path, SAID)
    assert bag.types == {"joint_states": JOINT_STATE, "note": STRING}
    assert check(path) == []
    with pytest.raises(UserError, match="holds no episode recorded by rl_robot"):
        _ = bag.episode


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        pair
        for pair in product(StoragePlugin, CompressionMode)
        if pair != (StoragePlugin.SQLITE3, CompressionMode.STORAGE)  # which there is not
    ],
)
def test_rosbag2_of_either_storage_compressed_or_not(
    tmp_path: Path, storage: StoragePlugin, compression: CompressionMode
) -> None:
    path = write_rosbag2(tmp_path / "bag", SAID, storage=storage, compression=compression)
    require_read(path, SAID)
    assert check(path) == []


def test_a_database_without_its_folder(tmp_path: Path) -> None:
    folder = write_rosbag2(tmp_path / "bag", SAID)
    require_read(next(folder.glob("*.db3")), SAID)


def test_what_another_recorder_says_of_its_bag_is_no_broken_episode(tmp_path: Path) -> None:
    path = write_rosbag2(tmp_path / "bag", SAID, custom={"operator": "Ada"})
    assert BagReader(path).metadata == {"operator": "Ada"}
    assert check(path) == []


def test_what_was_recorded_out_of_order_is_given_in_order(tmp_path: Path) -> None:
    shuffled = [*SAID[40:], *SAID[:20], *SAID[20:40]]
    for name, options in {"chunks": {}, "loose": {"use_chunking": False}}.items():
        require_read(write_mcap(tmp_path / f"{name}.mcap", shuffled, **options), SAID)
    require_read(write_rosbag2(tmp_path / "database", shuffled), SAID)


def test_two_channels_of_one_topic_are_one_topic(tmp_path: Path) -> None:
    """As two publishers, or bags that were put together, leave them."""
    path = tmp_path / "bag.mcap"
    pair = []
    for number in (0, 1):
        pair.append(write_mcap(tmp_path / f"{number}.mcap", SAID[number::2], use_chunking=False))
    path.write_bytes(joined(*pair))
    bag = BagReader(path)
    assert bag.counts == {"joint_states": 60, "note": 20}
    series = bag.series(["joint_states"])["joint_states"]
    assert series.raws == [m.raw for m in SAID if m.topic == "/joint_states"]
    assert series.log_ns == [m.log_ns for m in SAID if m.topic == "/joint_states"]
    assert check(path) == []


def test_messages_outside_and_in_chunks(tmp_path: Path) -> None:
    """No writer that we know does so, but the format lets it."""
    outside = write_mcap(tmp_path / "outside.mcap", SAID[:40:2], use_chunking=False)
    within = [*SAID[1:40:2], *SAID[40:]]
    inside = write_mcap(tmp_path / "inside.mcap", within, enable_crcs=False)
    path = tmp_path / "bag.mcap"
    path.write_bytes(joined(inside, outside))
    bag = BagReader(path)
    assert [m.raw for m in bag.messages()] == [m.raw for m in SAID]
    notes = bag.series(["note"])["note"].raws
    assert notes == [m.raw for m in SAID if m.topic == "/note"]


def test_messages_outside_chunks_that_have_checksums_are_damage(tmp_path: Path) -> None:
    """One flipped bit makes a message of another record; beside checksums it is not believed."""
    outside = write_mcap(tmp_path / "outside.mcap", SAID[:3], use_chunking=False)
    inside = write_mcap(tmp_path / "inside.mcap", SAID[3:])
    path = tmp_path / "bag.mcap"
    path.write_bytes(joined(inside, outside))
    with pytest.raises(UserError, match="messages lie outside its chunks, which have checksums"):
        BagReader(path)


def test_an_index_that_points_beyond_the_file_is_damage(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", SAID, enable_crcs=False)
    data = bytearray(path.read_bytes())
    for record in walk(memoryview(data), len(MAGIC), len(data) - len(MAGIC)):
        if record.opcode == Opcode.CHUNK_INDEX:
            struct.pack_into("<Q", data, record.body + 16, len(data))  # where the chunk begins
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"there is no chunk at \d+, where the index says"):
        list(BagReader(path).messages())
    assert check(path)


def joined(first: Path, second: Path) -> bytes:
    """Both files' messages in one, the second's channels and types with numbers of their own."""
    data = bytearray(first.read_bytes()[: first.read_bytes().index(b"\x0f\4\0\0\0\0\0\0\0")])
    other = memoryview(second.read_bytes())
    for record in walk(other, len(MAGIC), len(other) - len(MAGIC)):
        body = bytearray(other[record.body : record.end])
        if record.opcode == Opcode.DATA_END:
            break
        numbers = {Opcode.SCHEMA: 1, Opcode.CHANNEL: 2, Opcode.MESSAGE: 1}.get(record.opcode)
        if numbers:
            for i in range(numbers):
                struct.pack_into("<H", body, 2 * i, struct.unpack_from("<H", body, 2 * i)[0] + 100)
            data += struct.pack("<BQ", record.opcode, len(body)) + body
    return bytes(data) + the_end()


def the_end() -> bytes:
    """An end of data and a footer, of a file without an index."""
    data_end = struct.pack("<BQI", Opcode.DATA_END, 4, 0)
    return data_end + struct.pack("<BQQQI", Opcode.FOOTER, 20, 0, 0, 0) + MAGIC


def test_a_bag_of_several_files(tmp_path: Path) -> None:
    """As rosbag2 splits bags when they grow; a file may lack topics that another has."""
    parts = [SAID[:30], [m for m in SAID[30:50] if m.topic == "/note"], SAID[50:]]
    folder = tmp_path / "bag"
    whole = write_rosbag2(folder, SAID, storage=StoragePlugin.MCAP)
    document = yaml.safe_load((whole / "metadata.yaml").read_text())
    next(whole.glob("*.mcap")).unlink()
    names = [f"bag_{number}.mcap" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write_mcap(folder / name, part)
    told = document["rosbag2_bagfile_information"]
    kept = [message for part in parts for message in part]
    told["relative_file_paths"], told["message_count"] = names, len(kept)
    for topic in told["topics_with_message_count"]:
        of_topic = [m for m in kept if m.topic == topic["topic_metadata"]["name"]]
        topic["message_count"] = len(of_topic)
        topic["topic_metadata"]["type_description_hash"] = ""
    (folder / "metadata.yaml").write_text(yaml.safe_dump(document))
    require_read(folder, kept)
    assert check(folder) == []
    (folder / "bag_1.mcap").unlink()
    with pytest.raises(UserError, match=r"bag is damaged .*missing.*bag_1\.mcap.*leave it out"):
        BagReader(folder)


def test_a_topic_of_two_types_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    mixed = [*SAID, Said("/note", JOINT_STATE, START_NS, joint_state(START_NS, [1.0]))]
    bag = BagReader(write_mcap(tmp_path / "bag.mcap", mixed))
    assert bag.counts == {"joint_states": 60, "note": 21}
    with pytest.raises(UserError, match=r"note has messages of types .*String and .*JointState"):
        bag.series(["note"])


def test_types_that_are_not_stock_are_read_as_bytes(tmp_path: Path) -> None:
    mine = [Said("/mine", "my_msgs/msg/Mine", START_NS + i, b"\0\1\0\0" + bytes(i)) for i in (0, 9)]
    path = write_mcap(tmp_path / "bag.mcap", mine)
    assert [m.raw for m in BagReader(path).messages()] == [m.raw for m in mine]
    assert check(path) == []


def test_a_bag_of_no_messages(tmp_path: Path) -> None:
    for path in (
        write_mcap(tmp_path / "empty.mcap", []),
        write_mcap(tmp_path / "loose.mcap", [], use_chunking=False),
        write_rosbag2(tmp_path / "database", []),
    ):
        bag = BagReader(path)
        assert list(bag.messages()) == []
        assert (bag.counts, bag.seconds) == ({}, 0.0)
        assert check(path) == []


@pytest.mark.parametrize(
    "profiles",
    ["", "- 3", "[]", "depth: 1", "- {depth: .inf, reliability: 1}", "- {depth: x}", "[" * 999],
)
def test_qos_that_cannot_be_read_is_the_default(profiles: str) -> None:
    assert qos_of(profiles) == TopicQos()


def test_qos_by_names_and_by_numbers() -> None:
    by_names = "- {depth: 3, reliability: best_effort, durability: transient_local}"
    by_numbers = "- {depth: 3, reliability: 2, durability: 1}"
    assert qos_of(by_names) == qos_of(by_numbers) == TopicQos(3, False, True)


def test_bags_are_compared_whatever_their_messages_are(tmp_path: Path) -> None:
    def bag(name: str, *raws: bytes) -> Path:
        types = ("my_msgs/msg/Mine", STRING)
        mine = [Said(f"/{i}", types[i], START_NS, raw) for i, raw in enumerate(raws)]
        return write_mcap(tmp_path / name, mine)

    first = bag("first.mcap", b"\0\1\0\0mine", b"malformed")
    assert compare_bags(first, bag("same.mcap", b"\0\1\0\0mine", b"malformed")) == []
    others = compare_bags(first, bag("other.mcap", b"\0\1\0\0yours", text("fine")))
    assert [line.split(" (")[0] for line in others] == [
        "0: message 0 differs",
        "1: message 0 differs",
    ]


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a YAML document: what holds it, and its key or index there."""
    for key in document if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places(document[key])


@pytest.mark.parametrize("junk", [None, "x", -1, 2**70, [], {}, [3], {"a": 1}], ids=repr)
def test_whatever_metadata_says_it_is_a_bag_or_refused(tmp_path: Path, junk: Any) -> None:
    folder = write_rosbag2(tmp_path / "bag", said(3), custom={"run": "7"})
    file = folder / "metadata.yaml"
    whole = yaml.safe_load(file.read_text())
    for at in range(len(list(places(whole)))):
        changed = deepcopy(whole)
        holder, key = list(places(changed))[at]
        holder[key] = junk
        file.write_text(yaml.safe_dump(changed))
        refused = "is damaged"
        try:
            bag = BagReader(folder)
            list(bag.messages()), bag.series(bag.types), bag.counts, bag.qos, bag.seconds
        except UserError as error:
            refused = str(error)
        assert "is damaged" in refused or "of types" in refused
        check(folder)


# --- what is far larger than it looks ------------------------------------------------------------


def packed(folder: Path, compression: CompressionMode, messages: list[Said] = SAID) -> Path:
    return write_rosbag2(folder, messages, compression=compression)


def streamed(data: bytes) -> bytes:
    """A zstd frame that does not say how much it unpacks to."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


def test_messages_are_unpacked_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_MESSAGE", 1 << 20)
    told = zstandard.ZstdCompressor().compress
    for press in (told, streamed):
        assert unpack_message(press(b"")) == b""
        assert unpack_message(press(bytes(1 << 20))) == bytes(1 << 20)
        bomb = press(bytes(1 << 27))
        tracemalloc.start()
        try:
            with pytest.raises(DamageError, match=r"a message unpacks to .*more than 1048576"):
                unpack_message(bomb)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 1 << 23
    for wrong in (b"", b"no frame", told(b"one") + told(b"two"), told(bytes(99))[:-3]):
        with pytest.raises(DamageError, match="a message can't be unpacked"):
            unpack_message(wrong)


def test_a_message_that_unpacks_to_too_much_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MOST_MESSAGE", 20)
    bag = BagReader(packed(tmp_path / "bag", CompressionMode.MESSAGE))
    with pytest.raises(UserError, match=r"is damaged \(a message unpacks to \d+ bytes, more than"):
        list(bag.messages())


def test_files_are_unpacked_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packed(tmp_path / "bag", CompressionMode.FILE)
    [file] = folder.glob("*.zstd")
    whole = file.read_bytes()
    for press in (zstandard.ZstdCompressor().compress, streamed):
        file.write_bytes(press(bytes(1 << 28)))
        with pytest.raises(UserError, match=r"is damaged .*more than 1000 times"):
            BagReader(folder)
    file.write_bytes(whole)
    room = SimpleNamespace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(UserError, match=r"takes more than the 0 MB .* set TMPDIR"):
        BagReader(folder)


def test_a_chunk_of_one_of_several_files_is_unpacked_no_further_than_it_says(
    tmp_path: Path,
) -> None:
    folder = write_rosbag2(tmp_path / "bag", SAID, storage=StoragePlugin.MCAP)
    document = yaml.safe_load((folder / "metadata.yaml").read_text())
    names = [next(folder.glob("*.mcap")).name, "second.mcap"]
    document["rosbag2_bagfile_information"]["relative_file_paths"] = names
    (folder / "metadata.yaml").write_text(yaml.safe_dump(document))
    whole = write_mcap(folder / names[1], SAID).read_bytes()
    chunk = next(r for r in walk(whole, len(MAGIC), len(whole)) if r.opcode == Opcode.CHUNK)
    press = zstandard.ZstdCompressor().compress
    frames = press(bytes(100)) + press(bytes(1 << 27))
    body = struct.pack("<QQQII4sQ", 0, 1, 100, 0, 4, b"zstd", len(frames)) + frames
    hostile = whole[: chunk.at] + struct.pack("<BQ", Opcode.CHUNK, len(body)) + body + the_end()
    (folder / names[1]).write_bytes(hostile)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"bag is damaged .*can't be unpacked"):
            BagReader(folder)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 24


def bombs(depth: int = 40) -> Iterator[tuple[str, str]]:
    """YAML of a few lines that stands for far more, and the last value's name."""
    lists = ["a0: &a0 [x, x]"]
    lists += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, depth)]
    merged = ["a0: &a0 {x: 1}"]
    merged += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, depth)]
    yield "\n".join(lists), f"*a{depth - 1}"
    yield "\n".join(merged), f"*a{depth - 1}"
    yield "a: &a [*a]", "*a"


@pytest.mark.parametrize("place", ["custom", "topic", "message_count", "compression_format"])
@pytest.mark.parametrize("bomb", list(bombs()), ids=["lists", "merges", "itself"])
def test_aliases_of_aliases_in_metadata_are_not_followed(
    tmp_path: Path, place: str, bomb: tuple[str, str]
) -> None:
    folder = write_rosbag2(tmp_path / "bag", said(3), custom={"run": "BOMB"})
    file = folder / "metadata.yaml"
    told = yaml.safe_load(file.read_text())
    information = told["rosbag2_bagfile_information"]
    if place == "topic":
        information["topics_with_message_count"][0]["topic_metadata"]["name"] = "BOMB"
    elif place != "custom":
        information |= {"compression_mode": "message", place: "BOMB"}
    else:
        information["custom_data"] = {"run": "BOMB"}
    text, name = bomb
    file.write_text(text + "\n" + yaml.safe_dump(told).replace("BOMB", name))
    with pytest.raises(UserError, match="is damaged"):
        BagReader(folder)
    [problem] = check(folder)
    assert len(problem) < 500


def test_an_alias_bomb_beside_an_mcap_is_named_by_a_check(tmp_path: Path) -> None:
    folder = write_rosbag2(tmp_path / "bag", said(3), storage=StoragePlugin.MCAP)
    file = folder / "metadata.yaml"
    whole = file.read_text()
    for lines, name in bombs():
        file.write_text(f"{lines}\n{whole}\n  custom_data: {{run: {name}}}\n")
        assert check(folder) == ["metadata.yaml is damaged: rosbag2 can't open the bag"]
    lines, name = next(bombs(depth=3))  # as anyone may write who has little to say twice
    file.write_text(f"{lines}\n{whole}\n  custom_data: {{run: {name}}}\n")
    assert check(folder) == []


def test_custom_data_are_texts_and_numbers() -> None:
    said = {"a": "x", 3: 2, "c": 1.5, "d": True, "e": None, "f": ["x"], "g": {"x": 1}}
    assert custom_of(said) == {"a": "x", "3": "2", "c": "1.5", "d": "True"}
    assert len(custom_of({"a": "x" * (2 << 20), "b": 1 << (1 << 20)})["a"]) == 1 << 20
    assert custom_of("no table") == custom_of(None) == {}


# --- what is no bag ------------------------------------------------------------------------------


def not_bags(folder: Path) -> dict[str, Path]:
    made = {
        "text.mcap": b"This is a text that somebody called so, and long enough for a footer.",
        "short.mcap": b"text",
        "empty.mcap": b"",
        "empty.db3": b"",
        "text.db3": b"no database, " * 100,
        "picture.png": b"\x89PNG",
        "folder/notes.txt": b"nothing",
        "damaged/metadata.yaml": b"rosbag2_bagfile_information: [",
        "damaged/bag.db3": b"",
        "untold/bag.db3": b"",
    }
    (folder / "folder").mkdir()
    (folder / "damaged").mkdir()
    (folder / "untold").mkdir()
    (folder / "nothing").mkdir()
    for name, contents in made.items():
        (folder / name).write_bytes(contents)
    files = [folder / name for name in made if "/" not in name]
    folders = [folder / name for name in ("folder", "damaged", "untold", "nothing", "absent")]
    return {path.name: path for path in [*files, *folders]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.mcap", "text.mcap is damaged .*does not begin as an MCAP file"),
        ("short.mcap", "short.mcap is damaged .*too few"),
        ("empty.mcap", "empty.mcap is damaged .*too few"),
        ("empty.db3", "empty.db3 is damaged"),
        ("text.db3", "text.db3 is damaged"),
        ("picture.png", "picture.png is not a bag: a bag is a folder, or its .mcap or .db3 file"),
        ("folder", "folder is not a bag: it holds no .mcap and no .db3 file"),
        ("nothing", "nothing is not a bag: it holds no .mcap and no .db3 file"),
        ("damaged", "damaged is damaged"),
        ("untold", "untold is damaged .*metadata"),
        ("absent", "there is no bag at .*absent"),
    ],
)
def test_what_is_no_bag_is_refused_in_a_line(tmp_path: Path, name: str, words: str) -> None:
    path = not_bags(tmp_path)[name]
    with pytest.raises(UserError, match=words) as refused:
        BagReader(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "length", [0, 1, 21], ids=lambda length: f"{length} bytes of message record"
)
def test_a_message_record_too_short_is_no_crash(tmp_path: Path, length: int) -> None:
    path = write_mcap(tmp_path / "bag.mcap", SAID[:3], use_chunking=False, use_statistics=False)
    whole = path.read_bytes()
    head = whole[: whole.index(bytes([Opcode.MESSAGE]) + struct.pack("<Q", 22 + len(SAID[0].raw)))]
    short = struct.pack("<BQ", Opcode.MESSAGE, length) + bytes(length)
    path.write_bytes(head + short + the_end())
    assert list(BagReader(path).messages()) == []


def test_a_chunk_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    """A zstd frame that names its own size would otherwise be given that much memory."""
    path = write_mcap(tmp_path / "bag.mcap", SAID)
    view = memoryview(path.read_bytes())
    record = next(r for r in walk(view, len(MAGIC), len(view)) if r.opcode == Opcode.CHUNK)
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    honest = read_chunk(view, record)
    body = struct.pack("<QQQII4sQ", 0, 1, honest.size, 0, 4, b"zstd", len(bomb)) + bomb
    hostile = memoryview(struct.pack("<BQ", Opcode.CHUNK, len(body)) + body)
    with pytest.raises(DamageError, match=f"unpacks to {1 << 26} bytes instead of {honest.size}"):
        unpack(read_chunk(hostile, next(walk(hostile, 0, len(hostile)))))


def test_an_unfinished_chunk_is_unpacked_no_further_than_it_says() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    chunk = Chunk(0, len(bomb), 0, 1, 5000, 0, "zstd", memoryview(bomb[:-4]))
    tracemalloc.start()
    try:
        assert unpack_beginning(chunk) == bytes(5000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 22


LOOSE = {"use_chunking": False, "enable_crcs": False, "enable_data_crcs": False}


@pytest.mark.parametrize("options", [{}, LOOSE], ids=["chunks", "without checksums"])
@settings(max_examples=100)
@given(data=st.data())
def test_overwritten_files_are_read_or_refused_and_never_worse(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"overwritten{len(options)}.mcap"
    raw = bytearray(write_mcap(path, SAID[:20], **options).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 8))
    junk = data.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8))
    raw[at : at + len(junk)] = junk
    path.write_bytes(raw)
    refused = "is damaged"
    try:
        bag = BagReader(path)
        list(chain(bag.messages(), bag.series(bag.types).items()))
    except UserError as error:
        refused = str(error)
    assert "is damaged" in refused or "of types" in refused
    check(path)


def test_without_a_checksum_of_the_whole_those_of_the_chunks_are_verified(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", SAID, compression=CompressionType.NONE)
    raw = bytearray(path.read_bytes())
    at = raw.index(SAID[0].raw)
    raw[at + 20] ^= 1
    path.write_bytes(raw)
    bag = BagReader(path)
    with pytest.raises(UserError, match=r"the chunk at \d+: its checksum does not match"):
        list(bag.messages())
