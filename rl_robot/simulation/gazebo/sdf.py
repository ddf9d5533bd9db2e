"""The world that Gazebo simulates, as SDF, from the robot and scene that MuJoCo's is made from."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from rl_robot.errors import UserError
from rl_robot.robots.bodies import BodyTree, robot_bodies
from rl_robot.robots.description import Robot
from rl_robot.simulation.gazebo.elements import (
    add_camera,
    add_lights,
    add_robot,
    add_scene,
    check_model_names,
    leaf,
)
from rl_robot.simulation.world import Scene

WORLD = "default"
CLASSIC_SDF = "1.7"
PLUGIN_NAME = "rl_robot_joints"
# Steps per second that Gazebo may take: at 0 it burns a core while it is paused.
_UPDATE_RATE = 5000.0
_SOLVER_ITERATIONS = 20


def classic_world(
    robot: Robot,
    scene: Scene,
    *,
    physics_step: float = 0.001,
    plugin: str | None = "librl_robot_joints.so",
) -> str:
    """Return the world for Gazebo Classic 11, as SDF 1.7.

    The world is called ``default``. The robot is a model of its own name, whose links are the
    heads of its rigid bodies and whose other links are frames; so are ``table``, every object and
    every camera, whose sensor has the same name. Pictures are a pinhole camera's, without noise.

    Args:
        robot: the robot, its base fixed to the world.
        scene: what stands around it.
        physics_step: s.
        plugin: file of the plugin in the robot's model, which drives its joints. It is told the
            base link, the commanded joints with their limits and home, and which joints mimic.

    Raises:
        UserError: a robot or scene that Gazebo can't be told.
    """
    tree = robot_bodies(robot)
    check_model_names(robot, scene)
    sdf = Element("sdf", version=CLASSIC_SDF)
    world = SubElement(sdf, "world", name=WORLD)
    add_ode(world, physics_step)
    add_lights(world, scene)
    add_scene(world, scene)
    model = add_robot(world, robot, tree)
    if plugin is not None:
        _add_joints_plugin(model, plugin, robot, tree)
    for camera in robot.cameras:
        add_camera(world, camera)
    return to_text(sdf)


def to_text(root: Element) -> str:
    """Return an XML document's text, indented."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def check_step(physics_step: float) -> float:
    """Return a physics step in s.

    Raises:
        UserError: it is not above 0 and up to 0.1 s.
    """
    if not 0.0 < physics_step <= 0.1:
        raise UserError(f"physics step {physics_step:g} s: expected above 0, up to 0.1 s")
    return physics_step


def add_ode(world: Element, physics_step: float, *, rate: float = _UPDATE_RATE) -> None:
    """Append Gazebo Classic's physics, of up to ``rate`` steps per second.

    Raises:
        UserError: no such step.
    """
    physics = SubElement(world, "physics", name="ode", type="ode", default="true")
    leaf(physics, "max_step_size", check_step(physics_step))
    leaf(physics, "real_time_update_rate", rate)
    solver = SubElement(SubElement(physics, "ode"), "solver")
    leaf(solver, "type", "quick")
    leaf(solver, "iters", str(_SOLVER_ITERATIONS))


def _add_joints_plugin(model: Element, file: str, robot: Robot, tree: BodyTree) -> None:
    plugin = SubElement(model, "plugin", name=PLUGIN_NAME, filename=file)
    leaf(plugin, "base_link", tree.root.name)
    for joint in robot.joints:
        element = SubElement(plugin, "joint", name=joint.name)
        for key in ("lower", "upper", "velocity", "effort"):
            leaf(element, key, getattr(joint, key))
        leaf(element, "home", robot.home[joint.name])
    for mimic in tree.joints:
        if mimic.mimics is not None:
            element = SubElement(plugin, "mimic", name=mimic.name)
            leaf(element, "joint", mimic.mimics)
            leaf(element, "multiplier", mimic.multiplier)
            leaf(element, "offset", mimic.offset)
            leaf(element, "effort", mimic.effort)
