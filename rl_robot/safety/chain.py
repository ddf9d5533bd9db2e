"""Makes a robot's safety filter, and its recovery, from the section ``safety`` of its YAML.

The limits of single joints are always kept, listed or not; listing one sets its options. The other
constraints are kept where they are listed. The order makes no difference.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.robots.section import Section, list_names
from rl_robot.safety.constraints import (
    CLEARANCE_RESERVE,
    AccelerationLimits,
    GripperForce,
    JerkLimits,
    JointConstraint,
    Obstacles,
    PositionLimits,
    SelfCollision,
    SweepConstraint,
    ToolSpeed,
    VelocityLimits,
    Workspace,
)
from rl_robot.safety.filter import SafetyFilter
from rl_robot.safety.geometry import FAR, Box, Geometry
from rl_robot.safety.recovery import Gentleness, Recovery
from rl_robot.safety.unsafe import Clearance, Contact, Room, Slip, Stuck

RECOVERY = "recovery"
_SCALED = (VelocityLimits, AccelerationLimits, JerkLimits)
JOINT_LIMITS = tuple(kind.name for kind in (PositionLimits, *_SCALED))
CONSTRAINTS = (
    *JOINT_LIMITS,
    *(kind.name for kind in (Workspace, ToolSpeed, SelfCollision, Obstacles, GripperForce)),
)


def parse_off(text: str) -> tuple[str, ...]:
    """Return the constraints to switch off, given by name with commas between.

    Raises:
        UserError: there is no such constraint.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in CONSTRAINTS:
            raise UserError(
                f"safety_off '{name}': no such constraint; there are {list_names(CONSTRAINTS)}"
            )
    return names


def make_filter(
    robot: Robot, *, period: float, substeps: int = 5, off: Collection[str] = ()
) -> SafetyFilter:
    """Return the filter of what is sent to ``robot``.

    Args:
        robot: the robot.
        period: s.
        substeps: samples sent per period.
        off: names of constraints that are not kept. For ablations in simulation.

    Raises:
        UserError: the YAML's section is not usable, and why.
    """
    section = _section(robot)
    limits = [limit for limit in _joint_limits(section, robot) if limit.name not in off]
    constraints = _constraints(section, off)
    geometry = _geometry(section, robot)
    force = _gripper_force(section, robot)
    section.refuse_others(*CONSTRAINTS, RECOVERY)
    return SafetyFilter(
        robot.joints,
        period=period,
        substeps=substeps,
        limits=limits,
        constraints=constraints,
        geometry=geometry if constraints else None,
        gripper_force=None if GripperForce.name in off else force,
    )


def make_recovery(
    robot: Robot, safety_filter: SafetyFilter, *, off: Collection[str] = ()
) -> Recovery:
    """Return the recovery of ``robot`` through its filter; it does nothing without its section.

    Args:
        robot: the robot.
        safety_filter: from ``make_filter``, with the same constraints ``off``.
        off: names of constraints that are not kept; none is recovered from either.

    Raises:
        UserError: the YAML's section is not usable, and why.
    """
    section = _section(robot)
    if RECOVERY not in section:
        nowhere = Room((), np.empty(0), np.empty(0), Clearance(1.0, 1.0))
        return Recovery(robot, safety_filter, nowhere, Gentleness(1.0, 1.0, 0.0))
    options = section.section(RECOVERY)
    clear = _clearance(options)
    gentleness = Gentleness(_part(options, "speed"), options.positive("patience"), clear.joint)
    room = _room(robot, safety_filter, section, clear, off)
    stuck = Stuck(room, _periods(options.section("stuck")))
    contact, slip = _contact(options, robot), _slip(options, robot)
    options.refuse_others()
    lacking = room.lacking(robot.home_positions)
    if lacking:
        raise options.error(f"clear: the home posture lacks it towards {list_names([*lacking])}")
    return Recovery(robot, safety_filter, room, gentleness, stuck=stuck, contact=contact, slip=slip)


def _room(
    robot: Robot,
    safety_filter: SafetyFilter,
    section: Section,
    clear: Clearance,
    off: Collection[str],
) -> Room:
    wider = [_widened(constraint, clear.distance) for constraint in _constraints(section, off)]
    constraints = [constraint for constraint in wider if constraint is not None]
    limits = safety_filter.limits[: len(robot.arm_joints)]
    return Room(
        robot.arm_joints,
        np.array([bounds.lower for bounds in limits]),
        np.array([bounds.upper for bounds in limits]),
        clear,
        geometry=_geometry(section, robot) if constraints else None,
        constraints=constraints,
    )


def _clearance(options: Section) -> Clearance:
    clear = options.section("clear")
    clearance = Clearance(clear.positive("joint"), clear.positive("distance"))
    clear.refuse_others()
    return clearance


def _section(robot: Robot) -> Section:
    return Section(robot.safety, f"{robot.source}: safety")


def _constraints(section: Section, off: Collection[str]) -> list[SweepConstraint]:
    sweeps = [read(section.section(name)) for name, read in _SWEEPS.items() if name in section]
    return [sweep for sweep in sweeps if sweep.name not in off]


