"""Whatever is wrong with a bag is found and said in a line of its own; a sound bag says nothing."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
import yaml
from foreign import JOINT_STATE, said, text, write_mcap, write_rosbag2
from mcap.opcode import Opcode

from rl_robot.bags import EpisodeWriter
from rl_robot.bags.check import check
from rl_robot.bags.mcap_records import MAGIC, walk
from rl_robot.errors import UserError

Information = dict[str, Any]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return synthetic.write_episode(tmp_path / "bag", synthetic.metadata(0, "success", 3))


def test_a_sound_bag_and_its_file_alone(bag: Path) -> None:
    assert check(bag) == []
    assert check(bag / "bag.mcap") == []


def test_there_is_no_bag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no bag at"):
        check(tmp_path / "absent")
    with pytest.raises(UserError, match="is not a bag"):
        check(tmp_path)


# --- metadata.yaml -------------------------------------------------------------------------------


def test_metadata_is_missing(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    assert check(bag) == ["metadata.yaml is missing: rosbag2 can't open the bag"]


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"rosbag2_bagfile_information:",
        b"rosbag2_bagfile_information: 7",
        b"rosbag2_bagfile_information: [message_count, relative_file_paths]",
        b"rosbag2_bagfile_information: {message_count: 3}",
        b"rosbag2_bagfile_information: {message_count: 3, relative_file_paths: 3}",
        b"- a list",
        b"{unclosed: [",
        b"\xff\xfe\xfd",
        b"date: 2001-99-99",
        b"[" * 999,
        b"!!python/object/apply:os.getcwd []",
    ],
    ids=lambda contents: repr(contents[:44]),
)
def test_metadata_is_damaged(bag: Path, contents: bytes) -> None:
    (bag / "metadata.yaml").write_bytes(contents)
    assert check(bag) == ["metadata.yaml is damaged: rosbag2 can't open the bag"]


def more(information: Information) -> None:
    information["message_count"] += 1


def elsewhere(information: Information) -> None:
    information["relative_file_paths"] = ["bag_1.mcap"]


def better(information: Information) -> None:
    information["custom_data"]["outcome"] = "truncated"


def nothing(information: Information) -> None:
    del information["custom_data"]


def a_list(information: Information) -> None:
    information["custom_data"] = ["outcome"]


ANOTHER = "metadata.yaml says something else of the episode than the bag does"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (more, "metadata.yaml says 80 messages, there are 79"),
        (elsewhere, "metadata.yaml names the file bag_1.mcap, which is not there"),
        (better, ANOTHER),
        (nothing, ANOTHER),
        (a_list, ANOTHER),
    ],
)
def test_metadata_says_something_else(
    bag: Path, change: Callable[[Information], None], words: str
) -> None:
    document = yaml.safe_load((bag / "metadata.yaml").read_text())
    change(document["rosbag2_bagfile_information"])
    (bag / "metadata.yaml").write_text(yaml.safe_dump(document))
    assert check(bag) == [words]


def test_metadata_of_numbers_says_the_same(tmp_path: Path) -> None:
    """Some writers of YAML leave quotation marks out."""
    path = write_rosbag2(tmp_path / "bag", said(3), custom={"run": "7"})
    document = yaml.safe_load((path / "metadata.yaml").read_text())
    document["rosbag2_bagfile_information"]["custom_data"] = {"run": 7}
    (path / "metadata.yaml").write_text(yaml.safe_dump(document))
    assert check(path) == []


# --- what the bag says ---------------------------------------------------------------------------


def written(path: Path, **changes: Any) -> Path:
    """A bag of two topics, one message of each; ``changes`` to what is written of the second."""
    topics = {"reward": JOINT_STATE, "note": "std_msgs/msg/String"}
    writer = EpisodeWriter(path, topics)
    writer.write("reward", synthetic.numbers("reward", 10**9, {"total": 1.0}), 10**9, 10**18)
    for sequence in changes.get("sequences", [None]):
        writer.write("note", changes.get("raw", text("all well")), 10**9, 10**18, sequence)
    return writer.close(changes.get("metadata", synthetic.metadata(0, "success", 1)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\1\0\0",
        text("cut short")[:-3],
        text("of another order").replace(b"\0\1", b"\0\3", 1),
        text("with more behind it") + bytes(9),
        b"\0\1\0\0" + struct.pack("<I", 2**32 - 1) + b"a\0",
        b"\0\1\0\0" + struct.pack("<I", 3) + b"\xff\xff\0",
        synthetic.numbers("reward", 10**9, {"total": 1.0}),
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_a_message_is_not_of_its_type(tmp_path: Path, raw: bytes) -> None:
    path = written(tmp_path / "bag", raw=raw, sequences=[None, None])
    assert check(path) == ["note: 2 messages are not of type std_msgs/msg/String"]


def test_messages_are_missing(tmp_path: Path) -> None:
    assert check(written(tmp_path / "whole", sequences=[0, 1, 2])) == []
    gap = written(tmp_path / "gap", sequences=[0, 1, 4, 5, 7])
    assert check(gap) == ["/note: 3 messages are missing"]
    late = written(tmp_path / "late", sequences=[2])
    assert check(late) == ["/note: 2 messages are missing"]


def test_numbers_with_gaps_are_no_loss_where_another_recorder_gave_them(tmp_path: Path) -> None:
    assert check(write_mcap(tmp_path / "bag.mcap", said(9)[::3])) == []


def test_the_index_says_something_else(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", said(9), enable_crcs=False)
    raw = bytearray(path.read_bytes())
    view = memoryview(bytes(raw))
    [statistics] = [
        r for r in walk(view, len(MAGIC), len(raw) - len(MAGIC)) if r.opcode == Opcode.STATISTICS
    ]
    raw[statistics.end - 10 : statistics.end] = struct.pack("<HQ", 2, 8)
    path.write_bytes(raw)
    assert check(path) == ["note: the index says 8 messages, there are 3"]


def test_the_episode_is_told_in_part(tmp_path: Path) -> None:
    told = synthetic.metadata(0, "success", 1)
    path = write_rosbag2(
        tmp_path / "part",
        said(3),
        custom={key: value for key, value in told.to_strings().items() if key != "seed"},
    )
    assert check(path) == ["what the episode says of itself is not whole: missing or wrong 'seed'"]
    path = write_rosbag2(tmp_path / "wrong", said(3), custom=told.to_strings() | {"steps": "seven"})
    [problem] = check(path)
    assert problem.endswith("missing or wrong invalid literal for int() with base 10: 'seven'")


def test_a_bag_that_was_repaired_without_its_episode_is_sound(tmp_path: Path) -> None:
    assert check(written(tmp_path / "bag", metadata=None)) == []


# --- what is damaged -----------------------------------------------------------------------------


def test_a_recording_that_was_never_finished(tmp_path: Path) -> None:
    path = synthetic.write_episode(tmp_path / "bag", synthetic.metadata(0, "success", 3))
    part = path.rename(tmp_path / "bag.part")
    assert check(part) == ["the recording was never finished"]
    file = part / "bag.mcap"
    file.write_bytes(file.read_bytes()[:-200])
    first, *losses = check(part)
    assert first == "the recording was never finished"
    assert any("its end is missing: the recording was cut short" in loss for loss in losses)
    file.write_bytes(b"")
    assert check(part)[0] == "the recording was never finished"
    assert len(check(part)) > 1


def test_damage_is_named_by_its_place_and_nothing_is_read_from_it(bag: Path) -> None:
    file = bag / "bag.mcap"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 0x10
    file.write_bytes(raw)
    problems = check(bag)
    assert problems
    assert any(problem.startswith("bytes ") for problem in problems)


def test_nothing_is_changed_by_looking(bag: Path) -> None:
    def contents() -> Mapping[Path, bytes]:
        return {path: path.read_bytes() for path in bag.iterdir()}

    before = contents()
    check(bag)
    assert contents() == before


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    told = replace(synthetic.metadata(0, "success", 1), extra={"host": "bench"})
    path = written(tmp_path / "bag", raw=b"", sequences=[0, 2], metadata=told)
    (path / "metadata.yaml").unlink()
    assert check(path) == [
        "/note: 1 messages are missing",
        "note: 2 messages are not of type std_msgs/msg/String",
        "metadata.yaml is missing: rosbag2 can't open the bag",
    ]
