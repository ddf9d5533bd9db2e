"""Worlds as Gazebo's own parser reads them, and as its camera sees them beside MuJoCo's picture."""

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rl_robot.robots.description import load_robot
from rl_robot.simulation.gazebo.installation import Installation
from rl_robot.simulation.gazebo.ros_worlds import classic_ros_world
from rl_robot.simulation.gazebo.sdf import classic_world
from rl_robot.simulation.world import load_scene

SCENE = load_scene("table")
CRANE = str(Path(__file__).parents[1] / "robots" / "crane.yaml")


def gz_sdf(installation: Installation, option: str, file: Path) -> str:
    """Return what Gazebo's parser says; fails where it finds fault with the file."""
    done = subprocess.run(
        [installation.server.with_name("gz"), "sdf", option, file],
        env=installation.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for complaint in ("Error", "Warning"):
        assert complaint not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("robot_name", ["arm", "arm7", CRANE])
def test_gazebos_parser_finds_no_fault_with_a_world(installation, tmp_path, robot_name) -> None:
    file = tmp_path / "our.world"
    file.write_text(classic_world(load_robot(robot_name), SCENE))
    assert "Check complete" in gz_sdf(installation, "-k", file)


def test_gazebos_parser_finds_no_fault_with_a_world_for_gazebo_ros(installation, tmp_path) -> None:
    file = tmp_path / "ros.world"
    world = classic_ros_world(load_robot("arm"), SCENE, controllers=tmp_path / "controllers.yaml")
    file.write_text(world)
    assert "Check complete" in gz_sdf(installation, "-k", file)


def test_gazebos_parser_finds_fault_with_a_world_that_has_one(installation, tmp_path) -> None:
    file = tmp_path / "broken.world"
    world = classic_world(load_robot("arm"), SCENE)
    file.write_text(world.replace("<child>shoulder_link</child>", "<child>nowhere</child>"))
    with pytest.raises(AssertionError, match="nowhere"):
        gz_sdf(installation, "-k", file)


def test_gazebos_parser_reads_every_link_joint_and_frame(installation, tmp_path) -> None:
    file = tmp_path / "our.world"
    file.write_text(classic_world(load_robot("arm"), SCENE))
    given = ElementTree.parse(file).getroot()
    read = ElementTree.fromstring(gz_sdf(installation, "-p", file))
    for tag in ("model", "link", "joint", "frame", "visual", "collision", "sensor", "light"):
        names = [element.get("name") for element in given.iter(tag)]
        assert [element.get("name") for element in read.iter(tag)] == names
