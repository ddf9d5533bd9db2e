"""A robot's joints and its gripper: what the YAML says of them, checked against the URDF."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rl_robot.robots.section import Section, list_names
from rl_robot.robots.urdf import MOVING_TYPES, Urdf, UrdfJoint


@dataclass(frozen=True)
class Joint:
    """One commanded joint and its limits: rad or m, and their derivatives; effort in N m or N.

    ``source`` says where the limits are published; empty where the YAML does not say.
    """

    name: str
    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float
    effort: float
    source: str = ""


@dataclass(frozen=True)
class Gripper:
    """A parallel gripper driven by one joint (m): its aperture is twice the joint's position."""

    joint: str
    open: float
    closed: float


def parse_joints(section: Section, urdf: Urdf) -> tuple[Joint, ...]:
    """Return the joints of the YAML's section, in the URDF's order.

    A text under the key ``source`` is the source of all limits that name none of their own.

    Raises:
        UserError: joints other than the URDF's moving ones, or limits wider than the URDF's.
    """
    source = section.text("source") if "source" in section else ""
    moving = [j for j in urdf.joints.values() if j.type in MOVING_TYPES and j.mimics is None]
    names = [joint.name for joint in moving]
    for name in section.names():
        if name not in (*names, "source"):
            raise section.error(
                f"{name} is no moving joint of the URDF; it has {list_names(names)}"
            )
    for name in names:
        if name not in section:
            raise section.error(f"the URDF's joint {name} is missing")
    return tuple(_joint(section.section(joint.name), joint, source) for joint in moving)


def parse_gripper(section: Section, joints: Sequence[Joint]) -> Gripper:
    """Return the gripper of the YAML's section.

    Raises:
        UserError: an unknown joint, or positions outside its limits or in the wrong order.
    """
    joint = joint_called(section, section.text("joint"), joints)
    gripper = Gripper(joint.name, section.number("open"), section.number("closed"))
    section.refuse_others()
    for key in ("open", "closed"):
        check_within(section, key, getattr(gripper, key), joint)
    if gripper.closed >= gripper.open:
        raise section.error(f"closed {gripper.closed:g} must be below open {gripper.open:g}")
    return gripper


def parse_home(section: Section, joints: Sequence[Joint]) -> dict[str, float]:
    """Return the home position of every joint by name.

    Raises:
        UserError: unknown or missing joints, or positions outside their limits.
    """
    for name in section.names():
        joint_called(section, name, joints)
    home = {joint.name: section.number(joint.name) for joint in joints}
    for joint in joints:
        check_within(section, joint.name, home[joint.name], joint)
    return home


def joint_called(section: Section, name: str, joints: Sequence[Joint]) -> Joint:
    """Return the joint of that name.

    Raises:
        UserError: there is none.
    """
    for joint in joints:
        if joint.name == name:
            return joint
    raise section.error(f"unknown joint {name}; joints are {list_names([j.name for j in joints])}")


def check_within(section: Section, key: str, value: float, joint: Joint) -> None:
    """Refuse a position outside a joint's limits.

    Raises:
        UserError: it is.
    """
    if not joint.lower <= value <= joint.upper:
        limits = f"{joint.lower:g} to {joint.upper:g}"
        raise section.error(f"{key} is {value:g}, outside joint {joint.name}'s limits {limits}")


def _joint(section: Section, urdf_joint: UrdfJoint, source: str) -> Joint:
    def limit(key: str, widest: float) -> float:
        value = section.number(key) if key in section else widest
        if (value < widest) if key == "lower" else (value > widest):
            raise section.error(f"{key} {value:g} is wider than the URDF's {widest:g}")
        return value

    joint = Joint(
        name=urdf_joint.name,
        lower=limit("lower", urdf_joint.lower),
        upper=limit("upper", urdf_joint.upper),
        velocity=limit("velocity", urdf_joint.velocity),
        acceleration=section.positive("acceleration"),
        jerk=section.positive("jerk"),
        effort=limit("effort", urdf_joint.effort),
        source=section.text("source") if "source" in section else source,
    )
    section.refuse_others()
    if not joint.lower < joint.upper:
        raise section.error(f"lower {joint.lower:g} must be below upper {joint.upper:g}")
    if not math.isfinite(joint.lower) or not math.isfinite(joint.upper):
        raise section.error("the URDF's joint is continuous: give finite lower and upper here")
    for key in ("velocity", "effort"):
        if getattr(joint, key) <= 0.0:
            raise section.error(f"{key} is {getattr(joint, key):g}, it must be above 0")
    return joint
