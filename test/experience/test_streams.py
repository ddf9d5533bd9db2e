"""Topics as streams: in the order of capture, with everything counted that was done to them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stock import SECOND, stock, topic

from rl_robot.bags import typestore
from rl_robot.bags.messages import Series
from rl_robot.errors import UserError
from rl_robot.experience.bag_map import Source
from rl_robot.experience.streams import RESTART_NS, Stream, read_streams

JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"
IMAGE = "sensor_msgs/msg/Image"
START = 100 * SECOND
MS = SECOND // 1000


def joints(stamp_ns: int, *positions: float, names: Sequence[str] = ("a", "b")) -> bytes:
    return stock(JOINT_STATE, {"name": names, "position": positions}, stamp_ns=stamp_ns)


def read(source: Source, messages: Series) -> tuple[list[Stream], dict[str, int]]:
    """Return the stretches, and what was counted without the topic's name."""
    counts: Counter[str] = Counter()
    streams = read_streams(source, messages, counts)
    head = f"{source.topic}: "
    assert all(kind.startswith(head) for kind in counts)
    return streams, {kind.removeprefix(head): n for kind, n in counts.items() if n}


def stamped(stamps_ns: Sequence[int], **source: Any) -> tuple[list[Stream], dict[str, int]]:
    """Read messages recorded 1 ms apart with these stamps, whose first value is their place."""
    told = [(START + i * MS, joints(stamp, i, 0.0)) for i, stamp in enumerate(stamps_ns)]
    return read(Source("joints", **source), topic(JOINT_STATE, told))


# --- order ---------------------------------------------------------------------------------------


@given(steps=st.lists(st.integers(0, 300 * MS), min_size=1, max_size=12), data=st.data())
def test_a_topic_is_put_in_the_order_of_capture(steps: list[int], data: st.DataObject) -> None:
    """Whatever the order of recording within a second: by stamps, of equal ones the last."""
    stamps = (START + np.cumsum(steps)).tolist()
    near = [s for s in stamps if s < stamps[0] + SECOND]
    given_stamps = data.draw(st.permutations(near)) if len(near) > 1 else near
    [stream], counts = stamped(given_stamps)
    assert stream.stamps_ns.tolist() == sorted(set(near))
    last = {stamp: place for place, stamp in enumerate(given_stamps)}
    assert stream.values[:, 0].tolist() == [last[stamp] for stamp in sorted(set(near))]
    behind = sum(s < max(given_stamps[: i + 1]) for i, s in enumerate(given_stamps))
    expected = {"reordered": behind, "duplicates": len(near) - len(set(near))}
    assert counts == {kind: n for kind, n in expected.items() if n}


def test_times_of_publishing_stay_with_their_messages() -> None:
    [stream], _ = stamped([START + 2, START + 1, START + 3])
    assert stream.published_ns.tolist() == [START + MS * i - 1000 for i in (1, 0, 2)]


def test_a_single_late_message_is_left_out() -> None:
    late = START - RESTART_NS - 1
    [stream], counts = stamped([START, START + 1, late, START + 2])
    assert stream.stamps_ns.tolist() == [START, START + 1, START + 2]
    assert counts == {"late": 1}
    [stream], counts = stamped([START, START + 1, late])  # and nothing more comes
    assert stream.stamps_ns.tolist() == [START, START + 1]
    assert counts == {"late": 1}


def test_a_single_message_stamped_far_ahead_is_left_out() -> None:
    """A damaged stamp is no clock that was set ahead, or the rest would be after a restart."""
    ahead = START + 3 * RESTART_NS
    [stream], counts = stamped([START, START + 1, ahead, START + 2, START + 3])
    assert stream.stamps_ns.tolist() == [START, START + 1, START + 2, START + 3]
    assert counts == {"ahead": 1}
    [stream], counts = stamped([START, START + 1, ahead, ahead + 1])
    assert len(stream.stamps_ns) == 4
    assert counts == {}
    streams, counts = stamped([START, START + 1, ahead, 5, 6])
    assert [len(stream.stamps_ns) for stream in streams] == [3, 2]
    assert counts == {"restarts": 1}