def _widened(constraint: SweepConstraint, distance: float) -> SweepConstraint | None:
    """Return a constraint on where the robot is that keeps ``distance`` m more; None of others."""
    if isinstance(constraint, SelfCollision | Obstacles):
        return replace(constraint, distance=constraint.distance + distance)
    if isinstance(constraint, Workspace):
        x, y, z = (low + distance for low in constraint.lower)
        far_x, far_y, far_z = (high - distance for high in constraint.upper)
        return Workspace((x, y, z), (far_x, far_y, far_z))
    return None


def _part(options: Section, key: str) -> float:
    """Return a number above 0 and not above 1."""
    value = options.positive(key)
    if value > 1.0:
        raise options.error(f"{key} is {value:g}, it must not be above 1")
    return value


def _periods(options: Section) -> int:
    periods = options.whole("periods")
    options.refuse_others()
    return periods


def _contact(options: Section, robot: Robot) -> Contact | None:
    if "contact" not in options:
        return None
    given = options.section("contact")
    return Contact(robot.arm_joints, given.positive("deviation"), _periods(given))


def _slip(options: Section, robot: Robot) -> Slip | None:
    if "slip" not in options:
        return None
    given = options.section("slip")
    if robot.gripper is None:
        raise given.error(f"robot {robot.name} has no gripper")
    index = robot.joint_names.index(robot.gripper.joint)
    return Slip(robot.gripper, index, given.positive("distance"), _periods(given))


def _joint_limits(section: Section, robot: Robot) -> list[JointConstraint]:
    limits: list[JointConstraint] = [PositionLimits(_margins(section, robot))]
    for kind in _SCALED:
        if kind.name in section:
            options = section.section(kind.name)
            scale = _part(options, "scale")
            options.refuse_others()
            limits.append(kind(scale))
        else:
            limits.append(kind())
    return limits


def _margins(section: Section, robot: Robot) -> dict[str, float]:
    """Return by joint how far from its position limits it is kept."""
    if PositionLimits.name not in section:
        return {}
    options = section.section(PositionLimits.name)
    margins = options.section("margin")
    by_joint = {}
    for name in margins.names():
        joint = robot.joint(name)
        margin = margins.number(name)
        if not 0.0 <= 2.0 * margin <= joint.upper - joint.lower:
            raise margins.error(
                f"{name} is {margin:g}, which leaves nothing of {joint.lower:g} to {joint.upper:g}"
            )
        by_joint[name] = margin
    options.refuse_others()
    return by_joint


def _workspace(options: Section) -> Workspace:
    lower = _triple(options, "lower")
    upper = _triple(options, "upper")
    options.refuse_others()
    if any(low >= high for low, high in zip(lower, upper, strict=True)):
        raise options.error(f"lower {list(lower)} must be below upper {list(upper)}")
    return Workspace(lower, upper)


def _tool_speed(options: Section) -> ToolSpeed:
    limit = options.positive("limit")
    options.refuse_others()
    return ToolSpeed(limit)


def _self_collision(options: Section) -> SelfCollision:
    return SelfCollision(_distance(options))


def _obstacles(options: Section) -> Obstacles:
    return Obstacles(_distance(options))


def _distance(options: Section) -> float:
    distance = options.positive("distance")
    if distance + CLEARANCE_RESERVE >= FAR:
        raise options.error(f"distance is {distance:g}, it must be below {FAR - CLEARANCE_RESERVE}")
    return distance


_SWEEPS: dict[str, Callable[[Section], SweepConstraint]] = {
    Workspace.name: _workspace,
    ToolSpeed.name: _tool_speed,
    SelfCollision.name: _self_collision,
    Obstacles.name: _obstacles,
}


def _geometry(section: Section, robot: Robot) -> Geometry | None:
    """Return the geometry that the constraints need, or None without any of these."""
    boxes: dict[str, Box] = {}
    ignored: set[frozenset[str]] = set()
    if Obstacles.name in section:
        options = section.section(Obstacles.name)
        options.value("distance")
        named = options.section("boxes")
        boxes = {name: _box(named.section(name)) for name in named.names()}
        options.refuse_others()
    if SelfCollision.name in section:
        options = section.section(SelfCollision.name)
        options.value("distance")
        if "ignore" in options:
            ignored = {_pair(options, pair) for pair in options.value("ignore")}
        options.refuse_others()
    needed = any(name in section for name in _SWEEPS)
    return Geometry(robot, boxes, ignored) if needed else None


def _box(options: Section) -> Box:
    box = Box(_triple(options, "centre"), _triple(options, "size"))
    options.refuse_others()
    if min(box.size) <= 0.0:
        raise options.error(f"size is {list(box.size)}, it must be above 0")
    return box


def _pair(options: Section, pair: object) -> frozenset[str]:
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, str) for n in pair)):
        raise options.error(f"ignore has {pair!r}, it must be a list of pairs of links")
    return frozenset(pair)


def _triple(options: Section, key: str) -> tuple[float, float, float]:
    x, y, z = options.numbers(key, 3)
    return x, y, z


def _gripper_force(section: Section, robot: Robot) -> GripperForce | None:
    if GripperForce.name not in section:
        return None
    options = section.section(GripperForce.name)
    if robot.gripper is None:
        raise options.error(f"robot {robot.name} has no gripper")
    limit = options.positive("limit")
    options.refuse_others()
    return GripperForce(robot.joint_names.index(robot.gripper.joint), limit)
