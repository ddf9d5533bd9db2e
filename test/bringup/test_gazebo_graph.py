"""The graph that is a robot's drivers in Gazebo, over packages of a full ROS 2 that are stubs."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from rl_robot.bringup.gazebo_graph import GAZEBO
from rl_robot.bringup.graph import PROGRAM
from rl_robot.bringup.process import node_command
from rl_robot.bringup.runner import Runner
from rl_robot.bringup.session_graphs import DEPLOY
from rl_robot.cli import main
from rl_robot.errors import UserError
from rl_robot.robots.description import load_robot
from rl_robot.robots.urdf import parse_urdf

CONTROL = {
    "controller_manager": ["spawner"],
    "joint_state_broadcaster": [],
    "joint_trajectory_controller": [],
    "robot_state_publisher": ["robot_state_publisher"],
}
ROS_GZ = {"ros_gz_bridge": ["parameter_bridge"], "gz_ros2_control": []}
CLASSIC = {"gazebo_ros": [], "gazebo_plugins": [], "gazebo_ros2_control": []}
# Notes how it was started. Gazebo and the drivers go on; the spawner's work is done at once.
STUB = """\
#!{python}
import json, os, sys, time
from pathlib import Path

name = Path(sys.argv[0]).name
note = {{"argv": sys.argv[1:], "plugins": os.environ.get("GZ_SIM_SYSTEM_PLUGIN_PATH")}}
here = Path({folder!r})
(here / f"{{name}}.new").write_text(json.dumps(note))
(here / f"{{name}}.new").rename(here / f"{{name}}.started")
fates = here / "fates"
fate = json.loads(fates.read_text()).get(name, 0) if fates.exists() else 0
if name == "spawner" or fate:
    while not all((here / f"{{other}}.started").exists() for other in {others!r}):
        time.sleep(0.02)
    sys.exit(fate)
