"""The part of a URDF that a robot description is checked against: links, joints and limits."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.errors import UserError

MOVING_TYPES = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True)
class UrdfJoint:
    """One ``<joint>``: limits in SI units, ``transform`` (4, 4) from child to parent at zero.

    ``axis`` (3,) is a unit vector in the child's frame. A joint that mimics another stands at
    ``multiplier`` times the other's position plus ``offset``.
    """

    name: str
    type: str
    parent: str
    child: str
    transform: NDArray[np.float64]
    lower: float
    upper: float
    velocity: float
    effort: float
    mimics: str | None
    multiplier: float
    offset: float
    axis: NDArray[np.float64]
    damping: float
    friction: float


@dataclass(frozen=True)
class Urdf:
    """A parsed URDF: links by name, joints by name in file order, and the root link."""

    name: str
    links: tuple[str, ...]
    joints: dict[str, UrdfJoint]
    root: str

    def fixed_pose(self, frame: str) -> NDArray[np.float64] | None:
        """Pose (4, 4) of ``frame`` in the root link, or None if a moving joint lies between."""
        parents = {joint.child: joint for joint in self.joints.values()}
        pose = np.eye(4)
        while frame != self.root:
            joint = parents[frame]
            if joint.type != "fixed":
                return None
            pose = joint.transform @ pose
            frame = joint.parent
        return pose

    def moving_ancestors(self, frame: str) -> list[str]:
        """Names of the moving joints between the root and ``frame``, root first."""
        parents = {joint.child: joint for joint in self.joints.values()}
        names: list[str] = []
        while frame != self.root:
            joint = parents[frame]
            if joint.type != "fixed":
                names.append(joint.name)
            frame = joint.parent
        return names[::-1]


def parse_urdf(text: str, source: str) -> Urdf:
    """Parse a URDF's links and joints.

    Raises:
        UserError: not XML, not a URDF, or links and joints that do not form one tree.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{source}: not well-formed XML ({error})") from error
    if root.tag != "robot":
        raise UserError(f"{source}: the root element is <{root.tag}>, a URDF's is <robot>")
    links = tuple(_attribute(link, "name", source) for link in root.findall("link"))
    joints = [_joint(element, source) for element in root.findall("joint")]
    _check_unique("link", links, source)
    _check_unique("joint", [joint.name for joint in joints], source)
    return Urdf(
        name=root.get("name", ""),
        links=links,
        joints={joint.name: joint for joint in joints},
        root=_root_link(links, joints, source),
    )


def _root_link(links: tuple[str, ...], joints: list[UrdfJoint], source: str) -> str:
    for joint in joints:
        for link in (joint.parent, joint.child):
            if link not in links:
                raise UserError(f"{source}: joint {joint.name} names a link {link} that is absent")
    children = [joint.child for joint in joints]
    _check_unique("child link", children, source)
    roots = [link for link in links if link not in children]
    # One link without a parent and every other with exactly one: with no cycle that is a tree.
    if len(roots) != 1:
        raise UserError(f"{source}: links must form one tree, but these have no parent: {roots}")
    reached = {roots[0]}
    for _ in joints:
        reached |= {joint.child for joint in joints if joint.parent in reached}
    if len(reached) != len(links):
        raise UserError(f"{source}: links in a loop: {sorted(set(links) - reached)}")
    return roots[0]


def _check_unique(kind: str, names: tuple[str, ...] | list[str], source: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{source}: {kind} {name} appears more than once")


def _joint(element: ElementTree.Element, source: str) -> UrdfJoint:
    name = _attribute(element, "name", source)
    where = f"{source}: joint {name}"
    type_ = _attribute(element, "type", where)
    limit = element.find("limit")
    if type_ in MOVING_TYPES and limit is None:
        raise UserError(f"{where}: a {type_} joint needs a <limit>")
    continuous = type_ == "continuous"
    mimic, dynamics = element.find("mimic"), element.find("dynamics")
    return UrdfJoint(
        name=name,
        type=type_,
        parent=_attribute(_child(element, "parent", where), "link", where),
        child=_attribute(_child(element, "child", where), "link", where),
        transform=parse_origin(element, where),
        lower=-np.inf if continuous else _number(limit, "lower", where),
        upper=np.inf if continuous else _number(limit, "upper", where),
        velocity=_number(limit, "velocity", where),
        effort=_number(limit, "effort", where),
        mimics=None if mimic is None else _attribute(mimic, "joint", where),
        multiplier=_number(mimic, "multiplier", where, 1.0),
        offset=_number(mimic, "offset", where),
        axis=_axis(element.find("axis"), where),
        damping=_number(dynamics, "damping", where),
        friction=_number(dynamics, "friction", where),
    )


def _child(element: ElementTree.Element, tag: str, where: str) -> ElementTree.Element:
    child = element.find(tag)
    if child is None:
        raise UserError(f"{where}: <{tag}> is missing")
    return child


def _attribute(element: ElementTree.Element, name: str, where: str) -> str:
    value = element.get(name)
    if not value:
        raise UserError(f"{where}: <{element.tag}> needs a {name}")
    return value


def _number(
    element: ElementTree.Element | None, name: str, where: str, default: float = 0.0
) -> float:
    text = None if element is None else element.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{where}: {name} is {text!r}, it must be a finite number")
    return value


def _axis(element: ElementTree.Element | None, where: str) -> NDArray[np.float64]:
    text = "1 0 0" if element is None else element.get("xyz", "1 0 0")
    axis = parse_numbers(text, 3, f"{where}: axis")
    length = float(np.linalg.norm(axis))
    if length == 0.0:
        raise UserError(f"{where}: axis {text!r} has no direction")
    return axis / length


def parse_origin(element: ElementTree.Element, where: str) -> NDArray[np.float64]:
    """Return the transform (4, 4) that the ``<origin>`` in an element says, identity without one.

    Raises:
        UserError: not three finite numbers each.
    """
    transform = np.eye(4)
    origin = element.find("origin")
    if origin is not None:
        transform[:3, 3] = parse_numbers(origin.get("xyz", "0 0 0"), 3, where)
        rpy = parse_numbers(origin.get("rpy", "0 0 0"), 3, where)
        transform[:3, :3] = Rotation.from_euler("xyz", rpy).as_matrix()
    return transform


def parse_numbers(text: str, count: int, where: str) -> NDArray[np.float64]:
    """Return the ``count`` finite numbers (count,) of an attribute.

    Raises:
        UserError: it holds something else.
    """
    try:
        numbers = np.array([float(part) for part in text.split()])
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        words = {1: "a finite number", 3: "three finite numbers"}
        raise UserError(f"{where}: {text!r} must be {words.get(count, f'{count} finite numbers')}")
    return numbers
