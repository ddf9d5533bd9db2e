import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.experience.alignment import SnapshotAssembler, yaw_of_quaternion
from rl_robot.robots.description import load_robot

ROBOT = load_robot("arm")
STAMPS = st.lists(st.integers(0, 10**9), min_size=1, max_size=20)


def joint_state(value):
    return ROBOT.joint_names, np.full(len(ROBOT.joint_names), value), np.zeros(7)


@given(STAMPS, STAMPS, st.integers(0, 10**9))
def test_a_snapshot_holds_the_newest_data_up_to_its_tick_and_exact_ages(joints, poses, tick):
    assembler = SnapshotAssembler(ROBOT, ["block"])
    for stamp in joints:
        assembler.add_joint_state(stamp, *joint_state(stamp * 1e-9))
    for stamp in poses:
        assembler.add_object_pose("block", stamp, [stamp * 1e-9, 0, 0], 0.0)
    seen_joints = [stamp for stamp in joints if stamp <= tick]
    seen_poses = [stamp for stamp in poses if stamp <= tick]
    snapshot = assembler.at(tick)
    if not (seen_joints and seen_poses):
        assert snapshot is None
        assert assembler.missing(tick)
        return
    assert snapshot.time_ns == tick
    assert snapshot.joint_positions[0] == max(seen_joints) * 1e-9
    assert snapshot.joint_age == (tick - max(seen_joints)) * 1e-9
    assert snapshot.objects["block"].position[0] == max(seen_poses) * 1e-9
    assert snapshot.objects["block"].age == (tick - max(seen_poses)) * 1e-9


def test_what_is_missing_is_named():
    assembler = SnapshotAssembler(ROBOT, ["block"], needs_goal=True, needs_image=True)
    assert assembler.missing() == ["joint states", "block pose", "goal", "image"]
    assembler.add_joint_state(5, *joint_state(0.1))
    assembler.add_object_pose("block", 5, [0.4, 0, 0], 0.0)
    assembler.set_goal([0.4, 0.0, 0.2])
    assembler.add_image(6, np.zeros((64, 64, 3), np.uint8))
    assert assembler.missing() == []
    assert assembler.at(5) is None
    assert assembler.missing(5) == ["image"]
    snapshot = assembler.at(10)
    assert snapshot.image_age == pytest.approx(4e-9)
    assert snapshot.goal == pytest.approx([0.4, 0.0, 0.2])
    assembler.clear()
    assert assembler.at(10) is None


def test_joints_are_put_in_the_robots_order_and_others_ignored():
    assembler = SnapshotAssembler(ROBOT)
    names = [*reversed(ROBOT.joint_names), "wheel"]
    assembler.add_joint_state(1, names, np.arange(8) * 0.01, np.arange(8) * 0.1)
    snapshot = assembler.at(1)
    assert snapshot.joint_positions == pytest.approx(np.arange(7)[::-1] * 0.01)
    assert snapshot.joint_velocities == pytest.approx(np.arange(7)[::-1] * 0.1)
    assert snapshot.aperture == pytest.approx(2 * snapshot.joint_positions[-1])


def test_the_tool_pose_follows_from_the_measured_joints():
    assembler = SnapshotAssembler(ROBOT)
    positions = ROBOT.home_positions.copy()
    assembler.add_joint_state(1, ROBOT.joint_names, positions, np.zeros(7))
    home = assembler.at(1)
    positions[0] += 0.5  # the first joint turns about the vertical
    assembler.add_joint_state(2, ROBOT.joint_names, positions, np.zeros(7))
    turned = assembler.at(2)
    cos, sin = math.cos(0.5), math.sin(0.5)
    x, y, z = home.tool_position
    assert turned.tool_position == pytest.approx([cos * x - sin * y, sin * x + cos * y, z])
    assert turned.tool_yaw - home.tool_yaw == pytest.approx(0.5)


@given(st.floats(-3.1, 3.1))
def test_an_orientation_is_a_yaw_or_a_quaternion(yaw):
    quaternion = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    assert yaw_of_quaternion(quaternion) == pytest.approx(yaw)
    assembler = SnapshotAssembler(ROBOT, ["block"])
    assembler.add_joint_state(0, *joint_state(0.0))
    for stamp, orientation in ((0, yaw), (1, quaternion)):
        assembler.add_object_pose("block", stamp, [0, 0, 0], orientation)
        assert assembler.at(stamp).objects["block"].yaw == pytest.approx(yaw)


def test_malformed_data_is_refused():
    assembler = SnapshotAssembler(ROBOT, ["block"])
    names, positions, velocities = joint_state(0.0)
    with pytest.raises(ValueError, match="lacks elbow"):
        assembler.add_joint_state(1, [n for n in names if n != "elbow"], np.zeros(6), np.zeros(6))
    with pytest.raises(ValueError, match="finite"):
        assembler.add_joint_state(1, names, positions * np.nan, velocities)
    with pytest.raises(ValueError, match="velocities"):
        assembler.add_joint_state(1, names, positions, [])
    with pytest.raises(ValueError, match="unknown object"):
        assembler.add_object_pose("cup", 1, [0, 0, 0], 0.0)
    with pytest.raises(ValueError, match="finite"):
        assembler.add_object_pose("block", 1, [0, 0, np.inf], 0.0)
    assert assembler.missing() == ["joint states", "block pose"]
