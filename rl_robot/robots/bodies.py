"""A URDF's rigid bodies: links that fixed joints join, with their mass and geometry.

Physics engines keep a fixed joint by a constraint that yields, so what it joins is made one body.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.robots.urdf import (
    MOVING_TYPES,
    Urdf,
    UrdfJoint,
    parse_numbers,
    parse_origin,
    parse_urdf,
)

Array = NDArray[np.float64]
Kind = Literal["box", "cylinder", "sphere"]

SMALLEST_MASS = 1e-4  # kg, for links whose URDF gives none
SMALLEST_INERTIA = 1e-7  # kg m^2
DEFAULT_COLOUR = (0.5, 0.5, 0.5, 1.0)  # of visual geometry without a material, as in MuJoCo
_KINDS: tuple[Kind, ...] = ("box", "cylinder", "sphere")


@dataclass(frozen=True)
class Shape:
    """A primitive on a body.

    Attributes:
        name: unique among the body's visual or collision geometry.
        dimensions: of a box x, y, z; of a cylinder radius and length along z; a sphere's radius: m.
        pose: (4, 4) in the body's frame.
        colour: red, green, blue, opacity in 0 to 1.
    """

    name: str
    kind: Kind
    dimensions: tuple[float, ...]
    pose: Array
    colour: tuple[float, float, float, float]


@dataclass(frozen=True)
class Inertia:
    """Mass in kg, its ``centre`` (3,) in m and the ``tensor`` (3, 3) about it in kg m^2.

    Both are in the axes of a body's frame.
    """

    mass: float
    centre: Array
    tensor: Array


@dataclass(frozen=True)
class Body:
    """One rigid body, in the frame of the link that its moving joint carries.

    Attributes:
        name: that link's name; the root link's for the body that does not move.
        pose: (4, 4) in the root link at the joints' zero positions.
        frames: pose (4, 4) in the body's frame of each other link of it.
    """

    name: str
    pose: Array
    inertia: Inertia
    visuals: tuple[Shape, ...]
    collisions: tuple[Shape, ...]
    frames: dict[str, Array]


@dataclass(frozen=True)
class BodyTree:
    """A robot's bodies, the root first, and the moving joints between them.

    ``parents`` says for each joint on which body it stands; it carries the body of its child link.
    """

    bodies: tuple[Body, ...]
    joints: tuple[UrdfJoint, ...]
    parents: dict[str, str]

    @cached_property
    def root(self) -> Body:
        """The body that does not move."""
        return self.bodies[0]


def robot_bodies(robot: Robot) -> BodyTree:
    """Return a robot's rigid bodies. Its collision geometry is shown if it has no visual one.

    Raises:
        UserError: a joint or geometry that can't be told in primitives, or a link with collision
            geometry and no mass.
    """
    source = str(robot.urdf_path)
    urdf = parse_urdf(robot.urdf_xml, source)
    root = ElementTree.fromstring(robot.urdf_xml)
    elements = {element.get("name", ""): element for element in root.findall("link")}
    reader = _Reader(source, _materials(root, source), show_all=root.find("link/visual") is None)
    moving = []
    for joint in urdf.joints.values():
        if joint.type in MOVING_TYPES:
            moving.append(joint)
        elif joint.type != "fixed":
            expected = ", ".join((*MOVING_TYPES, "fixed"))
            raise UserError(f"{source}: joint {joint.name} is {joint.type}, expected {expected}")
    owners = {name: _place(urdf, name) for name in urdf.links}
    bodies = []
    for head in (urdf.root, *(joint.child for joint in moving)):
        members = {name: pose for name, (owner, pose) in owners.items() if owner == head}
        pose = _pose_in_root(urdf, head)
        bodies.append(reader.body(head, pose, members, elements))
    return BodyTree(
        tuple(bodies), tuple(moving), {joint.name: owners[joint.parent][0] for joint in moving}
    )


def _place(urdf: Urdf, link: str) -> tuple[str, Array]:
    """Return the link at the head of a link's body, and the link's pose (4, 4) in it."""
    parents = {joint.child: joint for joint in urdf.joints.values()}
    pose = np.eye(4)
    while link in parents and parents[link].type == "fixed":
        pose = parents[link].transform @ pose
        link = parents[link].parent
    return link, pose


def _pose_in_root(urdf: Urdf, link: str) -> Array:
    parents = {joint.child: joint for joint in urdf.joints.values()}
    pose = np.eye(4)
    while link in parents:
        pose = parents[link].transform @ pose
        link = parents[link].parent
    return pose


def _materials(root: ElementTree.Element, source: str) -> dict[str, tuple[float, ...]]:
    colours = {}
    for material in root.findall("material"):
        colour = material.find("color")
        if colour is not None:
            where = f"{source}: material {material.get('name')}"
            colours[material.get("name", "")] = tuple(
                parse_numbers(colour.get("rgba", ""), 4, where)
            )
    return colours


class _Reader:
    """Reads links' inertia and geometry."""

    def __init__(
        self, source: str, colours: dict[str, tuple[float, ...]], *, show_all: bool
    ) -> None:
        self._source = source
        self._colours = colours
        self._show_all = show_all

    def body(
        self,
        head: str,
        pose: Array,
        members: dict[str, Array],
        elements: dict[str, ElementTree.Element],
    ) -> Body:
        inertias, visuals, collisions = [], [], []
        for name, placed in members.items():
            inertias.append(_moved(self._inertia(elements[name], name), placed))
            here = self._shapes(elements[name], name, "collision", placed)
            collisions += here
            visuals += (
                here if self._show_all else self._shapes(elements[name], name, "visual", placed)
            )
        frames = {name: placed for name, placed in members.items() if name != head}
        return Body(head, pose, _sum(inertias), tuple(visuals), tuple(collisions), frames)

    def _inertia(self, link: ElementTree.Element, name: str) -> Inertia:
        where = f"{self._source}: link {name}"
        inertial = link.find("inertial")
        mass, centre, tensor = 0.0, np.eye(4), np.zeros((3, 3))
        if inertial is None:
            if link.find("collision") is not None:
                raise UserError(f"{where} can be touched, so it needs an <inertial> with its mass")
        else:
            mass = _attribute(inertial, "mass", "value", where)
            xx, xy, xz, yy, yz, zz = (
                _attribute(inertial, "inertia", key, where)
                for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
            )
            centre = parse_origin(inertial, where)
            tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        moments, axes = np.linalg.eigh(tensor)
        axes = centre[:3, :3] @ axes
        tensor = axes @ np.diag(np.maximum(moments, SMALLEST_INERTIA)) @ axes.T
        return Inertia(max(mass, SMALLEST_MASS), centre[:3, 3], tensor)

    def _shapes(self, link: ElementTree.Element, name: str, tag: str, placed: Array) -> list[Shape]:
        shapes = []
        for number, element in enumerate(link.findall(tag)):
            where = f"{self._source}: link {name}: {tag}"
            kind, dimensions = self._geometry(element, where)
            shapes.append(
                Shape(
                    name=f"{name}_{number}",
                    kind=kind,
                    dimensions=dimensions,
                    pose=placed @ parse_origin(element, where),
                    colour=self._colour(element, where),
                )
            )
        return shapes

    def _geometry(self, element: ElementTree.Element, where: str) -> tuple[Kind, tuple[float, ...]]:
        geometry = element.find("geometry")
        given = [] if geometry is None else list(geometry)
        for kind in _KINDS:
            for shape in given:
                if shape.tag == kind:
                    return kind, _dimensions(shape, kind, where)
        name = given[0].get("filename", given[0].tag) if given else "empty geometry"
        raise UserError(f"{where}: {name} can't be simulated here, expected {', '.join(_KINDS)}")

    def _colour(
        self, element: ElementTree.Element, where: str
    ) -> tuple[float, float, float, float]:
        material = element.find("material")
        if material is None:
            return DEFAULT_COLOUR
        inline = material.find("color")
        if inline is None:
            red, green, blue, opacity = self._colours.get(material.get("name", ""), DEFAULT_COLOUR)
        else:
            red, green, blue, opacity = parse_numbers(inline.get("rgba", ""), 4, where)
        return float(red), float(green), float(blue), float(opacity)


