"""Puts sensor data of different ages together as they stood at one control tick.

Everything is ordered by capture time, never by arrival: a snapshot holds the newest data captured
at or before its tick, and says how old each part was. So a node that runs late, and a trainer that
reads the bag a week later, build the same snapshot.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.robots.description import Robot
from rl_robot.robots.kinematics import Kinematics, tool_yaw

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

_NEWEST = 2**63 - 1  # later than any stamp
_KEPT = 256  # samples per stream: 2.5 s of joint states at 100 Hz


@dataclass(frozen=True)
class ObjectPose:
    """Pose of an object as last seen: position (3,) in m, yaw in rad, base frame; age in s."""

    position: Array
    yaw: float
    age: float


@dataclass(frozen=True)
class Snapshot:
    """What was known at a tick. Joints in the order of ``robot.joint_names``; ages in s.

    The tool pose follows from the measured arm joints. ``aperture`` (m) and ``aperture_rate``
    (m/s) are the gripper encoder's; None for a robot without a gripper.
    """

    time_ns: int
    joint_positions: Array
    joint_velocities: Array
    joint_age: float
    tool_position: Array
    tool_yaw: float
    objects: dict[str, ObjectPose]
    goal: Array | None
    image: Image | None
    image_age: float
    aperture: float | None
    aperture_rate: float | None


@dataclass(order=True, frozen=True)
class _Stamped:
    stamp_ns: int
    order: int  # of two with one stamp, the later arrival wins
    data: Any


class _Stream:
    """Recent samples of one topic, ordered by capture time."""

    def __init__(self) -> None:
        self._samples: list[_Stamped] = []
        self._arrivals = 0

    def add(self, stamp_ns: int, data: Any) -> None:
        self._arrivals += 1
        insort(self._samples, _Stamped(stamp_ns, self._arrivals, data))
        del self._samples[:-_KEPT]

    def at(self, tick_ns: int) -> _Stamped | None:
        index = bisect_right(self._samples, tick_ns, key=lambda sample: sample.stamp_ns)
        return self._samples[index - 1] if index else None


def yaw_of_quaternion(quaternion: Sequence[float] | Array) -> float:
    """Return the yaw in rad of a rotation about a vertical axis; quaternion in xyzw order."""
    x, y, z, w = quaternion
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def _finite(values: Sequence[float] | Array, shape: tuple[int, ...], what: str) -> Array:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{what}: expected {shape} finite numbers, got {values}")
    return array


class SnapshotAssembler:
    """Collects stamped data in any order and assembles them at a tick."""

    def __init__(
        self,
        robot: Robot,
        objects: Sequence[str] = (),
        *,
        needs_objects: bool = True,
        needs_goal: bool = False,
        needs_image: bool = False,
    ) -> None:
        """Assemble snapshots of ``robot`` that need ``objects`` and, where asked, more.

        Without ``needs_objects`` a snapshot holds those of the objects that were seen.
        """
        self._robot = robot
        self._kinematics = Kinematics(robot)
        self._names = tuple(robot.joint_names)
        self._arm = [self._names.index(name) for name in robot.arm_joints]
        self._gripper = self._names.index(robot.gripper.joint) if robot.gripper else None
        self._objects = tuple(objects)
        self._needed_objects = self._objects if needs_objects else ()
        self._needs_goal = needs_goal
        self._needs_image = needs_image
        self.clear()

    def clear(self) -> None:
        """Forget all data, as at the start of an episode."""
        self._joints = _Stream()
        self._poses = {name: _Stream() for name in self._objects}
        self._images = _Stream()
        self._goal: Array | None = None

    def add_joint_state(
        self,
        stamp_ns: int,
        names: Sequence[str],
        positions: Sequence[float] | Array,
        velocities: Sequence[float] | Array,
    ) -> None:
        """Add a joint state (n,) in rad or m and per second; joints in any order, others ignored.

        Raises:
            ValueError: a joint of the robot is missing, or a number is not finite.
        """
        missing = set(self._names) - set(names)
        if missing:
            raise ValueError(f"joint state lacks {', '.join(sorted(missing))}")
        order = [list(names).index(name) for name in self._names]
        shape = (len(names),)
        measured = _finite(positions, shape, "joint positions")[order]
        rates = _finite(velocities, shape, "joint velocities")[order]
        self._joints.add(stamp_ns, (measured, rates))

    def add_object_pose(
        self,
        name: str,
        stamp_ns: int,
        position: Sequence[float] | Array,
        orientation: float | Sequence[float] | Array,
    ) -> None:
        """Add an object's pose, captured at ``stamp_ns``, in the base frame.

        ``position`` (3,) in m; ``orientation``: yaw in rad, or a quaternion (4,) in xyzw order.
        A pose that perception holds while the object is hidden keeps the stamp of its capture.

        Raises:
            ValueError: an object that nobody asked for, or a number that is not finite.
        """
        if name not in self._poses:
            raise ValueError(f"unknown object {name!r}: expected {', '.join(self._objects)}")
        place = _finite(position, (3,), f"position of {name}")
        if np.ndim(orientation) == 0:
            yaw = float(_finite(np.array(orientation), (), f"yaw of {name}"))
        else:
            yaw = yaw_of_quaternion(_finite(np.array(orientation), (4,), f"quaternion of {name}"))
        self._poses[name].add(stamp_ns, (place, yaw))

    def add_image(self, stamp_ns: int, image: Image) -> None:
        """Add a policy-sized image (64, 64, 3), RGB."""
        self._images.add(stamp_ns, image)

    def set_goal(self, goal: Sequence[float] | Array | None) -> None:
        """Set the episode's goal (3,) in m, base frame."""
        self._goal = None if goal is None else _finite(goal, (3,), "goal")

    def missing(self, tick_ns: int | None = None) -> list[str]:
        """Name what a snapshot at ``tick_ns`` still lacks; by default, what never came."""
        if tick_ns is None:
            tick_ns = _NEWEST
        lacking = [] if self._joints.at(tick_ns) else ["joint states"]
        unseen = [name for name in self._needed_objects if not self._poses[name].at(tick_ns)]
        lacking += [f"{name} pose" for name in unseen]
        if self._needs_goal and self._goal is None:
            lacking.append("goal")
        if self._needs_image and not self._images.at(tick_ns):
            lacking.append("image")
        return lacking

    def at(self, tick_ns: int) -> Snapshot | None:
        """Return the newest data captured at or before ``tick_ns``; None while some is missing."""
        if self.missing(tick_ns):
            return None
        joints = self._joints.at(tick_ns)
        assert joints is not None
        positions, velocities = joints.data
        tool_position, tool_rotation = self._kinematics.tool_pose(positions[self._arm])
        image = self._images.at(tick_ns)
        return Snapshot(
            time_ns=tick_ns,
            joint_positions=positions,
            joint_velocities=velocities,
            joint_age=_age(tick_ns, joints),
            tool_position=tool_position,
            tool_yaw=tool_yaw(tool_rotation),
            objects={
                name: self._pose_at(name, tick_ns)
                for name in self._objects
                if self._poses[name].at(tick_ns)
            },
            goal=self._goal,
            image=image.data if image else None,
            image_age=_age(tick_ns, image) if image else math.inf,
            # both fingers move by the joint's position
            aperture=None if self._gripper is None else 2.0 * float(positions[self._gripper]),
            aperture_rate=None if self._gripper is None else 2.0 * float(velocities[self._gripper]),
        )

    def _pose_at(self, name: str, tick_ns: int) -> ObjectPose:
        pose = self._poses[name].at(tick_ns)
        assert pose is not None
        position, yaw = pose.data
        return ObjectPose(position=position, yaw=yaw, age=_age(tick_ns, pose))


def _age(tick_ns: int, sample: _Stamped) -> float:
    return (tick_ns - sample.stamp_ns) * 1e-9
