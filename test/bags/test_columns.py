"""Messages as columns: what the stock decoder says of each, and no more than the bytes hold."""

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from arbitrary import leaves, messages, serialized, to_wire
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.bags import typestore
from rl_robot.bags.columns import columns, find_layout
from rl_robot.bags.messages import fits_type

COMMON = (
    "builtin_interfaces/msg/Time",
    "diagnostic_msgs/msg/DiagnosticArray",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/WrenchStamped",
    "nav_msgs/msg/Odometry",
    "rosgraph_msgs/msg/Clock",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/Imu",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Bool",
    "std_msgs/msg/Empty",
    "std_msgs/msg/Float64MultiArray",
    "std_msgs/msg/Int16MultiArray",
    "std_msgs/msg/String",
    "tf2_msgs/msg/TFMessage",
    "trajectory_msgs/msg/JointTrajectory",
)
JOINT_STATE = "sensor_msgs/msg/JointState"
STRING = "std_msgs/msg/String"


def require_same(message_type: str, raws: list[bytes], decoded: list[Any]) -> None:
    """Every number and text of all messages is in the columns, where it belongs."""
    groups, misfits = columns(message_type, raws)
    assert misfits == []
    assert sorted(row for group in groups for row in group.rows) == list(range(len(raws)))
    for group in groups:
        numbers = {path: group.numbers(path) for path in group.layout.places}
        for at, row in enumerate(group.rows):
            expected = dict(leaves(decoded[row], message_type))
            texts = {path: list(text) for path, text in group.layout.texts.items()}
            found = {path: values[at] for path, values in numbers.items()}
            assert found.keys() | texts.keys() == expected.keys()
            assert {path: expected[path] for path in texts} == texts
            for path, values in found.items():
                assert len(values) == len(expected[path])
                np.testing.assert_array_equal(values, expected[path], err_msg=path)


@pytest.mark.parametrize("message_type", COMMON)
@settings(max_examples=15)
@given(data=st.data())
def test_columns_are_what_the_stock_decoder_says(message_type: str, data: st.DataObject) -> None:
    raws = data.draw(st.lists(serialized(message_type), min_size=1, max_size=6))
    decoded = [typestore().deserialize_cdr(raw, message_type) for raw in raws]
    require_same(message_type, raws, decoded)


@settings(max_examples=60)
@given(data=st.data())
def test_every_stock_type_has_columns(data: st.DataObject) -> None:
    message_type = data.draw(st.sampled_from(sorted(typestore().fielddefs)))
    raw = data.draw(serialized(message_type, most=2))
    require_same(message_type, [raw], [typestore().deserialize_cdr(raw, message_type)])


@settings(max_examples=30)
@given(
    message=messages("trajectory_msgs/msg/JointTrajectory"),
    stamps=st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=9),
)
def test_messages_that_differ_in_numbers_alone_share_a_layout(
    message: Any, stamps: list[int]
) -> None:
    raws = []
    for sec in stamps:
        message.header.stamp.sec = sec
        raws.append(to_wire(message, "trajectory_msgs/msg/JointTrajectory"))
    [group], misfits = columns("trajectory_msgs/msg/JointTrajectory", raws)
    assert misfits == []
    assert group.numbers("header.stamp.sec")[:, 0].tolist() == stamps
    assert group.rows.tolist() == list(range(len(stamps)))


def test_paths_of_all_numbers_below_a_field() -> None:
    pose = find_layout("geometry_msgs/msg/PoseStamped", to_wire(*empty_pose()))
    assert list(pose.places)[2:] == [
        "pose.position.x",
        "pose.position.y",
        "pose.position.z",
        "pose.orientation.x",
        "pose.orientation.y",
        "pose.orientation.z",
        "pose.orientation.w",
    ]
    [group], _ = columns("geometry_msgs/msg/PoseStamped", [to_wire(*empty_pose())])
    assert group.below("pose.position") == [f"pose.position.{axis}" for axis in "xyz"]
    assert group.below("pose.position.x") == ["pose.position.x"]
    assert group.below("pose.pos") == []
    with pytest.raises(KeyError):
        group.numbers("pose.position")


def empty_pose() -> tuple[Any, str]:
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](sec=3, nanosec=4)
    pose = types["geometry_msgs/msg/Pose"](
        position=types["geometry_msgs/msg/Point"](x=1.0, y=2.0, z=3.0),
        orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="base")
    message_type = "geometry_msgs/msg/PoseStamped"
    return types[message_type](header=header, pose=pose), message_type


@pytest.mark.parametrize("message_type", COMMON)
@settings(max_examples=15)
@given(data=st.data())
def test_a_message_cut_short_is_a_misfit(message_type: str, data: st.DataObject) -> None:
    raw = data.draw(serialized(message_type))
    kept = data.draw(st.integers(0, len(raw) - 1))
    groups, misfits = columns(message_type, [raw, raw[:kept]])
    assert misfits == [1]
    assert [group.rows.tolist() for group in groups] == [[0]]


