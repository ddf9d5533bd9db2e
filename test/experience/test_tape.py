"""Bags as they are played: which ones, under which names, in which order."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from rl_robot.bags import EpisodeMetadata, EpisodeWriter, typestore
from rl_robot.bags.messages import starts_with_stamp
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.errors import UserError
from rl_robot.experience.tape import Tape, named_bags, parse_names, restamped

NUMBERS = "sensor_msgs/msg/JointState"
PRESSED = "sensor_msgs/msg/CompressedImage"
PICTURE = "sensor_msgs/msg/Image"
TEXT = "std_msgs/msg/String"
METADATA = EpisodeMetadata(
    episode=0,
    robot="arm",
    task="grasp",
    split="test",
    index=0,
    start="{}",
    policy="script",
    policy_version="0",
    seed=0,
    outcome="success",
)


def header(stamp: int) -> Any:
    types = typestore().types
    time = types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
    return types["std_msgs/msg/Header"](time, "base")


def numbers(stamp: int, value: float = 0.0) -> bytes:
    kind = typestore().types[NUMBERS]
    message = kind(header(stamp), ["a"], np.array([value]), np.empty(0), np.empty(0))
    return bytes(typestore().serialize_cdr(message, NUMBERS))


def compressed(stamp: int, rgb: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", rgb[:, :, ::-1])
    message = typestore().types[PRESSED](header(stamp), "png", data.ravel())
    return bytes(typestore().serialize_cdr(message, PRESSED))


def text(value: str) -> bytes:
    return bytes(typestore().serialize_cdr(typestore().types[TEXT](value), TEXT))


def foreign(path: Path, messages: list[tuple[str, str, int, bytes]]) -> Path:
    """Write a bag of another recorder: topic, type, log time, message."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {topic: kind for topic, kind, _, _ in messages}
        channels = {
            topic: writer.add_connection(topic, kind, typestore=typestore())
            for topic, kind in kinds.items()
        }
        for topic, _, log_ns, raw in messages:
            writer.write(channels[topic], log_ns, raw)
    return path


# --- which bags --------------------------------------------------------------------------------


def bag(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return EpisodeWriter(path, {"reward": NUMBERS}).close(METADATA)


def test_a_run_a_folder_and_a_bag_are_found_in_order(tmp_path: Path) -> None:
    run = [bag(tmp_path / "run" / "episodes" / f"episode_{i:06d}") for i in (1, 0)]
    (tmp_path / "run" / "episodes" / "episode_000002.part").mkdir()
    loose = bag(tmp_path / "folder" / "mine")
    (tmp_path / "folder" / "notes").mkdir()
    named = f"{tmp_path / 'run'}, {tmp_path / 'folder'},{run[0]}"
    assert named_bags(named) == [run[1], run[0], loose, run[0]]


@pytest.mark.parametrize(
    ("given_text", "message"),
    [
        ("", "bag is missing"),
        (" , ", "bag is missing"),
        ("nowhere", "no bag at nowhere"),
        (".", "holds no bags"),
    ],
)
def test_what_is_no_bag_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        named_bags(given_text)


# --- names -------------------------------------------------------------------------------------


def test_topics_get_other_names() -> None:
    names = parse_names("/front/image=camera/image_raw, joints = joint_states,")
    assert names == {"front/image": "camera/image_raw", "joints": "joint_states"}
    assert parse_names("") == {}


@pytest.mark.parametrize("rule", ["a", "a=", "=b", "=", "/=b"])
def test_a_rule_of_another_form_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match=r"expected /their/topic=our/topic"):
        parse_names(rule)


def test_two_topics_can_not_have_one_name() -> None:
    with pytest.raises(UserError, match="one topic of the bag only"):
        parse_names("a=c,b=c")


def test_a_renamed_topic_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = foreign(tmp_path / "bag", [("/joints", NUMBERS, 1, numbers(1))])
    with pytest.raises(UserError, match="has no topic arms; it has joints"):
        Tape(path, {"arms": "joint_states"})


# --- order -------------------------------------------------------------------------------------


