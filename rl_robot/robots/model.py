"""MuJoCo models made in code from a robot's URDF."""

from xml.etree import ElementTree

import mujoco

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot


def robot_spec(robot: Robot) -> mujoco.MjSpec:
    """Translate the robot's URDF into an editable MuJoCo model.

    Every link stays a body of its own, so that tool and camera frames keep their names; visual
    geometry is kept (group 1) beside collision geometry (group 0).

    Raises:
        UserError: MuJoCo cannot read the URDF.
    """
    root = ElementTree.fromstring(robot.urdf_xml)
    options = ElementTree.SubElement(ElementTree.SubElement(root, "mujoco"), "compiler")
    options.set("fusestatic", "false")
    options.set("discardvisual", "false")
    options.set("meshdir", str(robot.urdf_path.parent))
    try:
        return mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    except ValueError as error:
        raise _unreadable(robot, error) from error


def compile_model(spec: mujoco.MjSpec, robot: Robot) -> mujoco.MjModel:
    """Compile the model.

    Raises:
        UserError: MuJoCo cannot build it, for example because a mesh file is absent.
    """
    try:
        return spec.compile()
    except ValueError as error:
        raise _unreadable(robot, error) from error


def _unreadable(robot: Robot, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{robot.urdf_path}: MuJoCo cannot build this robot ({reason})")
