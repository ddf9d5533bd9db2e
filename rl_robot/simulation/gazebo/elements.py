"""Pieces of SDF that all Gazebos read alike: poses, links, joints, the scene and its cameras."""

import math
import re
import warnings
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.errors import UserError
from rl_robot.robots.bodies import Body, BodyTree, Inertia, Shape
from rl_robot.robots.description import Camera, Robot
from rl_robot.robots.urdf import UrdfJoint
from rl_robot.simulation.world import MAT_HALF_THICKNESS, Block, Light, Scene

Array = NDArray[np.float64]
Colour = Iterable[float]

TABLE = "table"
LINK = "link"  # the one link of every model that is not the robot
WORLD_JOINT = "world_joint"

# Contacts are springs and dampers to ODE. These hold the block's weight at well under a micrometre
# and let it come to rest without bouncing; penetration up to the least depth is left alone, so
# that resting contacts stay.
CONTACT_STIFFNESS = 1e6  # N/m
CONTACT_DAMPING = 1e3  # N s/m
LEAST_DEPTH = 1e-4  # m
LARGEST_CORRECTION = 0.1  # m/s at which penetration is undone
FRICTION = 1.0
# The base is fixed and stands on the table: a contact there could only make joints tremble.
_TABLE_BITS, _BASE_BITS, _ALL_BITS = 0x01, 0x02, 0xFFFF

_CLIP = (0.01, 50.0)  # m, as in the MuJoCo model
# Gazebo's cameras look along x with z up; optical frames along z with y down.
_CAMERA_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_NAME = re.compile(r"(?!__)[A-Za-z_][\w.-]*")
_RESERVED = ("world",)


# --- values --------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Return a number as text, without the sign of a zero."""
    return f"{value + 0.0:.12g}"


def numbers(values: Iterable[float]) -> str:
    """Return numbers as text, separated by spaces."""
    return " ".join(number(value) for value in values)


def leaf(parent: Element, tag: str, value: float | bool | str) -> Element:
    """Append an element that holds one value."""
    element = SubElement(parent, tag)
    if isinstance(value, bool):
        element.text = "true" if value else "false"
    else:
        element.text = value if isinstance(value, str) else number(value)
    return element


def add_pose(parent: Element, pose: Array) -> None:
    """Append a pose (4, 4) as position and roll, pitch, yaw."""
    with warnings.catch_warnings():
        # At a pitch of a quarter turn roll and yaw are not unique; the ones it finds are right.
        warnings.simplefilter("ignore", UserWarning)
        angles = Rotation.from_matrix(pose[:3, :3]).as_euler("xyz")
    leaf(parent, "pose", numbers([*pose[:3, 3], *angles]))


def placed(x: float, y: float, z: float, yaw: float = 0.0) -> Array:
    """Return the pose (4, 4) at a position in m, turned by ``yaw`` in rad about z."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", yaw).as_matrix()
    pose[:3, 3] = x, y, z
    return pose


# --- links and joints ----------------------------------------------------------------------------


def add_inertia(link: Element, inertia: Inertia) -> None:
    """Append a link's mass and inertia."""
    inertial = SubElement(link, "inertial")
    add_pose(inertial, placed(*inertia.centre))
    leaf(inertial, "mass", inertia.mass)
    tensor = SubElement(inertial, "inertia")
    for (row, column), key in zip(
        ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)),
        ("ixx", "ixy", "ixz", "iyy", "iyz", "izz"),
        strict=True,
    ):
        leaf(tensor, key, inertia.tensor[row, column])


def add_visual(link: Element, shape: Shape) -> None:
    """Append what a camera sees of a primitive: matte, in one colour."""
    visual = SubElement(link, "visual", name=f"{shape.name}_visual")
    add_pose(visual, shape.pose)
    _add_geometry(visual, shape)
    leaf(visual, "cast_shadows", False)
    material = SubElement(visual, "material")
    for kind in ("ambient", "diffuse"):
        leaf(material, kind, numbers(shape.colour))
    for kind in ("specular", "emissive"):
        leaf(material, kind, "0 0 0 1")


