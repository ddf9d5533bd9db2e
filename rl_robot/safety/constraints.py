"""What the safety filter keeps, one small class each. `chain.py` makes them from a robot's YAML.

Three kinds. Limits of single joints narrow what their motion is planned with. Others hold a joint's
goal back before it is planned. The rest look at a planned motion, its stop included, and say how
much room it leaves; what leaves too little is not sent.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import sub
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rl_robot.robots.description import Joint
from rl_robot.safety.geometry import FAR, Geometry
from rl_robot.safety.planner import Bounds, Goal

Array = npt.NDArray[np.float64]

# Where a limit is switched off, planning still needs a number.
UNBOUNDED = Bounds(-1e6, 1e6, 1e3, 1e5, 1e7)
_ROUNDING = 1e-9  # m or m/s
#: m kept at the samples on top of a distance
CLEARANCE_RESERVE = 0.001
_SIDES = tuple(f"tool {sign}{axis}" for sign in "-+" for axis in "xyz")  # of the workspace
_TOOL_RESERVE = 0.95


class JointConstraint(Protocol):
    """Limits the motion of each joint."""

    name: ClassVar[str]

    def narrow(self, joint: Joint, bounds: Bounds) -> Bounds:
        """Return ``bounds``, narrowed by what this constraint allows ``joint``."""


@dataclass(frozen=True)
class PositionLimits:
    """Keeps joints inside their position limits, ``margin`` away: rad or m, by joint or 0."""

    name: ClassVar[str] = "position"
    margin: Mapping[str, float] = field(default_factory=dict)

    def narrow(self, joint: Joint, bounds: Bounds) -> Bounds:
        """See `JointConstraint`."""
        margin = self.margin.get(joint.name, 0.0)
        return replace(bounds, lower=joint.lower + margin, upper=joint.upper - margin)


@dataclass(frozen=True)
class VelocityLimits:
    """Keeps joints below ``scale`` (0, 1] of their velocity limits."""

    name: ClassVar[str] = "velocity"
    scale: float = 1.0

    def narrow(self, joint: Joint, bounds: Bounds) -> Bounds:
        """See `JointConstraint`."""
        return replace(bounds, velocity=self.scale * joint.velocity)


@dataclass(frozen=True)
class AccelerationLimits:
    """Keeps joints below ``scale`` (0, 1] of their acceleration limits."""

    name: ClassVar[str] = "acceleration"
    scale: float = 1.0

    def narrow(self, joint: Joint, bounds: Bounds) -> Bounds:
        """See `JointConstraint`."""
        return replace(bounds, acceleration=self.scale * joint.acceleration)


@dataclass(frozen=True)
class JerkLimits:
    """Keeps joints below ``scale`` (0, 1] of their jerk limits."""

    name: ClassVar[str] = "jerk"
    scale: float = 1.0

    def narrow(self, joint: Joint, bounds: Bounds) -> Bounds:
        """See `JointConstraint`."""
        return replace(bounds, jerk=self.scale * joint.jerk)


class Measured(NamedTuple):
    """What the joints' sensors said last: (n,) each, SI units; NaN where they say nothing."""

    positions: Array
    efforts: Array


@dataclass(frozen=True)
class GripperForce:
    """Does not close the gripper further on what it presses with ``limit`` N already.

    Attributes:
        joint: index of the gripper's joint.
        limit: N, of the joint's measured effort.
    """

    name: ClassVar[str] = "gripper_force"
    joint: int
    limit: float

    def reached(self, measured: Measured) -> bool:
        """Whether the gripper presses with the limit or more."""
        return bool(abs(measured.efforts[self.joint]) >= self.limit)

    def presses(self, goal: Goal, commanded: float, measured: Measured) -> bool:
        """Whether a goal lies, or is passed, in the direction of the measured force.

        As seen from where the gripper is ``commanded`` to be.
        """
        direction = np.sign(measured.efforts[self.joint])
        return bool(max(direction * (goal.position - commanded), direction * goal.velocity) > 0.0)

    def room(self, measured: Measured) -> float:
        """Return the force in N that is left to the limit; the limit where none is measured."""
        effort = float(measured.efforts[self.joint])
        return self.limit - (abs(effort) if math.isfinite(effort) else 0.0)


class Sweep:
    """A planned motion of the whole robot, as the constraints look at it: the stop included."""

    def __init__(self, geometry: Geometry, positions: Array, velocities: Array) -> None:
        """Look at samples (K, n) of a motion; the first is the present."""
        self.geometry = geometry
        self.positions = positions
        self.velocities = velocities
        self._coordinates = geometry.coordinates(positions)
        self._turned = np.abs(positions[1:] - positions[:-1])
        self._placed = -1

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, index: int) -> Geometry:
        """Return the geometry with the robot placed as at one sample."""
        if index != self._placed:
            self.geometry.put(self._coordinates[index])
            self._placed = index
        return self.geometry

    def moved(self, reaches: Array) -> Array:
        """Return how far points have moved at most since the present, (M, K) m.

        ``reaches`` (M, n) is what each joint can move them by, m per rad or m.
        """
        moved = np.zeros((len(reaches), len(self)))
        np.cumsum(reaches @ self._turned.T, axis=1, out=moved[:, 1:])
        return moved


