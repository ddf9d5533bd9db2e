"""The graph that is a robot's drivers: Gazebo and ros2_control, of a full ROS 2 install."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rl_robot.bringup.arguments import BOOLEANS, NAMESPACE_ARGUMENT, ROBOT, TASK
from rl_robot.bringup.graph import PROGRAM, Argument, Graph, NodeSpec
from rl_robot.bringup.packages import find_package
from rl_robot.errors import UserError
from rl_robot.robots.description import Robot, load_robot
from rl_robot.simulation.gazebo.bridge import bridge_services, bridge_topics
from rl_robot.simulation.gazebo.ros_control import (
    MANAGER,
    controller_names,
    controllers,
    robot_description,
)
from rl_robot.simulation.gazebo.ros_worlds import (
    CLASSIC_HARDWARE,
    GZ_HARDWARE,
    classic_ros_world,
    modern_world,
)
from rl_robot.simulation.gazebo.sdf import WORLD
from rl_robot.simulation.world import load_scene
from rl_robot.tasks import load_task

AUTO, ROS_GZ, CLASSIC = "auto", "ros_gz", "classic"
_SPAWNER_PATIENCE = "60"  # s for Gazebo to start
_CLOCK_RATE = 500.0  # Hz; gazebo_ros's default of 10 would be coarser than commands may be late
_FILES = {
    "world": "world.sdf",
    "controllers": "controllers.yaml",
    "description": "robot_description.yaml",
    "bridge": "bridge.yaml",
    "gazebo": "gazebo.yaml",
}
_PLUGIN_PATH = "GZ_SIM_SYSTEM_PLUGIN_PATH"


@dataclass(frozen=True)
class _Variant:
    """One of the two Gazebos: its program, and the ROS packages that it needs."""

    program: str
    packages: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """What of it is not installed here; of all that both need only if it is there itself."""
        absent = [] if shutil.which(self.program) else [self.program]
        absent += [name for name in self.packages if find_package(name) is None]
        return absent or [name for name in _CONTROL if find_package(name) is None]


_CONTROL = (
    "controller_manager",
    "joint_state_broadcaster",
    "joint_trajectory_controller",
    "robot_state_publisher",
)
_VARIANTS = {
    ROS_GZ: _Variant("gz", ("ros_gz_bridge", "gz_ros2_control")),
    CLASSIC: _Variant("gzserver", ("gazebo_ros", "gazebo_plugins", "gazebo_ros2_control")),
}


def _prepare(values: dict[str, str]) -> dict[str, str]:
    """Choose the Gazebo that is installed, and write what it and its drivers read."""
    values = values | {
        "gazebo": _installed(values["gazebo"]),
        "scene": values["scene"] or load_task(values["task"]).scene,
        "folder": values["folder"] or tempfile.mkdtemp(prefix="rl_robot_gazebo_"),
    }
    texts = _texts(values)
    folder = Path(values["folder"]).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _file(values, name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"folder '{folder}': {error.strerror or error}") from error
    return values


def _installed(wanted: str) -> str:
    names = tuple(_VARIANTS) if wanted == AUTO else (wanted,)
    missing = {name: _VARIANTS[name].missing for name in names}
    for name in names:
        if not missing[name]:
            return name
    lacks = "; ".join(
        f"gazebo:={name} lacks {', '.join(absent)}" for name, absent in missing.items()
    )
    raise UserError(
        f"gazebo.launch.py needs a full ROS 2 with Gazebo ({lacks}): install them with rosdep, or "
        "let our own node drive Gazebo with simulator:=gazebo, as in collect.launch.py"
    )


def _file(values: Mapping[str, str], name: str) -> Path:
    return Path(values["folder"]).absolute() / _FILES[name]


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is written into the folder, by name."""
    robot, scene = load_robot(values["robot"]), load_scene(values["scene"])
    namespace = _namespace(values)
    make_world, hardware = (
        (modern_world, GZ_HARDWARE)
        if values["gazebo"] == ROS_GZ
        else (classic_ros_world, CLASSIC_HARDWARE)
    )
    description = {"robot_description": robot_description(robot, hardware), "use_sim_time": True}
    texts = {
        "world": make_world(
            robot, scene, controllers=_file(values, "controllers"), namespace=namespace
        ),
        "controllers": _yaml(controllers(robot, namespace=namespace)),
        "description": _yaml({"/**": {"ros__parameters": description}}),
    }
    if values["gazebo"] == ROS_GZ:
        texts["bridge"] = _yaml(bridge_topics(robot))
    else:
        texts["gazebo"] = _yaml({"gazebo": {"ros__parameters": {"publish_rate": _CLOCK_RATE}}})
    return texts


