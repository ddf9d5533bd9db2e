"""Our serialized messages are rclpy's, byte for byte in meaning."""

import contextlib
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from rl_robot.bags import cdr
from rl_robot.robots.cartesian import Motion
from rl_robot.ros import messages

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), max_size=8
)
NUMBER = st.floats(allow_nan=False)
STAMP = st.integers(0, 2**31 * 10**9 - 1)


@st.composite
def motions(draw: Any) -> Motion:
    names = tuple(draw(NAMES))
    times = draw(st.lists(st.floats(0.0, 1000.0), max_size=6))
    size = len(times) * len(names)
    positions = draw(st.lists(NUMBER, min_size=size, max_size=size))
    return Motion(names, np.array(times), np.array(positions).reshape(len(times), len(names)))


@given(names=NAMES, stamp=STAMP, frame=st.text("abc/é", max_size=7), data=st.data())
def test_a_joint_state_reads_as_rclpy_would_have_written_it(
    names: list[str], stamp: int, frame: str, data: Any
) -> None:
    values = st.lists(NUMBER, min_size=len(names), max_size=len(names))
    positions, velocities = data.draw(values), data.draw(values)
    read = deserialize_message(
        cdr.joint_state_bytes(names, stamp, positions, velocities, frame_id=frame), JointState
    )
    written = messages.joint_state_message(names, stamp, np.array(positions), np.array(velocities))
    written.header.frame_id = frame
    assert read == written


@given(numbers=st.dictionaries(st.text("abc_/", max_size=9), NUMBER, max_size=9), stamp=STAMP)
def test_named_numbers_read_as_rclpy_would_have_written_them(
    numbers: dict[str, float], stamp: int
) -> None:
    read = deserialize_message(cdr.numbers_bytes(numbers, stamp), JointState)
    assert read == messages.numbers_message(numbers, stamp)


@given(motion=motions(), stamp=STAMP, frame=st.text("abc/", max_size=7))
def test_a_trajectory_reads_as_rclpy_would_have_written_it(
    motion: Motion, stamp: int, frame: str
) -> None:
    read = deserialize_message(cdr.trajectory_bytes(motion, stamp, frame), JointTrajectory)
    assert read == messages.trajectory_message(motion, stamp, frame)


@given(names=NAMES, stamp=STAMP, data=st.data())
def test_a_joint_state_that_rclpy_wrote_is_read(names: list[str], stamp: int, data: Any) -> None:
    values = st.lists(NUMBER, min_size=len(names), max_size=len(names))
    positions, velocities = data.draw(values), data.draw(values)
    written = messages.joint_state_message(names, stamp, np.array(positions), np.array(velocities))
    read = cdr.read_joint_state(serialize_message(written))
    assert (read.stamp_ns, read.names) == (stamp, names)
    assert read.positions.tolist() == positions
    assert read.velocities.tolist() == velocities


@given(numbers=st.dictionaries(st.text("abc_/", max_size=9), NUMBER, max_size=9), stamp=STAMP)
def test_named_numbers_that_rclpy_wrote_are_read(numbers: dict[str, float], stamp: int) -> None:
    raw = serialize_message(messages.numbers_message(numbers, stamp))
    assert cdr.read_numbers(raw) == (stamp, numbers)


@given(
    values=st.lists(NUMBER, min_size=7, max_size=7), stamp=STAMP, frame=st.text("ab", max_size=5)
)
def test_a_pose_goes_both_ways(values: list[float], stamp: int, frame: str) -> None:
    written = messages.pose_message(stamp, frame, values[:3], values[3:])
    raw = cdr.pose_bytes(stamp, frame, values[:3], values[3:])
    assert deserialize_message(raw, PoseStamped) == written
    for one in (raw, serialize_message(written)):
        read_stamp, position, quaternion = cdr.read_pose(one)
        assert read_stamp == stamp
        assert [*position, *quaternion] == values


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20))
def test_a_text_reads_as_rclpy_would_have_written_it(text: str) -> None:
    assert cdr.string_bytes(text) == serialize_message(String(data=text))


@given(height=st.integers(1, 5), width=st.integers(1, 5), frame=st.text("ab", max_size=5))
def test_an_image_goes_both_ways(height: int, width: int, frame: str) -> None:
    rgb = np.arange(3 * height * width, dtype=np.uint8).reshape(height, width, 3)
    written = messages.image_message(rgb, 7, frame)
    raw = cdr.image_bytes(rgb, 7, frame)
    assert deserialize_message(raw, Image) == written
    for one in (raw, serialize_message(written)):
        read = cdr.read_image(one)
        assert read[:5] == (7, height, width, "rgb8", 3 * width)
        assert bytes(read.data) == rgb.tobytes()
    with pytest.raises(ValueError, match="bytes"):
        cdr.read_image(raw[:-1])


@given(motion=motions(), stamp=STAMP, frame=st.text("abc/", max_size=7))
def test_a_trajectory_that_rclpy_wrote_is_read(motion: Motion, stamp: int, frame: str) -> None:
    message = messages.trajectory_message(motion, stamp, frame)
    for point in message.points:
        point.velocities = [1.0, 2.0]
    read_stamp, read_frame, read = cdr.read_trajectory(serialize_message(message))
    assert (read_stamp, read_frame, read.names) == (stamp, frame, motion.names)
    np.testing.assert_allclose(read.times, motion.times, atol=1e-9)
    np.testing.assert_array_equal(read.positions, motion.positions)


@given(motion=motions(), data=st.data())
def test_what_is_cut_short_or_damaged_is_refused_or_read_but_never_worse(
    motion: Motion, data: Any
) -> None:
    raw = bytearray(cdr.trajectory_bytes(motion, 5, "policy"))
    cut = data.draw(st.integers(0, len(raw) - 1))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=3)
    ):
        raw[place] = value
    for damaged in (bytes(raw), bytes(raw[:cut])):
        readers = (cdr.read_trajectory, cdr.read_numbers, cdr.read_pose, cdr.read_image)
        for read in readers:
            with contextlib.suppress(ValueError):
                read(damaged)


def test_another_byte_order_is_refused() -> None:
    with pytest.raises(ValueError, match="little-endian"):
        cdr.read_trajectory(b"\x00\x00\x00\x00" + bytes(40))