def test_a_second_back_is_reordering_and_more_is_not() -> None:
    [stream], counts = stamped([START, START - RESTART_NS, START - RESTART_NS, START + 1])
    assert len(stream.stamps_ns) == 3
    assert counts == {"reordered": 2, "duplicates": 1}


def test_a_clock_that_restarts_begins_another_stretch() -> None:
    streams, counts = stamped([START, START + 1, 5, 7, 6, START + 8, START + 9, 1, 2])
    assert [s.stamps_ns.tolist() for s in streams] == [
        [START, START + 1],
        [5, 6, 7, START + 8, START + 9],
        [1, 2],
    ]
    assert [s.values[:, 0].tolist() for s in streams] == [[0, 1], [2, 4, 3, 5, 6], [7, 8]]
    assert counts == {"restarts": 2, "reordered": 1}


@given(
    stamps=st.lists(
        st.integers(0, 20).map(lambda tenths: START + tenths * SECOND // 2), min_size=1, max_size=15
    )
)
def test_every_message_is_in_a_stretch_or_counted(stamps: list[int]) -> None:
    streams, counts = stamped(stamps)
    kept = sum(len(stream.stamps_ns) for stream in streams)
    left_out = sum(counts.get(kind, 0) for kind in ("late", "ahead", "duplicates"))
    assert kept + left_out == len(stamps)
    assert len(streams) == counts.get("restarts", 0) + 1
    assert all((np.diff(stream.stamps_ns) > 0).all() for stream in streams)


# --- stamps --------------------------------------------------------------------------------------


def test_what_has_no_stamp_takes_the_time_of_recording() -> None:
    [stream], counts = stamped([START, 0, START + 2 * MS])
    assert stream.stamps_ns.tolist() == [START, START + MS, START + 2 * MS]
    assert counts == {"unstamped": 1}


def test_stamps_that_are_off_are_put_right() -> None:
    [stream], counts = stamped([START, 0, START + 9 * MS], offset_ns=-5)
    assert stream.stamps_ns.tolist() == [START - 5, START + MS - 5, START + 9 * MS - 5]
    assert counts == {"unstamped": 1}


def test_the_time_of_recording_on_demand() -> None:
    [stream], counts = stamped([7, 0, 3], stamp="log", offset_ns=2)
    assert stream.stamps_ns.tolist() == [START + 2, START + MS + 2, START + 2 * MS + 2]
    assert counts == {}


def test_a_type_without_a_header_has_the_time_of_recording() -> None:
    told = [(START + i, stock(ARRAY, {"data": [i]})) for i in range(3)]
    [stream], counts = read(Source("array"), topic(ARRAY, told))
    assert stream.stamps_ns.tolist() == [START, START + 1, START + 2]
    assert counts == {}


def test_a_time_beyond_all_stamps_is_refused() -> None:
    with pytest.raises(UserError, match=r"joints: a message was recorded 18446744073709551615 ns"):
        read(Source("joints"), topic(JOINT_STATE, [(2**64 - 1, joints(START, 1.0, 2.0))]))


def test_the_newest_at_a_tick() -> None:
    [stream], _ = stamped([START + 10, START + 20])
    ticks = np.array([START + 9, START + 10, START + 19, START + 20, START + 99])
    assert stream.newest(ticks).tolist() == [-1, 0, 0, 1, 1]


# --- names and fields ----------------------------------------------------------------------------


def one(source: Source, message_type: str, *raws: bytes) -> tuple[Stream, dict[str, int]]:
    told = [(START + i, raw) for i, raw in enumerate(raws)]
    [stream], counts = read(source, topic(message_type, told))
    return stream, counts


def test_values_go_by_name_whatever_their_order() -> None:
    stream, counts = one(
        Source("joints"),
        JOINT_STATE,
        joints(START, 1.0, 2.0),
        joints(START + 1, 20.0, 10.0, names=("b", "a")),
        joints(START + 2, 0.0, 200.0, 100.0, names=("c", "b", "a")),
    )
    assert stream.components == ("a", "b")
    assert stream.values.tolist() == [[1, 2], [10, 20], [100, 200]]
    assert counts == {}


def test_names_that_were_asked_for() -> None:
    stream, _ = one(Source("joints", names=("b",)), JOINT_STATE, joints(START, 1.0, 2.0))
    assert (stream.components, stream.values.tolist()) == (("b",), [[2.0]])


def test_a_message_that_lacks_a_name_is_left_out() -> None:
    stream, counts = one(
        Source("joints"),
        JOINT_STATE,
        joints(START, 1.0, 2.0),
        joints(START + 1, 1.0, names=("a",)),
        joints(START + 2, 3.0, 4.0),
    )
    assert stream.values.tolist() == [[1, 2], [3, 4]]
    assert counts == {"malformed": 1}


def test_names_are_those_of_the_first_message_that_can_be_used() -> None:
    """One that names values and gives none says nothing of the others."""
    stream, counts = one(
        Source("joints"),
        JOINT_STATE,
        joints(START, names=("x", "y", "z")),
        joints(START + 1, names=()),
        joints(START + 2, 1.0, 2.0),
        joints(START + 3, 3.0, names=("x", "y")),
    )
    assert (stream.components, stream.values.tolist()) == (("a", "b"), [[1, 2]])
    assert counts == {"malformed": 3}


def test_an_array_that_is_empty_at_first_is_left_out() -> None:
    stream, counts = one(
        Source("array"), ARRAY, *(stock(ARRAY, {"data": d}) for d in ([], [1, 2], [3], [4, 5]))
    )
    assert stream.values.tolist() == [[1, 2], [4, 5]]
    assert stream.components == ("data.0", "data.1")
    assert counts == {"malformed": 2}


def test_a_topic_without_any_numbers_has_its_stamps() -> None:
    """As the ticks of a task that looks at nothing but the robot's joints."""
    stream, counts = one(
        Source("ages"), JOINT_STATE, joints(START + 1, names=()), joints(START, names=())
    )
    assert stream.stamps_ns.tolist() == [START, START + 1]
    assert (stream.components, counts) == ((), {"reordered": 1})
    assert stream.take(np.array([0, 1, 1])).shape == (3, 0)


def test_what_is_asked_for_its_stamps_alone_may_say_anything() -> None:
    """Ticks say of each object that was seen so far how old its pose is: first none, then all."""
    source = Source("ages", only_stamps=True)
    raws = [
        joints(START, names=()),
        joints(START + 1, 0.1, names=("a",)),
        joints(START + 2, 0.2, float("nan")),
        joints(START + 3, 0.0, names=("b",)),
        b"",
    ]
    stream, counts = one(source, JOINT_STATE, *raws)
    assert stream.stamps_ns.tolist() == [START, START + 1, START + 2, START + 3]
    assert counts == {"malformed": 1}
    stream, _ = one(source, "sensor_msgs/msg/Range", stock("sensor_msgs/msg/Range", stamp_ns=7))
    assert stream.stamps_ns.tolist() == [7]
    stream, _ = one(source, "std_msgs/msg/String", stock("std_msgs/msg/String"))
    assert stream.stamps_ns.tolist() == [START]


def test_numbers_that_are_not_named_go_by_their_paths() -> None:
    source = Source("t", fields=("position", "header.stamp.sec"))
    stream, _ = one(source, JOINT_STATE, joints(START, 1.0, 2.0))
    assert stream.components == ("a.position", "b.position", "header.stamp.sec")
    assert stream.values.tolist() == [[1.0, 2.0, 100.0]]


def test_several_fields_of_named_values() -> None:
    raw = stock(
        JOINT_STATE,
        {"name": ["a", "b"], "position": [1, 2], "velocity": [3, 4], "effort": []},
        stamp_ns=START,
    )
    source = Source("joints", fields=("velocity", "position"), names=("b", "a"))
    stream, _ = one(source, JOINT_STATE, raw)
    assert stream.components == ("b.velocity", "a.velocity", "b.position", "a.position")
    assert stream.values.tolist() == [[4, 3, 2, 1]]
    with pytest.raises(UserError, match="0 numbers in effort for 2 names"):
        one(Source("joints", fields=("effort",)), JOINT_STATE, raw)


def trajectory(stamp_ns: int, *ends: Sequence[float]) -> bytes:
    points = [{"positions": end, "velocities": np.multiply(end, 10)} for end in ends]
    values = {"joint_names": ["a", "b"], "points": points}
    return stock(TRAJECTORY, values, stamp_ns=stamp_ns)


def test_the_last_of_however_many_points() -> None:
    raws = [
        trajectory(START, [1, 2], [3, 4]),
        trajectory(START + 1, [5, 6]),
        trajectory(START + 2),
        trajectory(START + 3, [0, 0], [0, 0], [7, 8]),
    ]
    stream, counts = one(Source("command"), TRAJECTORY, *raws)
    assert (stream.components, stream.values.tolist()) == (("a", "b"), [[3, 4], [5, 6], [7, 8]])
    assert counts == {"malformed": 1}
    fields = ("points.-1.positions", "points.-1.velocities")
    stream, _ = one(Source("command", fields=fields, names=("b",)), TRAJECTORY, *raws)
    assert stream.components == ("b.positions", "b.velocities")
    assert stream.values.tolist() == [[4, 40], [6, 60], [8, 80]]
    first, _ = one(Source("command", fields=("points.0.positions",)), TRAJECTORY, *raws)
    assert first.values.tolist() == [[1, 2], [5, 6], [0, 0]]


def test_nothing_but_empty_trajectories() -> None:
    with pytest.raises(UserError, match="of its 1 messages none can be used: points is empty"):
        one(Source("command"), TRAJECTORY, trajectory(START))


XYZ = ("x", "y", "z")
POSE = tuple(f"position.{axis}" for axis in XYZ) + tuple(f"orientation.{a}" for a in (*XYZ, "w"))
DEFAULTS = {
    "sensor_msgs/msg/Imu": (
        *(f"orientation.{axis}" for axis in (*XYZ, "w")),
        *(f"angular_velocity.{axis}" for axis in XYZ),
        *(f"linear_acceleration.{axis}" for axis in XYZ),
    ),
    "geometry_msgs/msg/PoseStamped": POSE,
    "geometry_msgs/msg/Pose": POSE,
    "geometry_msgs/msg/TwistStamped": (
        *(f"linear.{axis}" for axis in XYZ),
        *(f"angular.{axis}" for axis in XYZ),
    ),
    "geometry_msgs/msg/Twist": (
        *(f"linear.{axis}" for axis in XYZ),
        *(f"angular.{axis}" for axis in XYZ),
    ),
    "geometry_msgs/msg/WrenchStamped": (
        *(f"force.{axis}" for axis in XYZ),
        *(f"torque.{axis}" for axis in XYZ),
    ),
    "geometry_msgs/msg/Wrench": (
        *(f"force.{axis}" for axis in XYZ),
        *(f"torque.{axis}" for axis in XYZ),
    ),
    "std_msgs/msg/Float64": ("data",),
    "std_msgs/msg/Float32": ("data",),
    "std_msgs/msg/Bool": ("data",),
}


@pytest.mark.parametrize("message_type", DEFAULTS)
def test_types_of_robots_have_fields_by_default_and_each_number_its_own_name(
    message_type: str,
) -> None:
    stream, counts = one(Source("t"), message_type, stock(message_type, stamp_ns=START))
    assert stream.components == DEFAULTS[message_type]
    assert stream.values.shape == (1, len(set(stream.components)))
    assert counts == {}


def test_single_fields_of_any_type() -> None:
    values = {"pose": {"position": {"x": 1.0, "y": 2.0, "z": 3.0}}}
    raw = stock("geometry_msgs/msg/PoseStamped", values, stamp_ns=START)
    cases = {
        ("pose.position",): (("x", "y", "z"), [1, 2, 3]),
        ("pose.position.z",): (("pose.position.z",), [3]),
        ("pose.position.z", "pose.position.x"): (("pose.position.z", "pose.position.x"), [3, 1]),
    }
    for fields, (components, numbers) in cases.items():
        stream, _ = one(Source("t", fields=fields), "geometry_msgs/msg/PoseStamped", raw)
        assert (stream.components, stream.values[0].tolist()) == (components, numbers)


@pytest.mark.parametrize(
    ("message_type", "fields", "words"),
    [
        ("sensor_msgs/msg/Range", (), "its type has no default: say which with fields"),
        ("sensor_msgs/msg/Range", ("distance",), "there is no distance in it"),
        ("sensor_msgs/msg/JointState", ("name",), "there is no name in it"),
        ("sensor_msgs/msg/Range", ("ranges.-1",), "ranges is empty"),
        ("sensor_msgs/msg/Range", ("header.frame_id",), "there is no header.frame_id in it"),
    ],
)
def test_fields_that_are_not_there(message_type: str, fields: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=f"t: of its 1 messages none can be used: {words}"):
        one(Source("t", fields=fields), message_type, stock(message_type, stamp_ns=START))


def test_a_type_of_elsewhere_and_a_topic_of_nothing() -> None:
    with pytest.raises(UserError, match="t is of type my_msgs/msg/Mine, which is no stock type"):
        one(Source("t"), "my_msgs/msg/Mine", b"\0\1\0\0")
    with pytest.raises(UserError, match="t: the bag holds no message of it"):
        read(Source("t"), topic(JOINT_STATE, []))


# --- what can't be used --------------------------------------------------------------------------


def test_what_is_malformed_or_not_finite_is_left_out_and_counted() -> None:
    whole = joints(START, 1.0, 2.0)
    stream, counts = one(
        Source("joints"),
        JOINT_STATE,
        whole,
        whole[:-3],
        b"",
        joints(START + 1, float("nan"), 0.0),
        joints(START + 2, 0.0, float("-inf")),
        joints(START + 3, 3.0, 4.0),
    )
    assert stream.values.tolist() == [[1, 2], [3, 4]]
    assert stream.stamps_ns.tolist() == [START, START + 3]
    assert counts == {"malformed": 2, "not finite": 2}


def test_nothing_can_be_used() -> None:
    nan = joints(START, float("nan"), 0.0)
    with pytest.raises(UserError, match="of its 2 messages none can be used: not finite numbers"):
        one(Source("joints"), JOINT_STATE, nan, nan)
    with pytest.raises(UserError, match="none can be used: it does not name c, but a, b"):
        one(Source("joints", names=("c",)), JOINT_STATE, joints(START, 1.0, 2.0))
    with pytest.raises(UserError, match="none can be used: not a sensor_msgs/msg/JointState"):
        one(Source("joints"), JOINT_STATE, b"\0\1\0\0")


def test_byte_orders_are_mixed_and_the_numbers_are_the_same() -> None:
    little = joints(START, 1.5, -2.5)
    message = typestore().deserialize_cdr(little, JOINT_STATE)
    message.header.stamp.nanosec = 1
    big = bytes(typestore().serialize_cdr(message, JOINT_STATE, little_endian=False))
    stream, counts = one(Source("joints"), JOINT_STATE, little, big)
    assert stream.stamps_ns.tolist() == [START, START + 1]
    assert stream.values.tolist() == [[1.5, -2.5], [1.5, -2.5]]
    assert stream.values.dtype == np.float64
    assert stream.values.dtype.isnative
    assert counts == {}


# --- pictures ------------------------------------------------------------------------------------


def picture(stamp_ns: int, shade: int) -> bytes:
    values = {"height": 2, "width": 2, "encoding": "rgb8", "step": 6, "data": [shade] * 12}
    return stock(IMAGE, values, stamp_ns=stamp_ns)


def test_pictures_are_read_when_they_are_taken() -> None:
    told = [
        (START + i, raw)
        for i, raw in enumerate(
            [picture(START + 9, 90), b"short", picture(START + 3, 30), picture(START + 6, 60)[:-1]]
        )
    ]
    [stream], counts = read(Source("camera", size=(2, 2)), topic(IMAGE, told))
    assert stream.components == ()
    assert stream.stamps_ns.tolist() == [START + 3, START + 6, START + 9]
    assert counts == {"malformed": 1, "reordered": 2}
    taken = stream.take(np.array([0, 0, 2, 2, 2]))
    assert taken.shape == (5, 2, 2, 3)
    assert taken[:, 0, 0, 0].tolist() == [30, 30, 90, 90, 90]
    with pytest.raises(ValueError, match="is not a sensor_msgs/msg/Image"):
        stream.take(np.array([1]))


def test_numbers_are_taken_by_rows() -> None:
    [stream], _ = stamped([START, START + 1, START + 2])
    assert stream.take(np.array([0, 2, 2]))[:, 0].tolist() == [0, 2, 2]
