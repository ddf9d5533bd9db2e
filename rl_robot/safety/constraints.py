"""What the safety filter keeps, one small class each. `chain.py` makes them from a robot's YAML.

Three kinds. Limits of single joints narrow what their motion is planned with. Others hold a joint's
goal back before it is planned. The rest look at a planned motion, its stop included, and say how
much room it leaves; what leaves too little is not sent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numba import types

from rl_robot.robots.description import Joint
from rl_robot.safety.compiled import compiled
from rl_robot.safety.planner import Bounds, Goal
from rl_robot.safety.sweep import Sweep

Array = npt.NDArray[np.float64]

# Where a limit is switched off, planning still needs a number.
UNBOUNDED = Bounds(-1e6, 1e6, 1e3, 1e5, 1e7)
_ROUNDING, _FINE = 1e-9, 1e-6  # m
_ROW, _TABLE = types.float64[::1], types.float64[:, ::1]
#: m kept at the samples on top of a distance
CLEARANCE_RESERVE = 0.001
#: m kept to the sides of the workspace at the places that are looked at
WORKSPACE_RESERVE = 0.0005
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


class Finding(NamedTuple):
    """How much room a motion leaves to a constraint.

    Attributes:
        room: smallest distance to the limit in the constraint's unit, negative beyond it. There may
            be more where less did not have to be ruled out.
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
    """Keeps a distance, in m, all along the straight lines between the samples.

    A little more at the samples: the less there is on top, the slower a pair must move, for what
    lies in between must be known to be clear as well. From closer than that, the robot may move
    away but no closer.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    distance: float

    def look(self, sweep: Sweep) -> Finding:
        """See `SweepConstraint`."""
        least, where, broken = sweep.geometry.inspect(
            self.kind, sweep.poses, sweep.turned, self.distance, CLEARANCE_RESERVE
        )
        return Finding(least - self.distance, where, broken)


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

    A little inside it at the places that are looked at. From outside a side, the tool may come back
    but go no further, to a micrometre.
    """

    name: ClassVar[str] = "workspace"
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def look(self, sweep: Sweep) -> Finding:
        """See `SweepConstraint`."""
        corners = np.array([self.lower, self.upper], dtype=np.float64)
        room, side, broken = _inspect_sides(sweep.poses.tools, corners, sweep.tool_bulges())
        return Finding(room, _SIDES[side], broken)


@compiled(types.Tuple((types.float64, types.int64, types.boolean))(_TABLE, _TABLE, _ROW))
def _inspect_sides(tools: Array, corners: Array, bulges: Array) -> tuple[float, int, bool]:
    """Return the least room of the tool at (K, 3) in a workspace, to which side, and if it breaks.

    Between two places it is up to ``bulges`` (K - 1,) m beside the straight line.
    """
    least, nearest, broken = np.inf, 0, False
    for side in range(6):
        corner, axis = side // 3, side % 3
        sign = 1.0 if corner == 0 else -1.0
        first = before = sign * (tools[0, axis] - corners[corner, axis])
        at_places, between = min(WORKSPACE_RESERVE, first - _ROUNDING), min(0.0, first - _FINE)
        for k in range(len(tools)):
            room = sign * (tools[k, axis] - corners[corner, axis])
            broken |= room < at_places
            if k > 0:
                broken |= min(before, room) - bulges[k - 1] < between
            if room < least:
                least, nearest = room, side
            before = room
    return least, nearest, broken


@dataclass(frozen=True)
class ToolSpeed:
    """Keeps the tool's speed below ``limit`` m/s.

    On average from sample to sample a little below it, and at the samples, where the speed peaks,
    as far as it has grown until there, or falls from there on.
    """

    name: ClassVar[str] = "tool_speed"
    limit: float

    def look(self, sweep: Sweep) -> Finding:
        """See `SweepConstraint`."""
        mean, peak = _fastest(sweep.poses.tools, sweep.interval)
        broken = mean > _TOOL_RESERVE * self.limit or peak > self.limit
        return Finding(self.limit - max(mean, peak), "tool", broken)


@compiled(types.UniTuple(types.float64, 2)(_TABLE, types.float64))
def _fastest(tools: Array, interval: float) -> tuple[float, float]:
    """Return a tool's greatest mean speed from sample to sample, and the peak at one, m/s.

    Every second of ``tools`` (K, 3) is at a sample.
    """
    means = np.zeros(len(tools) // 2)
    for k in range(len(means)):
        square = 0.0
        for axis in range(3):
            square += (tools[2 * k + 2, axis] - tools[2 * k, axis]) ** 2
        means[k] = np.sqrt(square) / interval
    mean = peak = 0.0
    for k in range(len(means)):
        mean = max(mean, means[k])
        if k > 0:
            growth = 0.5 * (means[k] - means[k - 1])
            peak = max(peak, means[k] + growth, means[k - 1] - growth)
    return mean, peak