def add_collision(link: Element, shape: Shape, *, bits: int = _ALL_BITS) -> None:
    """Append what can be touched of a primitive; it meets what it has one of ``bits`` in common."""
    collision = SubElement(link, "collision", name=f"{shape.name}_collision")
    add_pose(collision, shape.pose)
    _add_geometry(collision, shape)
    surface = SubElement(collision, "surface")
    friction = SubElement(SubElement(surface, "friction"), "ode")
    leaf(friction, "mu", FRICTION)
    leaf(friction, "mu2", FRICTION)
    contact = SubElement(surface, "contact")
    leaf(contact, "collide_bitmask", bits)
    ode = SubElement(contact, "ode")
    leaf(ode, "kp", CONTACT_STIFFNESS)
    leaf(ode, "kd", CONTACT_DAMPING)
    leaf(ode, "max_vel", LARGEST_CORRECTION)
    leaf(ode, "min_depth", LEAST_DEPTH)


def _add_geometry(parent: Element, shape: Shape) -> None:
    primitive = SubElement(SubElement(parent, "geometry"), shape.kind)
    if shape.kind == "box":
        leaf(primitive, "size", numbers(shape.dimensions))
        return
    for key, value in zip(("radius", "length"), shape.dimensions, strict=False):
        leaf(primitive, key, value)


def add_robot(world: Element, robot: Robot, tree: BodyTree) -> Element:
    """Append the robot's model, its base fixed to the world, and return it.

    Poses are those at the joints' zero positions, which is where Gazebo counts joints from. As
    real arms' drivers do, gravity is compensated: the links have none.

    Raises:
        UserError: names that SDF has no room for.
    """
    _check_names(robot, tree)
    model = SubElement(world, "model", name=robot.name)
    leaf(model, "self_collide", True)
    _add_joint(model, WORLD_JOINT, "fixed", "world", tree.root.name)
    for body in tree.bodies:
        _add_body(model, body, bits=_BASE_BITS if body is tree.root else _ALL_BITS)
    for joint in tree.joints:
        _add_moving_joint(model, joint, tree.parents[joint.name], robot)
    return model


def _check_names(robot: Robot, tree: BodyTree) -> None:
    names = [WORLD_JOINT, *(joint.name for joint in tree.joints)]
    for body in tree.bodies:
        names += [body.name, *body.frames]
    _check_unique(names, f"{robot.urdf_path}: link or joint")