@settings(max_examples=150)
@given(
    message_type=st.sampled_from(COMMON),
    body=st.binary(max_size=120),
    head=st.sampled_from([b"\0\1\0\0", b"\0\0\0\0", b"\0\2\0\0", b"\0\3\0\0", b"\1\1\0\0", b""]),
)
def test_any_bytes_are_a_message_or_a_misfit(message_type: str, body: bytes, head: bytes) -> None:
    groups, misfits = columns(message_type, [head + body])
    assert len(groups) + len(misfits) == 1
    if fits_type(head + body, message_type):
        assert groups
    for group in groups:
        assert head[1] in (0, 1)
        for path in group.layout.places:
            group.numbers(path)


@settings(max_examples=80)
@given(data=st.data(), message_type=st.sampled_from(COMMON))
def test_a_count_that_lies_is_found_out(data: st.DataObject, message_type: str) -> None:
    """Wherever four bytes are overwritten, nothing is read beyond the message, or made for it."""
    raw = bytearray(data.draw(serialized(message_type)))
    at = data.draw(st.integers(1, max(1, (len(raw) - 4) // 4))) * 4
    lie = data.draw(st.sampled_from([2**32 - 1, 2**31, 2**24, 2**16, len(raw), 1, 0]))
    order = "<" if raw[1] else ">"
    raw[at : at + 4] = struct.pack(f"{order}I", lie)
    groups, misfits = columns(message_type, [bytes(raw)])
    assert len(groups) + len(misfits) == 1
    if fits_type(bytes(raw), message_type):
        assert groups
    for group in groups:
        assert all(place.end <= len(raw) for place in group.layout.places.values())


def test_a_huge_count_allocates_nothing() -> None:
    elements = {  # of one sequence each, right at the message's beginning
        "tf2_msgs/msg/TFMessage": 2**32 - 1,
        "std_msgs/msg/Float64MultiArray": 2**31,
        "std_msgs/msg/String": 2**30,
    }
    tracemalloc.start()
    try:
        for message_type, count in elements.items():
            raw = b"\0\1\0\0" + struct.pack("<I", count) + bytes(1000)
            assert columns(message_type, [raw]) == ([], [0])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


def test_a_sequence_of_very_many_messages_is_no_structure_to_go_through() -> None:
    def polygon(points: int) -> bytes:
        return b"\0\1\0\0" + struct.pack("<I", points) + bytes(points * 12)

    groups, misfits = columns("geometry_msgs/msg/Polygon", [polygon(4096), polygon(4097)])
    assert misfits == [1]
    assert groups[0].layout.counts == {"points": 4096}


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(65, 200))
def test_more_layouts_of_one_length_than_are_told_apart(seed: int, count: int) -> None:
    """Beyond the limit each message is read by itself: all are there, once, and right."""
    random = np.random.default_rng(seed)
    chosen = [f"{random.integers(0, 10**6):06}" for _ in range(count)]
    raws = [to_wire(typestore().types[STRING](data=text), STRING) for text in chosen]
    groups, misfits = columns(STRING, raws)
    assert misfits == []
    found = {int(row): g.layout.texts["data"][0] for g in groups for row in g.rows}
    assert sum(len(group.rows) for group in groups) == count
    assert [found[row] for row in range(count)] == chosen


def test_the_good_among_the_bad_keep_their_rows() -> None:
    good = [to_wire(typestore().types[STRING](data=text), STRING) for text in ("ab", "cd", "ab")]
    bad = b"\0\1\0\0" + struct.pack("<I", 99) + b"ab\0"
    groups, misfits = columns(STRING, [bad, good[0], b"", good[1], bad, good[2]])
    assert sorted(misfits) == [0, 2, 4]
    assert {g.layout.texts["data"][0]: g.rows.tolist() for g in groups} == {
        "ab": [1, 5],
        "cd": [3],
    }


def test_bytes_too_many_make_a_misfit() -> None:
    raw = to_wire(typestore().types[STRING](data="three"), STRING)
    _, misfits = columns(STRING, [raw + bytes(surplus) for surplus in range(6)])
    assert sorted(misfits) == [4, 5]  # up to three fill up to words
    assert columns("std_msgs/msg/Bool", [raw]) == ([], [0])


def test_a_text_ends_with_a_zero() -> None:
    whole = to_wire(typestore().types[STRING](data="three"), STRING)
    assert columns(STRING, [whole, whole[:-1] + b"x"])[1] == [1]


def test_no_messages_have_no_columns() -> None:
    assert columns(JOINT_STATE, []) == ([], [])


def test_a_type_of_elsewhere_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        columns("my_msgs/msg/Mine", [b"\0\1\0\0"])
