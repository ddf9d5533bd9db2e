"""A robot as data: joints, limits, cameras and command interfaces, from a YAML and a URDF."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rl_robot.errors import UserError
from rl_robot.resources import resource_files, resource_path
from rl_robot.robots.cameras import Camera, parse_cameras
from rl_robot.robots.interfaces import Commanded, CommandInterface, parse_interfaces
from rl_robot.robots.joints import Gripper, Joint, parse_gripper, parse_home, parse_joints
from rl_robot.robots.section import Section, list_names
from rl_robot.robots.urdf import Urdf, parse_urdf

# A robot's parts are had from here too.
__all__ = [
    "Camera",
    "CommandInterface",
    "Gripper",
    "Joint",
    "Robot",
    "available_robots",
    "load_robot",
]

Array = NDArray[np.float64]

PACKAGE_PREFIX = "package://rl_robot/"
EXTENDS = "extends"
_MOST_EXTENDED = 5  # files that extend one another


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
    section = Section(_read_extended(path), str(path))
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
    joints = parse_joints(section.section("joints"), urdf)
    gripper = parse_gripper(section.section("gripper"), joints) if "gripper" in section else None
    joints = _arm_first(joints, gripper)
    joint_states = section.section("joint_states")
    rate = joint_states.positive("rate")
    commanded = Commanded(joints, gripper, (base_frame, tool_frame), rate)
    if not commanded.arm:
        raise section.error("joints has none but the gripper's: the arm needs at least one")
    _check_tool(section, urdf, tool_frame, commanded.arm)
    robot = Robot(
        name=section.text("name"),
        source=path,
        urdf_path=urdf_path,
        urdf_xml=urdf_xml,
        base_frame=base_frame,
        tool_frame=tool_frame,
        joints=joints,
        arm_joints=tuple(commanded.arm),
        gripper=gripper,
        home=parse_home(section.section("home"), joints),
        interfaces=parse_interfaces(section.section("interfaces"), commanded),
        cameras=parse_cameras(section.section("cameras"), urdf) if "cameras" in section else (),
        joint_state_topic=joint_states.topic("topic"),
        joint_state_rate=rate,
        safety=section.value("safety") if "safety" in section else {},
    )
    joint_states.refuse_others()
    section.refuse_others()
    _check_topics(section, robot)
    return robot


def _check_topics(section: Section, robot: Robot) -> None:
    """Refuse one topic for two things."""
    uses = {robot.joint_state_topic.lstrip("/"): "joint_states"}
    others = [(camera.topic, f"camera {camera.name}") for camera in robot.cameras]
    others += [(one.topic, f"interface {one.name}") for one in robot.interfaces]
    for topic, use in others:
        if (name := topic.lstrip("/")) in uses:
            raise section.error(f"topic {topic} is used by both {uses[name]} and {use}")
        uses[name] = use


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


def _read_extended(path: Path, files: tuple[Path, ...] = ()) -> Any:
    """Return a YAML's values; where it extends another file, that one's with its own put over them.

    What a file says under a key of the top level takes the place of all that the other says there.
    """
    values = _read_yaml(path)
    if not isinstance(values, Mapping) or EXTENDS not in values:
        return values
    section = Section(values, str(path))
    base = _beside(section.text(EXTENDS), path)
    files = (*files, path.resolve())
    if base in files or len(files) > _MOST_EXTENDED:
        raise section.error(f"extends {base}, which leads back here or to too many files")
    if not base.is_file():
        raise section.error(f"extends {base}, which is no file")
    under = Section(_read_extended(base, files), str(base))
    inherited = {name: under.value(name) for name in under.names()}
    if "urdf" not in values and "urdf" in under:  # it is written from the other file's place
        inherited["urdf"] = str(_urdf_path(under.text("urdf"), base))
    return inherited | {name: values[name] for name in section.names() if name != EXTENDS}


def _beside(text: str, yaml_path: Path) -> Path:
    return (yaml_path.parent / text).resolve()


def _urdf_path(text: str, yaml_path: Path) -> Path:
    if text.startswith(PACKAGE_PREFIX):
        return resource_path(text.removeprefix(PACKAGE_PREFIX))
    return _beside(text, yaml_path)


def _frame(section: Section, key: str, urdf: Urdf) -> str:
    frame = section.text(key)
    if frame not in urdf.links:
        raise section.error(f"{key} is {frame}, but the URDF has only {list_names(urdf.links)}")
    return frame


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
