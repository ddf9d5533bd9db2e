"""A robot as data: joints, limits, cameras and command interfaces, from a YAML and a URDF."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.errors import UserError
from rl_robot.resources import resource_files, resource_path
from rl_robot.robots.section import Section, list_names
from rl_robot.robots.urdf import MOVING_TYPES, Urdf, UrdfJoint, parse_urdf

Array = NDArray[np.float64]

JOINT_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
FLOAT64_MULTI_ARRAY = "std_msgs/msg/Float64MultiArray"
INTERFACE_TYPES = (JOINT_TRAJECTORY, FLOAT64_MULTI_ARRAY)
PACKAGE_PREFIX = "package://rl_robot/"
# A calibration agrees with the URDF's nominal frame to within these, or one of them is wrong.
EXTRINSICS_TOLERANCE = 0.002  # m
EXTRINSICS_ANGLE_TOLERANCE = math.radians(0.3)


@dataclass(frozen=True)
class Joint:
    """One commanded joint and its limits: rad or m, and their derivatives; effort in N m or N."""

    name: str
    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float
    effort: float


@dataclass(frozen=True)
class CommandInterface:
    """One topic through which some joints are commanded, and what its driver does on silence.

    ``timeout`` is in seconds; ``on_timeout`` is ``hold``.
    """

    name: str
    topic: str
    type: str
    mode: str
    joints: tuple[str, ...]
    timeout: float
    on_timeout: str


@dataclass(frozen=True)
class Camera:
    """A calibrated camera. ``name`` is also the topic prefix: ``<name>/image_raw``.

    ``position`` (3,) in metres and ``quaternion`` (x, y, z, w) place the optical frame (z forward,
    x right, y down) in the robot's base frame; ``fx``, ``fy``, ``cx``, ``cy`` are in pixels, with
    the centre of the first pixel at (0, 0); ``distortion`` is plumb_bob (k1, k2, p1, p2, k3).
    """

    name: str
    width: int
    height: int
    rate: float
    frame_id: str
    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]

    @cached_property
    def matrix(self) -> Array:
        """Intrinsic matrix K (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @cached_property
    def pose(self) -> Array:
        """Transform (4, 4) from the optical frame to the base frame."""
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(self.quaternion).as_matrix()
        pose[:3, 3] = self.position
        return pose


@dataclass(frozen=True)
class Gripper:
    """A parallel gripper driven by one joint (m): its aperture is twice the joint's position."""

    joint: str
    open: float
    closed: float


@dataclass(frozen=True)
class Robot:
    """Everything the stack knows about one robot.

    Arrays follow ``joint_names`` and are read-only.
    """

    name: str
    source: Path
    urdf_path: Path
    urdf_xml: str
    base_frame: str
    tool_frame: str
    joints: tuple[Joint, ...]
    arm_joints: tuple[str, ...]
    gripper: Gripper | None
    home: dict[str, float]
    interfaces: tuple[CommandInterface, ...]
    cameras: tuple[Camera, ...]
    joint_state_topic: str
    joint_state_rate: float
    safety: Mapping[str, Any]  # what the safety filter keeps beside the joints' limits

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Arm joints, then the gripper's joint where there is a gripper."""
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def home_positions(self) -> Array:
        """Home position (n,) of every joint."""
        return _frozen([self.home[name] for name in self.joint_names])

    @cached_property
    def lower(self) -> Array:
        """Lower position limits (n,)."""
        return _frozen([joint.lower for joint in self.joints])

    @cached_property
    def upper(self) -> Array:
        """Upper position limits (n,)."""
        return _frozen([joint.upper for joint in self.joints])

    @cached_property
    def velocity(self) -> Array:
        """Velocity limits (n,)."""
        return _frozen([joint.velocity for joint in self.joints])

    @cached_property
    def acceleration(self) -> Array:
        """Acceleration limits (n,)."""
        return _frozen([joint.acceleration for joint in self.joints])

    def joint(self, name: str) -> Joint:
        """Return the joint called ``name``.

        Raises:
            UserError: no such joint.
        """
        for joint in self.joints:
            if joint.name == name:
                return joint
        raise UserError(
            f"robot {self.name} has no joint {name}; it has {list_names(self.joint_names)}"
        )

    def camera(self, name: str) -> Camera:
        """Return the camera called ``name``.

        Raises:
            UserError: no such camera.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        names = [camera.name for camera in self.cameras]
        raise UserError(f"robot {self.name} has no camera {name}; it has {list_names(names)}")

    def interface(self, name: str) -> CommandInterface:
        """Return the command interface called ``name``.

        Raises:
            UserError: no such interface.
        """
        for interface in self.interfaces:
            if interface.name == name:
                return interface
        names = [interface.name for interface in self.interfaces]
        raise UserError(f"robot {self.name} has no interface {name}; it has {list_names(names)}")


def _frozen(values: Sequence[float]) -> Array:
    """Return an array that can be shared: nobody can write to it."""
    array = np.array(values)
    array.flags.writeable = False
    return array


def available_robots() -> list[str]:
    """Names of the robots that come with the package."""
    return [path.stem for path in resource_files("config/robots", ".yaml")]


def load_robot(name_or_path: str) -> Robot:
    """Load a robot that comes with the package by name, or a user's own by the path of its YAML.

    Raises:
        UserError: unknown robot, malformed YAML or URDF, or a YAML that contradicts its URDF.
    """
    path = _robot_file(name_or_path)
    section = Section(_read_yaml(path), str(path))
    urdf_path = _urdf_path(section.text("urdf"), path)
    try:
        urdf_xml = urdf_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: its urdf {urdf_path} cannot be read ({error})") from error
    urdf = parse_urdf(urdf_xml, str(urdf_path))
    base_frame = _frame(section, "base_frame", urdf)
    if base_frame != urdf.root:
        raise section.error(f"base_frame is {base_frame}, but the URDF's root link is {urdf.root}")
    tool_frame = _frame(section, "tool_frame", urdf)
    joints = _joints(section.section("joints"), urdf)
    gripper = _gripper(section.section("gripper"), joints) if "gripper" in section else None
    joints = _arm_first(joints, gripper)
    arm_joints = tuple(j.name for j in joints if gripper is None or j.name != gripper.joint)
    if not arm_joints:
        raise section.error("joints has none but the gripper's: the arm needs at least one")
    _check_tool(section, urdf, tool_frame, arm_joints)
    joint_states = section.section("joint_states")
    robot = Robot(
        name=section.text("name"),
        source=path,
        urdf_path=urdf_path,
        urdf_xml=urdf_xml,
        base_frame=base_frame,
        tool_frame=tool_frame,
        joints=joints,
        arm_joints=arm_joints,
        gripper=gripper,
        home=_home(section.section("home"), joints),
        interfaces=_interfaces(section.section("interfaces"), joints),
        cameras=_cameras(section.section("cameras"), urdf) if "cameras" in section else (),
        joint_state_topic=joint_states.text("topic"),
        joint_state_rate=joint_states.positive("rate"),
        safety=section.value("safety") if "safety" in section else {},
    )
    joint_states.refuse_others()
    section.refuse_others()
    return robot


def _robot_file(name_or_path: str) -> Path:
    if name_or_path in available_robots():
        return resource_path(f"config/robots/{name_or_path}.yaml")
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    raise UserError(
        f"unknown robot {name_or_path!r}: give one of {list_names(available_robots())}, "
        "or the path of a robot's YAML file"
    )


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error


def _urdf_path(text: str, yaml_path: Path) -> Path:
    if text.startswith(PACKAGE_PREFIX):
        return resource_path(text.removeprefix(PACKAGE_PREFIX))
    return (yaml_path.parent / text).resolve()


def _frame(section: Section, key: str, urdf: Urdf) -> str:
    frame = section.text(key)
    if frame not in urdf.links:
        raise section.error(f"{key} is {frame}, but the URDF has only {list_names(urdf.links)}")
    return frame


def _joints(section: Section, urdf: Urdf) -> tuple[Joint, ...]:
    moving = [j for j in urdf.joints.values() if j.type in MOVING_TYPES and j.mimics is None]
    names = [joint.name for joint in moving]
    for name in section.names():
        if name not in names:
            raise section.error(
                f"{name} is no moving joint of the URDF; it has {list_names(names)}"
            )
    for name in names:
        if name not in section:
            raise section.error(f"the URDF's joint {name} is missing")
    return tuple(_joint(section.section(joint.name), joint) for joint in moving)


def _joint(section: Section, urdf_joint: UrdfJoint) -> Joint:
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


def _gripper(section: Section, joints: Sequence[Joint]) -> Gripper:
    joint = _joint_called(section, section.text("joint"), joints)
    gripper = Gripper(joint.name, section.number("open"), section.number("closed"))
    section.refuse_others()
    for key in ("open", "closed"):
        _check_within(section, key, getattr(gripper, key), joint)
    if gripper.closed >= gripper.open:
        raise section.error(f"closed {gripper.closed:g} must be below open {gripper.open:g}")
    return gripper


def _arm_first(joints: tuple[Joint, ...], gripper: Gripper | None) -> tuple[Joint, ...]:
    return tuple(sorted(joints, key=lambda j: gripper is not None and j.name == gripper.joint))


def _check_tool(section: Section, urdf: Urdf, tool: str, arm_joints: Sequence[str]) -> None:
    chain = urdf.moving_ancestors(tool)
    for name in chain:
        if name not in arm_joints:
            raise section.error(f"tool_frame {tool} is moved by {name}, which is no arm joint")
    for name in arm_joints:
        if name not in chain:
            raise section.error(f"tool_frame {tool} is not moved by arm joint {name}")


def _home(section: Section, joints: Sequence[Joint]) -> dict[str, float]:
    for name in section.names():
        _joint_called(section, name, joints)
    home = {joint.name: section.number(joint.name) for joint in joints}
    for joint in joints:
        _check_within(section, joint.name, home[joint.name], joint)
    return home


def _check_within(section: Section, key: str, value: float, joint: Joint) -> None:
    if not joint.lower <= value <= joint.upper:
        limits = f"{joint.lower:g} to {joint.upper:g}"
        raise section.error(f"{key} is {value:g}, outside joint {joint.name}'s limits {limits}")


def _joint_called(section: Section, name: str, joints: Sequence[Joint]) -> Joint:
    for joint in joints:
        if joint.name == name:
            return joint
    raise section.error(f"unknown joint {name}; joints are {list_names([j.name for j in joints])}")


def _interfaces(section: Section, joints: Sequence[Joint]) -> tuple[CommandInterface, ...]:
    interfaces = tuple(_interface(section.section(name), name) for name in section.names())
    owners: dict[str, str] = {}
    for interface in interfaces:
        for name in interface.joints:
            _joint_called(section, name, joints)
            if name in owners:
                both = f"{owners[name]} and {interface.name}"
                raise section.error(f"joint {name} is commanded twice, by {both}")
            owners[name] = interface.name
    for joint in joints:
        if joint.name not in owners:
            raise section.error(f"no interface commands joint {joint.name}")
    for topic in (topics := [interface.topic for interface in interfaces]):
        if topics.count(topic) > 1:
            raise section.error(f"topic {topic} is used by more than one interface")
    return interfaces


def _interface(section: Section, name: str) -> CommandInterface:
    interface = CommandInterface(
        name=name,
        topic=section.text("topic"),
        type=section.choice("type", INTERFACE_TYPES),
        mode=section.choice("mode", ["position"]),
        joints=section.texts("joints"),
        timeout=section.positive("timeout"),
        on_timeout=section.choice("on_timeout", ["hold"]),
    )
    section.refuse_others()
    return interface


def _cameras(section: Section, urdf: Urdf) -> tuple[Camera, ...]:
    return tuple(_camera(section.section(name), name, urdf) for name in section.names())


def _camera(section: Section, name: str, urdf: Urdf) -> Camera:
    x, y, z = section.numbers("position", 3)
    qx, qy, qz, qw = section.numbers("quaternion", 4)
    camera = Camera(
        name=name,
        width=section.whole("width"),
        height=section.whole("height"),
        rate=section.positive("rate"),
        frame_id=section.text("frame_id"),
        position=(x, y, z),
        quaternion=(qx, qy, qz, qw),
        fx=section.positive("fx"),
        fy=section.positive("fy"),
        cx=section.number("cx"),
        cy=section.number("cy"),
        distortion=section.numbers("distortion", 5),
    )
    section.refuse_others()
    norm = math.hypot(*camera.quaternion)
    if abs(norm - 1.0) > 1e-3:
        raise section.error(f"quaternion has length {norm:.4g}, it must have length 1 (x, y, z, w)")
    if not (0.0 <= camera.cx <= camera.width and 0.0 <= camera.cy <= camera.height):
        raise section.error(f"cx, cy ({camera.cx:g}, {camera.cy:g}) lie outside the image")
    _check_extrinsics(section, camera, urdf)
    return camera


def _check_extrinsics(section: Section, camera: Camera, urdf: Urdf) -> None:
    if camera.frame_id not in urdf.links:
        return  # a camera that only the calibration knows
    nominal = urdf.fixed_pose(camera.frame_id)
    if nominal is None:
        raise section.error(f"frame_id {camera.frame_id} moves: cameras must be fixed to the base")
    offset = float(np.linalg.norm(camera.pose[:3, 3] - nominal[:3, 3]))
    turn = Rotation.from_matrix(nominal[:3, :3].T @ camera.pose[:3, :3]).magnitude()
    if offset > EXTRINSICS_TOLERANCE or turn > EXTRINSICS_ANGLE_TOLERANCE:
        raise section.error(
            f"its pose is {offset * 1000:.1f} mm and {math.degrees(turn):.2f} degrees from the "
            f"URDF's frame {camera.frame_id}: calibrate, then correct one of them"
        )
