"""Stock messages to numpy and back. Stamps are integer nanoseconds on our side."""

import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Camera

NANOSECONDS = 1_000_000_000


def to_time(stamp_ns: int) -> Time:
    """Return the message form of a stamp."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def to_ns(stamp: Time) -> int:
    """Return a message's stamp in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a message in nanoseconds."""
    return to_ns(message.header.stamp)


def to_duration(seconds: float) -> Duration:
    """Return the message form of a duration."""
    whole = round(seconds * NANOSECONDS)
    return Duration(sec=whole // NANOSECONDS, nanosec=whole % NANOSECONDS)


def image_message(rgb: np.ndarray, stamp: int, frame_id: str) -> Image:
    """Return an rgb8 Image of an (H, W, 3) uint8 array."""
    message = Image()
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    message.height, message.width = rgb.shape[:2]
    message.encoding = "rgb8"
    message.step = 3 * rgb.shape[1]
    # An array.array is taken as it is; a list of integers would cost 30 ms at 320x240.
    message.data = array.array("B", rgb.tobytes())
    return message


def camera_info_message(camera: Camera, stamp: int) -> CameraInfo:
    """Return the calibration of a camera as the topic <camera>/camera_info carries it."""
    message = CameraInfo()
    message.header.stamp = to_time(stamp)
    message.header.frame_id = camera.frame_id
    message.width, message.height = camera.width, camera.height
    message.distortion_model = "plumb_bob"
    message.d = [float(value) for value in camera.distortion]
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def joint_state_message(
    names: Sequence[str],
    stamp: int,
    positions: np.ndarray,
    velocities: np.ndarray | None = None,
    efforts: np.ndarray | None = None,
) -> JointState:
    """Return a JointState of arrays (n,) in the order of the names."""
    message = JointState()
    message.header.stamp = to_time(stamp)
    message.name = list(names)
    message.position = positions.tolist()
    message.velocity = [] if velocities is None else velocities.tolist()
    message.effort = [] if efforts is None else efforts.tolist()
    return message


def numbers_message(numbers: Mapping[str, float], stamp: int, frame_id: str = "") -> JointState:
    """Return named stamped numbers (action, reward, margins): a JointState every tool plots."""
    message = JointState()
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    message.name = list(numbers)
    message.position = [float(value) for value in numbers.values()]
    return message


def numbers(message: JointState) -> dict[str, float]:
    """Return the named numbers of a message made by `numbers_message`."""
    return dict(zip(message.name, message.position, strict=True))


def trajectory_message(motion: Motion, stamp: int, frame_id: str = "") -> JointTrajectory:
    """Return a joint motion as a JointTrajectory with times from its start."""
    message = JointTrajectory()
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    message.joint_names = list(motion.names)
    message.points = [
        JointTrajectoryPoint(
            positions=positions.tolist(), time_from_start=to_duration(float(seconds))
        )
        for seconds, positions in zip(motion.times, motion.positions, strict=True)
    ]
    return message


def trajectory_times(message: JointTrajectory) -> list[float]:
    """Return the times from start of a trajectory's points in seconds."""
    return [
        point.time_from_start.sec + point.time_from_start.nanosec / NANOSECONDS
        for point in message.points
    ]


def motion(message: JointTrajectory) -> Motion:
    """Return a trajectory from one of our own nodes as a Motion."""
    positions = np.array([point.positions for point in message.points], dtype=float)
    return Motion(tuple(message.joint_names), np.array(trajectory_times(message)), positions)


def pose_message(
    stamp: int, frame_id: str, position: Iterable[float], quaternion: Iterable[float]
) -> PoseStamped:
    """Return a PoseStamped; the quaternion in xyzw order."""
    message = PoseStamped()
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    where, turned = message.pose.position, message.pose.orientation
    where.x, where.y, where.z = (float(value) for value in position)
    turned.x, turned.y, turned.z, turned.w = (float(value) for value in quaternion)
    return message


def pose_arrays(message: PoseStamped) -> tuple[np.ndarray, np.ndarray]:
    """Return position (3,) and quaternion (4,) xyzw of a PoseStamped."""
    where, turned = message.pose.position, message.pose.orientation
    return (
        np.array([where.x, where.y, where.z]),
        np.array([turned.x, turned.y, turned.z, turned.w]),
    )


def yaw_quaternion(yaw: float) -> tuple[float, float, float, float]:
    """Return the xyzw quaternion of a turn about z."""
    return 0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2))


def status_message(
    stamp: int, name: str, message: str, values: Mapping[str, str], level: bytes = b"\x00"
) -> DiagnosticArray:
    """Return a DiagnosticArray with one status: how health and episode state travel."""
    status = DiagnosticStatus(level=level, name=name, message=message)
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    array_message = DiagnosticArray()
    array_message.header.stamp = to_time(stamp)
    array_message.status = [status]
    return array_message


def status_values(status: DiagnosticStatus) -> dict[str, str]:
    """Return the key-value pairs of a status."""
    return {pair.key: pair.value for pair in status.values}
