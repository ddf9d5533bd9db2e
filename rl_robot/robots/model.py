"""MuJoCo models made in code from a robot's URDF."""

from pathlib import Path
from xml.etree import ElementTree

import mujoco

from rl_robot.errors import UserError
from rl_robot.robots.bodies import SMALLEST_INERTIA, SMALLEST_MASS
from rl_robot.robots.description import Robot

_MESH_TYPES = (".stl", ".obj", ".msh")


def robot_spec(robot: Robot) -> mujoco.MjSpec:
    """Translate the robot's URDF into an editable MuJoCo model.

    Every link stays a body of its own, so that tool and camera frames keep their names; visual
    geometry is kept (group 1) beside collision geometry (group 0).

    Raises:
        UserError: a mesh is absent or of a type that MuJoCo cannot read, or the URDF itself is.
    """
    root = ElementTree.fromstring(robot.urdf_xml)
    _locate_meshes(root, robot)
    extension = _child(root, "mujoco")
    compiler = _child(extension, "compiler")
    compiler.set("fusestatic", "false")
    compiler.set("discardvisual", "false")
    compiler.set("strippath", "false")
    compiler.set("boundmass", str(SMALLEST_MASS))
    compiler.set("boundinertia", str(SMALLEST_INERTIA))
    try:
        return mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    except ValueError as error:
        raise _unreadable(robot, error) from error


def compile_model(spec: mujoco.MjSpec, robot: Robot) -> mujoco.MjModel:
    """Compile the model.

    Raises:
        UserError: MuJoCo cannot build it.
    """
    try:
        return spec.compile()
    except ValueError as error:
        raise _unreadable(robot, error) from error


def _child(element: ElementTree.Element, tag: str) -> ElementTree.Element:
    child = element.find(tag)
    return ElementTree.SubElement(element, tag) if child is None else child


def _locate_meshes(root: ElementTree.Element, robot: Robot) -> None:
    """Make mesh paths absolute; leave out visuals of a type that MuJoCo cannot read (.dae)."""
    for link in root.findall("link"):
        for shape in link.findall("visual") + link.findall("collision"):
            mesh = shape.find("geometry/mesh")
            if mesh is None:
                continue
            path = _mesh_path(mesh.get("filename", ""), robot.urdf_path)
            if path.suffix.lower() in _MESH_TYPES:
                mesh.set("filename", str(path))
            elif shape.tag == "visual":
                link.remove(shape)
            else:
                raise UserError(
                    f"{robot.urdf_path}: collision mesh {path.name} of link {link.get('name')} "
                    f"must be one of {', '.join(_MESH_TYPES)}"
                )


def _mesh_path(filename: str, urdf_path: Path) -> Path:
    """Return where a mesh is: relative to the URDF, or in a package that the URDF is part of."""
    if not filename.startswith("package://"):
        return urdf_path.parent / filename.removeprefix("file://")
    package, _, inside = filename.removeprefix("package://").partition("/")
    for folder in urdf_path.parents:
        if folder.name == package:
            return folder / inside
    raise UserError(f"{urdf_path}: {filename} not found: no folder above it is called {package}")


def _unreadable(robot: Robot, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{robot.urdf_path}: MuJoCo cannot build this robot ({reason})")