def _yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False)


def _namespace(values: Mapping[str, str]) -> str:
    return values["namespace"].strip("/")


def _nodes(values: Mapping[str, str]) -> list[NodeSpec]:
    robot = load_robot(values["robot"])
    gazebo = _ros_gz(values) if values["gazebo"] == ROS_GZ else _classic(values)
    return [*gazebo, *_drivers(values, robot)]


def _ros_gz(values: Mapping[str, str]) -> list[NodeSpec]:
    server = ("-s", "--headless-rendering") if values["headless"] == "true" else ()
    plugins = [os.environ.get(name, "") for name in (_PLUGIN_PATH, "LD_LIBRARY_PATH")]
    gazebo = NodeSpec(
        executable="gz",
        name="gazebo",
        package=PROGRAM,
        arguments=("sim", "-r", *server, str(_file(values, "world"))),
        # Where ROS installs gz_ros2_control's plugin.
        environment={_PLUGIN_PATH: os.pathsep.join(filter(None, plugins))},
        required=True,
        real_time=True,
    )
    bridge = NodeSpec(
        executable="parameter_bridge",
        name="bridge",
        package="ros_gz_bridge",
        arguments=tuple(bridge_services(WORLD)),
        parameters={"config_file": str(_file(values, "bridge"))},
        namespace=_namespace(values),
        real_time=True,
    )
    return [gazebo, bridge]


def _classic(values: Mapping[str, str]) -> list[NodeSpec]:
    namespace = _namespace(values)
    clock = ("--remap", f"/clock:=/{namespace}/clock") if namespace else ()
    server = NodeSpec(
        executable="gzserver",
        name="gazebo",
        package=PROGRAM,
        arguments=(
            str(_file(values, "world")),
            *("-s", "libgazebo_ros_init.so", "-s", "libgazebo_ros_factory.so"),
            *("--ros-args", "--params-file", str(_file(values, "gazebo")), *clock, "--"),
        ),
        environment={"GAZEBO_MODEL_DATABASE_URI": ""},  # nothing of the world is fetched
        required=True,
        real_time=True,
    )
    window = NodeSpec("gzclient", "window", package=PROGRAM, once=True, real_time=True)
    return [server] if values["headless"] == "true" else [server, window]


def _drivers(values: Mapping[str, str], robot: Robot) -> list[NodeSpec]:
    namespace = _namespace(values)
    publisher = NodeSpec(
        executable="robot_state_publisher",
        name="robot_state_publisher",
        package="robot_state_publisher",
        arguments=("--ros-args", "--params-file", str(_file(values, "description"))),
        remappings=(
            {}
            if robot.joint_state_topic == "joint_states"
            else {"joint_states": robot.joint_state_topic}
        ),
        namespace=namespace,
        real_time=True,
    )
    manager = f"/{namespace}/{MANAGER}" if namespace else f"/{MANAGER}"
    spawner = NodeSpec(
        executable="spawner",
        name="spawner",
        package=MANAGER,
        arguments=(
            *controller_names(robot),
            *("--controller-manager", manager),
            *("--controller-manager-timeout", _SPAWNER_PATIENCE),
            *("--param-file", str(_file(values, "controllers"))),
        ),
        namespace=namespace,
        once=True,
        real_time=True,
    )
    return [publisher, spawner]


GAZEBO = Graph(
    name="gazebo",
    description="A robot's drivers in Gazebo, for graphs started with simulator:=none",
    arguments=(
        ROBOT,
        TASK,
        Argument("scene", "", "scene by name, or the path of its YAML (default: the task's)"),
        Argument(
            "gazebo",
            AUTO,
            "ros_gz (today's Gazebo), classic (Gazebo 11 with gazebo_ros), or auto: what is there",
            choices=(AUTO, ROS_GZ, CLASSIC),
        ),
        Argument("headless", "true", "no window", choices=BOOLEANS),
        NAMESPACE_ARGUMENT,
        Argument(
            "folder", "", "where world, controllers and bridge are written (default: a new one)"
        ),
    ),
    nodes=_nodes,
    log_folder=lambda values: Path(values["folder"]) / "log",
    prepare=_prepare,
)
