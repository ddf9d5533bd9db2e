"""Numbers and names put into serialized messages of any type."""

import math
from random import Random

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from rl_robot.bags.cdr import joint_state_bytes, pose_bytes, read_joint_state, trajectory_bytes
from rl_robot.faults.plan import NAMES, NUMBERS
from rl_robot.robots.cartesian import Motion
from rl_robot.ros.tampering import has_field, is_stamped, tamper

JOINTS = ("a", "b", "c")
MOTION = Motion(JOINTS, np.array([0.1, 0.2]), np.ones((2, 3)))


@pytest.mark.parametrize("what", NUMBERS)
def test_one_number_of_a_message_is_replaced(what):
    raw = joint_state_bytes(JOINTS, 5, np.ones(3), np.ones(3))
    places = set()
    for seed in range(40):
        joints = read_joint_state(tamper(JointState, raw, what, Random(seed)))
        assert (joints.stamp_ns, joints.names) == (5, list(JOINTS))
        values = np.concatenate([joints.positions, joints.velocities])
        (place,) = np.flatnonzero(values != 1.0)
        np.testing.assert_equal(values[place], NUMBERS[what])
        places.add(place)
    assert places == set(range(6))


def test_numbers_within_messages_of_a_message_are_reached():
    for seed in range(20):
        raw = tamper(JointTrajectory, trajectory_bytes(MOTION, 5), "nan", Random(seed))
        points = deserialize_message(raw, JointTrajectory).points
        assert sum(math.isnan(value) for point in points for value in point.positions) == 1
    pose = pose_bytes(5, "base", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    for seed in range(20):
        where = deserialize_message(tamper(PoseStamped, pose, "-inf", Random(seed)), PoseStamped)
        parts = (*_parts(where.pose.position, "xyz"), *_parts(where.pose.orientation, "xyzw"))
        assert parts.count(-math.inf) == 1


def _parts(message, names):
    return [getattr(message, name) for name in names]


def test_a_name_becomes_unknown_or_one_of_the_others():
    seen = set()
    for seed in range(60):
        raw = tamper(JointState, joint_state_bytes(JOINTS, 5, np.ones(3)), NAMES, Random(seed))
        joints = read_joint_state(raw)
        np.testing.assert_array_equal(joints.positions, np.ones(3))
        seen |= set(joints.names)
    assert seen == {*JOINTS, "unknown"}


def test_what_has_no_such_field_or_cannot_be_read_is_left_as_it_is():
    empty = joint_state_bytes((), 5, [])
    assert tamper(JointState, empty, "nan", Random(0)) == empty
    text = bytes(serialize_message(String(data="text")))
    assert tamper(String, text, NAMES, Random(0)) == text
    damaged = joint_state_bytes(JOINTS, 5, np.ones(3))[:30]
    assert tamper(JointState, damaged, "nan", Random(0)) == damaged


def test_which_types_have_what():
    numbers = {kind for kind in (JointState, Image, Clock, PoseStamped, Float64MultiArray)
               if has_field(kind, "nan")}  # fmt: skip
    assert numbers == {JointState, PoseStamped, Float64MultiArray}
    assert has_field(JointTrajectory, NAMES)
    assert not has_field(Image, NAMES)
    stamped = {kind for kind in (JointState, Clock, String, Float64MultiArray) if is_stamped(kind)}
    assert stamped == {JointState, Clock}