def _check_unique(names: list[str], what: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise UserError(f"{what} '{name}': Gazebo needs a name of letters, digits, _ . and -")
        if names.count(name) > 1:
            raise UserError(f"{what} {name}: Gazebo needs a name that nothing else there has")


def _add_body(model: Element, body: Body, *, bits: int) -> None:
    link = SubElement(model, "link", name=body.name)
    add_pose(link, body.pose)
    leaf(link, "gravity", False)
    add_inertia(link, body.inertia)
    for shape in body.collisions:
        add_collision(link, shape, bits=bits)
    for shape in body.visuals:
        add_visual(link, shape)
    for name, pose in body.frames.items():
        add_pose(SubElement(model, "frame", name=name, attached_to=body.name), pose)


def _add_joint(model: Element, name: str, kind: str, parent: str, child: str) -> Element:
    joint = SubElement(model, "joint", name=name, type=kind)
    leaf(joint, "parent", parent)
    leaf(joint, "child", child)
    return joint


def _add_moving_joint(model: Element, joint: UrdfJoint, parent: str, robot: Robot) -> None:
    """Append a joint: with limits it is no longer continuous, mimics are left to who drives it."""
    kind = "prismatic" if joint.type == "prismatic" else "revolute"
    axis = SubElement(_add_joint(model, joint.name, kind, parent, joint.child), "axis")
    leaf(axis, "xyz", numbers(joint.axis))
    limits = robot.joint(joint.name) if joint.name in robot.joint_names else joint
    limit = SubElement(axis, "limit")
    if math.isfinite(limits.lower):
        leaf(limit, "lower", limits.lower)
        leaf(limit, "upper", limits.upper)
    leaf(limit, "effort", limits.effort)
    dynamics = SubElement(axis, "dynamics")
    leaf(dynamics, "damping", joint.damping)
    leaf(dynamics, "friction", joint.friction)


# --- what stands around the robot ----------------------------------------------------------------


def check_model_names(robot: Robot, scene: Scene) -> None:
    """Refuse a robot, objects and cameras of one name: to Gazebo each is a model.

    Raises:
        UserError: two of the same name, or one that Gazebo can't use.
    """
    cameras = [camera.name for camera in robot.cameras]
    _check_unique([robot.name, TABLE, *scene.objects, *cameras], "robot, object or camera")


def add_scene(world: Element, scene: Scene) -> None:
    """Append the table with its mats, and the blocks, each as a model of its own."""
    table = _add_still_model(world, TABLE)
    x, y = scene.table.centre
    top = _box(
        TABLE, scene.table.size, placed(x, y, -scene.table.size[2] / 2.0), scene.table.colour
    )
    add_collision(table, top, bits=_TABLE_BITS)
    add_visual(table, top)
    for layer, mat in enumerate(scene.mats, start=1):
        pose = placed(*mat.centre, MAT_HALF_THICKNESS * (2 * layer - 1))
        size = (*mat.size, 2.0 * MAT_HALF_THICKNESS)
        add_visual(table, _box(f"mat_{layer}", size, pose, mat.colour))
    for name, block in scene.objects.items():
        _add_block(world, name, block)


def _box(name: str, size: Iterable[float], pose: Array, colour: Colour) -> Shape:
    red, green, blue = colour
    return Shape(name, "box", tuple(size), pose, (red, green, blue, 1.0))


def _add_still_model(world: Element, name: str, pose: Array | None = None) -> Element:
    """Append a model that never moves, and return its link."""
    model = SubElement(world, "model", name=name)
    leaf(model, "static", True)
    if pose is not None:
        add_pose(model, pose)
    return SubElement(model, "link", name=LINK)


def _add_block(world: Element, name: str, block: Block) -> None:
    model = SubElement(world, "model", name=name)
    x, y, yaw = block.pose
    add_pose(model, placed(x, y, block.size / 2.0, yaw))
    link = SubElement(model, "link", name=LINK)
    moment = block.mass * block.size**2 / 6.0
    add_inertia(link, Inertia(block.mass, np.zeros(3), moment * np.eye(3)))
    shape = _box(name, [block.size] * 3, np.eye(4), block.colour)
    add_collision(link, shape)
    add_visual(link, shape)


def add_lights(world: Element, scene: Scene) -> None:
    """Append the light that is everywhere, what is seen behind all, and the directional lights."""
    look = SubElement(world, "scene")
    leaf(look, "ambient", numbers([scene.ambient] * 3 + [1.0]))
    leaf(look, "background", numbers([*scene.background, 1.0]))
    leaf(look, "shadows", False)
    leaf(look, "grid", False)
    for index, light in enumerate(scene.lights):
        _add_light(world, f"light_{index}", light)


def _add_light(world: Element, name: str, light: Light) -> None:
    element = SubElement(world, "light", name=name, type="directional")
    leaf(element, "cast_shadows", False)
    add_pose(element, placed(0.0, 0.0, 2.0))
    leaf(element, "diffuse", numbers([light.brightness] * 3 + [1.0]))
    leaf(element, "specular", "0 0 0 1")
    direction = np.array(light.direction)
    leaf(element, "direction", numbers(direction / np.linalg.norm(direction)))


def add_camera(world: Element, camera: Camera) -> Element:
    """Append a camera as a still model of its name, and return the sensor, of that name too.

    It is a pinhole camera: a lens's distortion is left to who takes the pictures.
    """
    pose = camera.pose.copy()
    pose[:3, :3] = camera.pose[:3, :3] @ _CAMERA_AXES
    link = _add_still_model(world, camera.name, pose)
    sensor = SubElement(link, "sensor", name=camera.name, type="camera")
    leaf(sensor, "always_on", True)
    leaf(sensor, "update_rate", camera.rate)
    element = SubElement(sensor, "camera", name=camera.name)
    leaf(element, "horizontal_fov", 2.0 * math.atan(camera.width / (2.0 * camera.fx)))
    image = SubElement(element, "image")
    leaf(image, "width", camera.width)
    leaf(image, "height", camera.height)
    leaf(image, "format", "R8G8B8")
    clip = SubElement(element, "clip")
    leaf(clip, "near", _CLIP[0])
    leaf(clip, "far", _CLIP[1])
    centre = (camera.width - 1) / 2.0, (camera.height - 1) / 2.0
    if (camera.cx, camera.cy, camera.fy) != (*centre, camera.fx):
        _add_intrinsics(element, camera)
    return sensor


def _add_intrinsics(element: Element, camera: Camera) -> None:
    """Append what the field of view can't say: a principal point aside, pixels not square."""
    intrinsics = SubElement(SubElement(element, "lens"), "intrinsics")
    leaf(intrinsics, "fx", camera.fx)
    leaf(intrinsics, "fy", camera.fy)
    # Gazebo counts from the first pixel's corner, calibrations from its centre.
    leaf(intrinsics, "cx", camera.cx + 0.5)
    leaf(intrinsics, "cy", camera.cy + 0.5)
    leaf(intrinsics, "s", 0.0)