def _next_after(index: int, room: float, moved: Sequence[float]) -> int:
    """Return the next sample at which ``room`` m at sample ``index`` may be used up."""
    return max(index + 1, bisect_left(moved, moved[index] + room))


class Finding(NamedTuple):
    """How much room a motion leaves to a constraint.

    Attributes:
        room: smallest distance to the limit in the constraint's unit, negative beyond it.
        where: what is closest.
        broken: whether it is beyond the limit, and not only as far as it was at the start.
    """

    room: float
    where: str
    broken: bool


class SweepConstraint(Protocol):
    """Looks at a planned motion of the whole robot."""

    name: ClassVar[str]

    def look(self, sweep: Sweep) -> Finding:
        """Return how much room the motion leaves."""


@dataclass(frozen=True)
class _Clearance:
    """Keeps a distance, in m. From closer than that, the robot may move away but no closer.

    A little more at the samples, for between them it may be a little less.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    distance: float

    def look(self, sweep: Sweep) -> Finding:
        """See `SweepConstraint`. Each pair is looked at only when it can be too close."""
        geometry = sweep.at(0)
        bounds = geometry.bounds(self.kind)
        moved = sweep.moved(geometry.reaches[self.kind])
        kept = self.distance + CLEARANCE_RESERVE
        pairs = np.flatnonzero(bounds < kept + moved[:, -1]).tolist()
        if not pairs:
            return Finding(min([FAR, *bounds.tolist()]) - self.distance, "", False)
        metres = dict(zip(pairs, geometry.distances(self.kind, pairs), strict=True))
        nearest = min((value, pair) for pair, value in metres.items())
        allowed = {pair: min(kept, value - _ROUNDING) for pair, value in metres.items()}
        ways = {pair: moved[pair].tolist() for pair in pairs}
        due = {
            pair: _next_after(0, metres[pair] - allowed[pair], way) for pair, way in ways.items()
        }
        while (index := min(due.values())) < len(sweep):
            now = [pair for pair, when in due.items() if when == index]
            for pair, value in zip(now, sweep.at(index).distances(self.kind, now), strict=True):
                nearest = min(nearest, (value, pair))
                if value < allowed[pair]:
                    where = geometry.name(self.kind, pair)
                    return Finding(value - self.distance, where, True)
                due[pair] = _next_after(index, value - allowed[pair], ways[pair])
        value, pair = nearest
        return Finding(value - self.distance, geometry.name(self.kind, pair), False)


@dataclass(frozen=True)
class SelfCollision(_Clearance):
    """Keeps links at least ``distance`` m apart."""

    name: ClassVar[str] = "self_collision"
    kind: ClassVar[str] = "self"


@dataclass(frozen=True)
class Obstacles(_Clearance):
    """Keeps the robot at least ``distance`` m away from what stands around it."""

    name: ClassVar[str] = "obstacles"
    kind: ClassVar[str] = "obstacles"


@dataclass(frozen=True)
class Workspace:
    """Keeps the tool inside a box, ``lower`` to ``upper`` (3,), m in the base frame.

    From outside a side, the tool may come back but go no further.
    """

    name: ClassVar[str] = "workspace"
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def look(self, sweep: Sweep) -> Finding:
        """See `SweepConstraint`."""
        geometry = sweep.at(0)
        rooms = nearest = self._rooms(geometry.tool_position())
        moved = sweep.moved(geometry.tool_reach[None])[0].tolist()
        allowed = [min(0.0, room - _ROUNDING) for room in rooms]
        index, spare = 0, min(map(sub, rooms, allowed))
        while (index := _next_after(index, spare, moved)) < len(sweep):
            rooms = self._rooms(sweep.at(index).tool_position())
            if min(rooms) < min(nearest):
                nearest = rooms
            spare = min(map(sub, rooms, allowed))
            if spare < 0.0:
                break
        room = min(nearest)
        return Finding(room, _SIDES[nearest.index(room)], spare < 0.0)

    def _rooms(self, position: Array) -> list[float]:
        """Return the room in m that the tool has to each side."""
        x, y, z = position.tolist()
        (left, front, bottom), (right, back, top) = self.lower, self.upper
        return [x - left, y - front, z - bottom, right - x, back - y, top - z]


@dataclass(frozen=True)
class ToolSpeed:
    """Keeps the tool's speed below ``limit`` m/s.

    A little below it at the samples, for between them it may be a little higher.
    """

    name: ClassVar[str] = "tool_speed"
    limit: float

    def look(self, sweep: Sweep) -> Finding:
        """See `SweepConstraint`. Where even a bound of the speed is low, it is not computed."""
        bounds = np.abs(sweep.velocities) @ sweep.geometry.tool_reach
        limit = _TOOL_RESERVE * self.limit
        fast = np.flatnonzero(bounds > limit).tolist()
        if not fast:
            return Finding(self.limit - float(bounds.max()), "tool", False)
        fastest = sweep.at(0).tool_speed(sweep.velocities[0])
        allowed = max(limit, fastest) + _ROUNDING
        for index in sorted(fast, key=bounds.__getitem__, reverse=True):
            fastest = max(fastest, sweep.at(index).tool_speed(sweep.velocities[index]))
            if fastest > allowed:
                break
        return Finding(self.limit - fastest, "tool", fastest > allowed)