while not (name in ("gz", "gzserver") and (here / "end").exists()):
    time.sleep(0.02)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install stubs of packages and programs; return the folder of their notes."""
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install_stubs(packages: dict[str, list[str]], *programs: str) -> Path:
        prefix = tmp_path / "prefix"
        index = prefix / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True)
        executables = [tmp_path / "bin" / program for program in programs]
        for package, names in packages.items():
            (index / package).touch()
            executables += [prefix / "lib" / package / name for name in names]
        others = [path.name for path in executables]
        for path in executables:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(STUB.format(python=sys.executable, folder=str(tmp_path), others=others))
            path.chmod(0o755)
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
        return tmp_path

    return install_stubs


def resolve(folder: Path, **given: str) -> dict[str, str]:
    return GAZEBO.resolve({"folder": str(folder / "made"), **given})


def nodes_of(values: dict[str, str]) -> dict[str, object]:
    return {spec.name: spec for spec in GAZEBO.nodes(values)}


def test_a_bare_machine_is_told_what_is_missing_and_what_to_use(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["launch", "gazebo.launch.py"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gazebo:=ros_gz lacks gz, ros_gz_bridge, gz_ros2_control" in line
    assert "gazebo:=classic lacks gzserver, gazebo_ros" in line
    assert "simulator:=gazebo" in line


def test_what_is_missing_of_the_one_that_is_asked_for_is_named(install):
    folder = install(ROS_GZ, "gz")
    with pytest.raises(UserError, match="lacks controller_manager, joint_state_broadcaster"):
        resolve(folder)
    with pytest.raises(UserError, match="gazebo:=classic lacks gzserver, gazebo_ros, "):
        resolve(folder, gazebo="classic")


@pytest.mark.parametrize(
    ("packages", "programs", "chosen"),
    [
        (ROS_GZ, ["gz"], "ros_gz"),
        (CLASSIC, ["gzserver"], "classic"),
        (ROS_GZ | CLASSIC, ["gz", "gzserver"], "ros_gz"),
        (ROS_GZ | CLASSIC, ["gzserver"], "classic"),
    ],
)
def test_the_gazebo_that_is_there_is_used(install, packages, programs, chosen):
    assert resolve(install(packages | CONTROL, *programs))["gazebo"] == chosen


def test_what_is_started_reads_the_files_that_are_there(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    values = resolve(folder)
    made = {path.name for path in (folder / "made").iterdir()}
    assert made == {"world.sdf", "controllers.yaml", "robot_description.yaml", "bridge.yaml"}
    for spec in GAZEBO.nodes(values):
        for word in [*spec.arguments, *map(str, spec.parameters.values())]:
            if word.startswith(str(folder)):
                assert Path(word).is_file(), word
    description = yaml.safe_load((folder / "made/robot_description.yaml").read_text())
    parameters = description["/**"]["ros__parameters"]
    assert parameters["use_sim_time"] is True
    assert parse_urdf(parameters["robot_description"], "made").name == "arm"
    bridged = yaml.safe_load((folder / "made/bridge.yaml").read_text())
    assert {"ros_topic_name": "clock", "gz_topic_name": "/clock"}.items() <= bridged[0].items()


def test_each_process_has_the_command_that_it_needs(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    nodes = nodes_of(resolve(folder, namespace="lab/left"))
    commands = {name: node_command(spec) for name, spec in nodes.items()}
    world = str(folder / "made" / "world.sdf")
    assert commands["gazebo"] == ["gz", "sim", "-r", "-s", "--headless-rendering", world]
    bridge = commands["bridge"]
    assert bridge[0] == str(folder / "prefix/lib/ros_gz_bridge/parameter_bridge")
    services = bridge[1 : bridge.index("--ros-args")]
    assert services == [
        "/world/default/control@ros_gz_interfaces/srv/ControlWorld",
        "/world/default/set_pose@ros_gz_interfaces/srv/SetEntityPose",
    ]
    assert f'config_file:="{folder}/made/bridge.yaml"' in bridge
    assert "__ns:=/lab/left" in bridge
    spawner = commands["spawner"]
    assert spawner[1:4] == ["joint_state_broadcaster", "arm_controller", "gripper_controller"]
    assert spawner[spawner.index("--controller-manager") + 1] == "/lab/left/controller_manager"
    assert not [word for word in spawner if "__node:=" in word]


def test_a_window_is_shown_where_it_is_asked_for(install):
    folder = install(ROS_GZ | CLASSIC | CONTROL, "gz", "gzserver")
    nodes = nodes_of(resolve(folder, headless="false"))
    assert nodes["gazebo"].arguments[:2] == ("sim", "-r")
    assert "-s" not in nodes["gazebo"].arguments
    assert "window" in nodes_of(resolve(folder, gazebo="classic", headless="false"))
    assert "window" not in nodes_of(resolve(folder, gazebo="classic"))


def test_gazebo_classic_keeps_time_fine_enough_and_in_the_namespace(install):
    folder = install(CLASSIC | CONTROL, "gzserver")
    gazebo = nodes_of(resolve(folder, namespace="left"))["gazebo"]
    assert gazebo.package == PROGRAM
    assert "libgazebo_ros_init.so" in gazebo.arguments
    assert "/clock:=/left/clock" in gazebo.arguments
    parameters = yaml.safe_load((folder / "made/gazebo.yaml").read_text())
    assert parameters["gazebo"]["ros__parameters"]["publish_rate"] >= 100.0
    assert not [a for a in nodes_of(resolve(folder))["gazebo"].arguments if "clock" in a]


def test_a_folder_that_cannot_be_made_is_refused(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    (folder / "file").touch()
    with pytest.raises(UserError, match=r"folder '.*file/made': Not a directory"):
        GAZEBO.resolve({"folder": str(folder / "file" / "made")})


def test_a_scene_of_ones_own_is_simulated(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    with pytest.raises(UserError, match="unknown scene 'desk'"):
        resolve(folder, scene="desk")


def run(folder: Path, values: dict[str, str]) -> int:
    return Runner(GAZEBO.nodes(values), folder / "log", os.environ).run()


def test_the_bare_runner_starts_other_packages_and_ends_with_gazebo(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    values = resolve(folder)
    (folder / "end").touch()
    (folder / "fates").write_text("{}")
    assert run(folder, values) == 0
    started = json.loads((folder / "gz.started").read_text())
    assert started["argv"][0] == "sim"
    assert started["plugins"] == os.environ.get("LD_LIBRARY_PATH", "")


def test_a_spawner_that_fails_ends_the_graph(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    values = resolve(folder)
    (folder / "fates").write_text(json.dumps({"spawner": 1}))
    assert run(folder, values) == 1


def test_our_graph_follows_gazebos_clock_when_it_is_told_so(tmp_path):
    given = {"simulator": "none", "root": str(tmp_path), "task": "reach"}
    nodes = {s.name: s for s in DEPLOY.nodes(DEPLOY.resolve(given | {"use_sim_time": "true"}))}
    assert "simulator" not in nodes
    assert nodes["safety"].parameters["use_sim_time"] is True
    assert nodes["safety"].parameters["enabled"] is False
    nodes = {s.name: s for s in DEPLOY.nodes(DEPLOY.resolve(given))}
    assert nodes["safety"].parameters["use_sim_time"] is False
    with pytest.raises(UserError, match="use_sim_time is for simulator:=none"):
        DEPLOY.resolve({"use_sim_time": "true", "root": str(tmp_path)})


def test_gazebos_topics_are_those_of_the_graph(install):
    folder = install(ROS_GZ | CONTROL, "gz")
    values = resolve(folder)
    robot = load_robot("arm")
    controllers = yaml.safe_load((folder / "made/controllers.yaml").read_text())
    for interface in robot.interfaces:  # ~/joint_trajectory of a controller of that name
        assert interface.topic == f"{interface.name}/joint_trajectory"
        assert interface.name in controllers
    bridged = {
        b["ros_topic_name"] for b in yaml.safe_load((folder / "made/bridge.yaml").read_text())
    }
    assert {f"{camera.name}/image_raw" for camera in robot.cameras} <= bridged
    assert values["scene"] == "table"