def _dimensions(shape: ElementTree.Element, kind: Kind, where: str) -> tuple[float, ...]:
    if kind == "box":
        values = parse_numbers(shape.get("size", ""), 3, f"{where}: size")
    else:
        names = ("radius", "length") if kind == "cylinder" else ("radius",)
        values = np.concatenate(
            [parse_numbers(shape.get(n, ""), 1, f"{where}: {n}") for n in names]
        )
    if not (values > 0.0).all():
        raise UserError(f"{where}: a {kind} of {' x '.join(f'{v:g}' for v in values)} m")
    return tuple(float(value) for value in values)


def _attribute(parent: ElementTree.Element, tag: str, key: str, where: str) -> float:
    element = parent.find(tag)
    text = "" if element is None else element.get(key, "")
    return float(parse_numbers(text, 1, f"{where}: {tag} {key}")[0])


def _moved(inertia: Inertia, pose: Array) -> Inertia:
    rotation = pose[:3, :3]
    return Inertia(
        inertia.mass,
        rotation @ inertia.centre + pose[:3, 3],
        rotation @ inertia.tensor @ rotation.T,
    )


def _sum(parts: list[Inertia]) -> Inertia:
    """Return the inertia of rigidly joined parts, by the parallel axis theorem."""
    mass = sum(part.mass for part in parts)
    centre = sum((part.mass * part.centre for part in parts), np.zeros(3)) / mass
    tensor = np.zeros((3, 3))
    for part in parts:
        arm = part.centre - centre
        tensor += part.tensor + part.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return Inertia(mass, centre, tensor)