def test_a_foreign_bag_is_in_the_order_of_capture(tmp_path: Path) -> None:
    """A picture that took 80 ms to arrive was logged after joint states captured later."""
    start = 5_000_000_000
    said = [
        ("/joints", NUMBERS, start + 1, numbers(start + 10)),
        ("/about", TEXT, start + 2, text("arm")),
        ("/joints", NUMBERS, start + 3, numbers(start + 30)),
        ("/slow", NUMBERS, start + 4, numbers(start + 20)),
    ]
    tape = Tape(foreign(tmp_path / "bag", said), {"joints": "joint_states"})
    assert not tape.is_episode
    played = [(m.topic, m.log_ns - start) for m in tape.messages(["joint_states", "slow", "about"])]
    assert played == [("joint_states", 10), ("about", 10), ("slow", 20), ("joint_states", 30)]


def test_our_own_bag_keeps_its_order_and_its_names(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "bag", {"reward": NUMBERS, "goal": TEXT}, namespace="/left")
    for log_ns, stamp in ((1, 9), (2, 5), (3, 7)):
        writer.write("reward", numbers(stamp), log_ns, 0)
    tape = Tape(writer.close(METADATA))
    assert tape.is_episode
    assert tape.types == {"reward": NUMBERS}  # of what was never said there is nothing to play
    assert tape.counts == {"reward": 3}
    assert [m.log_ns for m in tape.messages(["reward"])] == [1, 2, 3]


def test_a_message_without_its_stamp_is_named(tmp_path: Path) -> None:
    tape = Tape(foreign(tmp_path / "bag", [("/joints", NUMBERS, 1, b"\0\1\0\0\0")]))
    with pytest.raises(UserError, match="a message of joints is cut short"):
        list(tape.messages(["joints"]))


# --- pictures ----------------------------------------------------------------------------------


def test_a_compressed_picture_is_played_as_the_picture(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    said = [("/camera/image_raw/compressed", PRESSED, 3, compressed(3, rgb))]
    tape = Tape(foreign(tmp_path / "bag", said))
    assert tape.types == {"camera/image_raw": PICTURE}
    (played,) = tape.messages(["camera/image_raw"])
    assert (played.topic, played.type, played.log_ns) == ("camera/image_raw", PICTURE, 3)
    picture: Any = typestore().deserialize_cdr(played.raw, PICTURE)
    assert (picture.encoding, picture.step, header_stamp_ns(played.raw)) == ("bgr8", 24, 3)
    np.testing.assert_array_equal(picture.data.reshape(rgb.shape)[:, :, ::-1], rgb)


def test_of_a_picture_recorded_both_ways_the_raw_one_is_played(tmp_path: Path) -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    picture = typestore().types[PICTURE](header(3), 2, 2, "rgb8", 0, 6, rgb.ravel())
    said = [
        ("/camera/image_raw/compressed", PRESSED, 3, compressed(3, rgb)),
        ("/camera/image_raw", PICTURE, 3, bytes(typestore().serialize_cdr(picture, PICTURE))),
    ]
    tape = Tape(foreign(tmp_path / "bag", said))
    assert tape.types["camera/image_raw"] == PICTURE
    assert len(list(tape.messages(["camera/image_raw"]))) == 1


def test_a_picture_that_is_none_is_named(tmp_path: Path) -> None:
    pressed = typestore().types[PRESSED](header(3), "png", np.zeros(9, np.uint8))
    raw = bytes(typestore().serialize_cdr(pressed, PRESSED))
    tape = Tape(foreign(tmp_path / "bag", [("/camera/image_raw/compressed", PRESSED, 3, raw)]))
    with pytest.raises(UserError, match=r"camera/image_raw/compressed: a compressed picture is no"):
        list(tape.messages(["camera/image_raw"]))


# --- stamps ------------------------------------------------------------------------------------


@given(stamp=st.integers(1, 2**60), later=st.integers(0, 2**59), value=st.floats(-1e9, 1e9))
def test_a_message_stamped_later_and_back_is_itself(stamp: int, later: int, value: float) -> None:
    raw = numbers(stamp, value)
    moved = restamped(raw, later)
    assert header_stamp_ns(moved) == stamp + later
    assert restamped(moved, -later) == raw
    assert moved[12:] == raw[12:]


def test_a_stamp_of_0_stays() -> None:
    assert restamped(numbers(0), 5) == numbers(0)


def test_types_with_and_without_a_stamp() -> None:
    assert starts_with_stamp(NUMBERS)
    assert starts_with_stamp("rosgraph_msgs/msg/Clock")
    assert not starts_with_stamp(TEXT)
    assert not starts_with_stamp("somebody/msg/Elses")
