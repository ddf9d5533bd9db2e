"""Worlds for full ROS 2 installs: the same world, with their plugins."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from rl_robot.errors import UserError
from rl_robot.robots.description import load_robot
from rl_robot.simulation.gazebo.bridge import bridge_topics
from rl_robot.simulation.gazebo.ros_worlds import classic_ros_world, modern_world
from rl_robot.simulation.gazebo.sdf import classic_world
from rl_robot.simulation.world import load_scene

SCENE = load_scene("table")
CONTROLLERS = Path("/somewhere/controllers.yaml")
MAKERS = [modern_world, classic_ros_world]


def world_of(make, robot_name: str = "arm", **options: object) -> Element:
    text = make(load_robot(robot_name), SCENE, controllers=CONTROLLERS, **options)
    world = ElementTree.fromstring(text).find("world")
    assert world is not None
    return world


def shapes(world: Element) -> list[tuple[str, str]]:
    """Return each model's name and content, without plugins and without its sensors."""
    models = []
    for model in world.findall("model"):
        for parent in [model, *model.findall("link")]:
            for tag in ("plugin", "sensor"):
                for child in parent.findall(tag):
                    parent.remove(child)
        texts = [
            f"{e.tag} {sorted(e.attrib.items())} {(e.text or '').strip()}" for e in model.iter()
        ]
        models.append((model.get("name", ""), "\n".join(texts)))
    return models


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("robot_name", ["arm", "arm7"])
def test_models_are_those_of_our_own_world(make, robot_name: str) -> None:
    ours = ElementTree.fromstring(classic_world(load_robot(robot_name), SCENE)).find("world")
    assert shapes(world_of(make, robot_name)) == shapes(ours)


def test_todays_gazebo_gets_the_systems_that_simulate_and_render() -> None:
    world = world_of(modern_world)
    systems = {p.get("name"): p.get("filename") for p in world.findall("plugin")}
    assert systems == {
        "gz::sim::systems::Physics": "gz-sim-physics-system",
        "gz::sim::systems::UserCommands": "gz-sim-user-commands-system",
        "gz::sim::systems::SceneBroadcaster": "gz-sim-scene-broadcaster-system",
        "gz::sim::systems::Sensors": "gz-sim-sensors-system",
    }
    assert world.findtext("plugin/render_engine") == "ogre2"
    control = world.find("model[@name='arm']/plugin")
    assert control.get("name") == "gz_ros2_control::GazeboSimROS2ControlPlugin"
    assert control.findtext("parameters") == str(CONTROLLERS)


def test_pictures_are_where_the_bridge_looks_for_them() -> None:
    sensor = world_of(modern_world).find("model[@name='camera']/link/sensor")
    bridged = [entry["gz_topic_name"] for entry in bridge_topics(load_robot("arm"))]
    assert f"/{sensor.findtext('topic')}" in bridged
    assert f"/{sensor.findtext('camera/camera_info_topic')}" in bridged
    assert sensor.findtext("camera/optical_frame_id") == "camera_optical_frame"
    assert float(sensor.findtext("camera/noise/stddev")) == pytest.approx(2.0 / 255.0)


def test_gazebo_classic_gets_the_plugins_of_its_ros_packages() -> None:
    world = world_of(classic_ros_world)
    files = [plugin.get("filename") for plugin in world.iter("plugin")]
    assert files == [
        "libgazebo_ros_state.so",
        "libgazebo_ros2_control.so",
        "libgazebo_ros_camera.so",
    ]
    camera = world.find("model[@name='camera']/link/sensor/plugin")
    assert camera.findtext("camera_name") == "camera"  # so <camera_name>/image_raw
    assert camera.findtext("frame_name") == "camera_optical_frame"
    step = float(world.findtext("physics/max_step_size"))
    assert step * float(world.findtext("physics/real_time_update_rate")) == pytest.approx(1.0)


@pytest.mark.parametrize("make", MAKERS)
def test_names_of_the_robots_yaml_hold_in_a_namespace(make) -> None:
    robot = replace(load_robot("arm"), joint_state_topic="states")
    text = make(robot, SCENE, controllers=CONTROLLERS, namespace="lab/left")
    ros = ElementTree.fromstring(text).find("world/model[@name='arm']/plugin/ros")
    assert ros.findtext("namespace") == "/lab/left"
    assert ros.findtext("remapping") == "/lab/left/joint_states:=/lab/left/states"
    plain = world_of(make).find("model[@name='arm']/plugin/ros")
    assert plain.findtext("namespace") == "/"
    assert plain.find("remapping") is None


@pytest.mark.parametrize(
    ("topic", "rule"),
    [
        ("front", "/left/camera/image_raw:=/left/front"),
        ("/front", "/left/camera/image_raw:=/front"),
        ("camera/image_raw", None),
    ],
)
def test_gazebo_classics_pictures_go_where_the_yaml_says(topic: str, rule: str | None) -> None:
    robot = load_robot("arm")
    robot = replace(robot, cameras=(replace(robot.camera("camera"), topic=topic),))
    text = classic_ros_world(robot, SCENE, controllers=CONTROLLERS, namespace="left")
    plugin = ElementTree.fromstring(text).find("world/model[@name='camera']/link/sensor/plugin")
    assert plugin.findtext("ros/remapping") == rule


@pytest.mark.parametrize("make", MAKERS)
def test_a_lens_that_distorts_is_refused(make) -> None:
    robot = load_robot("arm")
    lens = replace(robot.camera("camera"), distortion=(0.1, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(UserError, match="camera camera: its lens distorts"):
        make(replace(robot, cameras=(lens,)), SCENE, controllers=CONTROLLERS)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_a_physics_step_that_cannot_be_is_refused(make, step: float) -> None:
    with pytest.raises(UserError, match="physics step"):
        world_of(make, physics_step=step)
