"""What ros2_control needs to drive a robot in Gazebo: its description and its controllers.

Names are those of ros2_control, gz_ros2_control (today's Gazebo) and gazebo_ros2_control (Classic).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from rl_robot.errors import UserError
from rl_robot.robots.description import CommandInterface, Robot
from rl_robot.robots.interfaces import FLOAT64_MULTI_ARRAY, GRIPPER_COMMAND, JOINT_TRAJECTORY
from rl_robot.robots.urdf import parse_urdf
from rl_robot.simulation.gazebo.elements import leaf

BROADCASTER = "joint_state_broadcaster"
MANAGER = "controller_manager"
UPDATE_RATE = 500  # Hz of the controllers: every second physics step
_STATES = ("position", "velocity", "effort")


@dataclass(frozen=True)
class Controller:
    """A type of ros2_control's controllers, and the topic or action below its name it listens on.

    ``remaps`` says whether one remapping rule can give that another name.
    """

    type: str
    command: str
    remaps: bool = True


CONTROLLERS: Mapping[str, Controller] = {
    JOINT_TRAJECTORY: Controller(
        "joint_trajectory_controller/JointTrajectoryController", "joint_trajectory"
    ),
    FLOAT64_MULTI_ARRAY: Controller(
        "forward_command_controller/ForwardCommandController", "commands"
    ),
    GRIPPER_COMMAND: Controller(
        "position_controllers/GripperActionController", "gripper_cmd", remaps=False
    ),
}


def _controller(robot: Robot, interface: CommandInterface) -> Controller:
    controller = CONTROLLERS.get(interface.type)
    if controller is None:
        raise UserError(
            f"robot {robot.name}: interface {interface.name} takes {interface.type}, for which "
            f"ros2_control has no controller; expected {', '.join(CONTROLLERS)}"
        )
    here = f"{interface.name}/{controller.command}"
    if interface.topic != here and not controller.remaps:
        raise UserError(
            f"robot {robot.name}: interface {interface.name}'s action is {interface.topic}, "
            f"ros2_control calls it {here}"
        )
    return controller


def robot_description(robot: Robot, hardware: str) -> str:
    """Return the URDF with the ``<ros2_control>`` that lets controllers drive it.

    Joints begin at home. Joints that mimic others have no command of their own: the hardware moves
    them.

    Args:
        robot: the robot.
        hardware: the plugin that is the hardware: ``gz_ros2_control/GazeboSimSystem`` or
            ``gazebo_ros2_control/GazeboSystem``.
    """
    root = ElementTree.fromstring(robot.urdf_xml)
    control = SubElement(root, "ros2_control", name="gazebo", type="system")
    leaf(SubElement(control, "hardware"), "plugin", hardware)
    modes = {name: i.mode for i in robot.interfaces for name in i.joints}
    for joint in robot.joints:
        element = SubElement(control, "joint", name=joint.name)
        SubElement(element, "command_interface", name=modes[joint.name])
        _add_states(element, robot.home[joint.name])
    for mimic in parse_urdf(robot.urdf_xml, str(robot.urdf_path)).joints.values():
        if mimic.mimics is not None:
            start = mimic.multiplier * robot.home[mimic.mimics] + mimic.offset
            _add_states(SubElement(control, "joint", name=mimic.name), start)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_states(joint: Element, start: float) -> None:
    for name in _STATES:
        state = SubElement(joint, "state_interface", name=name)
        if name == "position":
            leaf(state, "param", start).set("name", "initial_value")


def controllers(robot: Robot, *, namespace: str = "") -> dict[str, Any]:
    """Return the parameters of the controller manager and its controllers, one per interface.

    Raises:
        UserError: an interface that no controller takes.
    """
    kinds = {interface.name: _controller(robot, interface) for interface in robot.interfaces}
    manager: dict[str, Any] = {"update_rate": UPDATE_RATE}
    manager[BROADCASTER] = {"type": "joint_state_broadcaster/JointStateBroadcaster"}
    manager |= {name: {"type": kind.type} for name, kind in kinds.items()}
    nodes: dict[str, Any] = {MANAGER: manager}
    # ros2_control before Iron has no rate per controller and sends at the manager's.
    nodes[BROADCASTER] = {"update_rate": round(robot.joint_state_rate)}
    nodes |= {interface.name: _parameters(interface) for interface in robot.interfaces}
    prefix = f"/{namespace}/" if namespace else ""
    return {f"{prefix}{name}": {"ros__parameters": values} for name, values in nodes.items()}


def _parameters(interface: CommandInterface) -> dict[str, Any]:
    joints = list(interface.joints)
    if interface.type == JOINT_TRAJECTORY:
        return {
            "joints": joints,
            "command_interfaces": [interface.mode],
            "state_interfaces": ["position", "velocity"],
            # Trajectories replace each other ten times a second: each begins at the set point, not
            # where the joint lags behind it. The first is the name before, the second since Jazzy.
            "open_loop_control": True,
            "interpolate_from_desired_state": True,
        }
    if interface.type == FLOAT64_MULTI_ARRAY:
        return {"joints": joints, "interface_name": interface.mode}
    return {"joint": joints[0]}


def controller_names(robot: Robot) -> list[str]:
    """Return what the spawner starts, the joint states first."""
    return [BROADCASTER, *(interface.name for interface in robot.interfaces)]


def remappings(robot: Robot) -> dict[str, str]:
    """Return those topics of controllers that the robot's YAML calls otherwise."""
    names = {"joint_states": robot.joint_state_topic}
    for interface in robot.interfaces:
        command = _controller(robot, interface).command
        names[f"{interface.name}/{command}"] = interface.topic
    return {theirs: ours for theirs, ours in names.items() if theirs != ours}
