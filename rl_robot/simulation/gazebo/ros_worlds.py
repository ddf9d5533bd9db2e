"""Worlds for full ROS 2 installs: ros2_control drives the robot, cameras speak to the graph."""

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from rl_robot.errors import UserError
from rl_robot.robots.bodies import robot_bodies
from rl_robot.robots.description import Camera, Robot
from rl_robot.simulation.gazebo.bridge import camera_topics
from rl_robot.simulation.gazebo.elements import (
    add_camera,
    add_lights,
    add_robot,
    add_scene,
    check_model_names,
    leaf,
)
from rl_robot.simulation.gazebo.ros_control import remappings
from rl_robot.simulation.gazebo.sdf import CLASSIC_SDF, WORLD, add_ode, check_step, to_text
from rl_robot.simulation.world import Scene

GZ_HARDWARE = "gz_ros2_control/GazeboSimSystem"
CLASSIC_HARDWARE = "gazebo_ros2_control/GazeboSystem"
_MODERN_SDF = "1.10"
_SYSTEMS = {
    "gz-sim-physics-system": "gz::sim::systems::Physics",
    "gz-sim-user-commands-system": "gz::sim::systems::UserCommands",
    "gz-sim-scene-broadcaster-system": "gz::sim::systems::SceneBroadcaster",
    "gz-sim-sensors-system": "gz::sim::systems::Sensors",
}
# Of the distance to the set point, the share that a joint is to cover in one controller period.
_POSITION_GAIN = 0.5
_GREY_LEVELS = 255.0


def modern_world(
    robot: Robot,
    scene: Scene,
    *,
    controllers: Path,
    namespace: str = "",
    physics_step: float = 0.001,
) -> str:
    """Return the world for today's Gazebo (Harmonic or newer), as SDF 1.10.

    Models, links and poses are those of ``classic_world``. The robot's model runs gz_ros2_control,
    pictures are on ``/<camera>/image_raw`` of Gazebo's own transport, with the scene's noise.

    Args:
        robot: the robot, its base fixed to the world.
        scene: what stands around it.
        controllers: the parameter file of its controllers.
        namespace: of the controller manager and its controllers.
        physics_step: s.

    Raises:
        UserError: a robot or scene that Gazebo can't be told, or a lens that it can't show.
    """
    sdf = Element("sdf", version=_MODERN_SDF)
    world = SubElement(sdf, "world", name=WORLD)
    physics = SubElement(world, "physics", name="real_time", type="ignored")
    leaf(physics, "max_step_size", check_step(physics_step))
    leaf(physics, "real_time_factor", 1.0)
    for filename, name in _SYSTEMS.items():
        system = SubElement(world, "plugin", filename=filename, name=name)
        if name.endswith("Sensors"):
            leaf(system, "render_engine", "ogre2")
    model = _add_all(world, robot, scene)
    control = SubElement(
        model,
        "plugin",
        filename="gz_ros2_control-system",
        name="gz_ros2_control::GazeboSimROS2ControlPlugin",
    )
    leaf(control, "parameters", str(controllers))
    leaf(control, "position_proportional_gain", _POSITION_GAIN)
    _add_ros(control, namespace, remappings(robot))
    for camera in robot.cameras:
        sensor = _add_noisy_camera(world, camera, scene)
        image, info = camera_topics(camera.name)
        leaf(sensor, "topic", image)
        lens = sensor.find("camera")
        assert lens is not None
        leaf(lens, "camera_info_topic", info)
        leaf(lens, "optical_frame_id", camera.frame_id)
    return to_text(sdf)


def classic_ros_world(
    robot: Robot,
    scene: Scene,
    *,
    controllers: Path,
    namespace: str = "",
    physics_step: float = 0.001,
) -> str:
    """Return the world for Gazebo Classic 11 with gazebo_ros, as SDF 1.7.

    As ``classic_world``, at the wall clock's pace and with the plugins of gazebo_ros2_control and
    gazebo_plugins in place of ours; gazebo_ros_state places objects. Arguments and errors are those
    of ``modern_world``.
    """
    sdf = Element("sdf", version=CLASSIC_SDF)
    world = SubElement(sdf, "world", name=WORLD)
    add_ode(world, physics_step, rate=1.0 / check_step(physics_step))
    state = SubElement(world, "plugin", name="gazebo_ros_state", filename="libgazebo_ros_state.so")
    _add_ros(state, namespace, {})
    model = _add_all(world, robot, scene)
    control = SubElement(
        model, "plugin", name="gazebo_ros2_control", filename="libgazebo_ros2_control.so"
    )
    leaf(control, "parameters", str(controllers))
    _add_ros(control, namespace, remappings(robot))
    for camera in robot.cameras:
        sensor = _add_noisy_camera(world, camera, scene)
        plugin = SubElement(
            sensor, "plugin", name=f"{camera.name}_driver", filename="libgazebo_ros_camera.so"
        )
        image, _ = camera_topics(camera.name)
        _add_ros(plugin, namespace, {image: camera.topic} if image != camera.topic else {})
        leaf(plugin, "camera_name", camera.name)
        leaf(plugin, "frame_name", camera.frame_id)
    return to_text(sdf)


def _add_all(world: Element, robot: Robot, scene: Scene) -> Element:
    """Append all but the cameras, and return the robot's model."""
    check_model_names(robot, scene)
    add_lights(world, scene)
    add_scene(world, scene)
    return add_robot(world, robot, robot_bodies(robot))


def _add_ros(plugin: Element, namespace: str, rules: dict[str, str]) -> None:
    ros = SubElement(plugin, "ros")
    prefix = f"/{namespace}/" if namespace else "/"
    leaf(ros, "namespace", prefix.rstrip("/") or "/")
    for theirs, ours in rules.items():
        leaf(
            ros, "remapping", f"{prefix}{theirs}:={ours if ours.startswith('/') else prefix + ours}"
        )


def _add_noisy_camera(world: Element, camera: Camera, scene: Scene) -> Element:
    if any(camera.distortion):
        raise UserError(
            f"camera {camera.name}: its lens distorts, which Gazebo's pictures for ROS do not show "
            "as the calibration says; give the robot's YAML a distortion of zeros"
        )
    sensor = add_camera(world, camera)
    lens = sensor.find("camera")
    assert lens is not None
    noise = SubElement(lens, "noise")
    leaf(noise, "type", "gaussian")
    leaf(noise, "mean", 0.0)
    leaf(noise, "stddev", scene.camera_noise / _GREY_LEVELS)
    return sensor
