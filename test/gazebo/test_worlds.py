"""Worlds as sdformat reads them, which is Gazebo's own parser."""

import subprocess
import sys
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
# What `ign sdf --check` calls. Gazebo's own `gz sdf -k` calls every file valid that is XML.
CHECK = """
import ctypes, sys
sys.exit(ctypes.CDLL("libsdformat9.so.9").cmdCheck(sys.argv[1].encode()) != 0)
"""


def check(installation: Installation, world: str, folder: Path) -> str:
    """Return what sdformat finds wrong with a world: nothing is an empty text."""
    file = folder / "our.world"
    file.write_text(world)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, file],
        env=installation.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) == ("Valid." in done.stdout), done.stdout + done.stderr
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("robot_name", ["arm", "arm7", "ur5e", "fr3", "iiwa", CRANE])
def test_sdformat_finds_no_fault_with_a_world(installation, tmp_path, robot_name) -> None:
    assert not check(installation, classic_world(load_robot(robot_name), SCENE), tmp_path)


def test_sdformat_finds_no_fault_with_a_world_for_gazebo_ros(installation, tmp_path) -> None:
    controllers = tmp_path / "controllers.yaml"
    world = classic_ros_world(load_robot("arm"), SCENE, controllers=controllers)
    assert not check(installation, world, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<child>shoulder_link</child>", "<child>nowhere</child>"),
        ('attached_to="wrist_3_link"', 'attached_to="nowhere"'),
        ('model name="block"', 'model name="arm"'),
    ],
)
def test_sdformat_finds_fault_with_a_world_that_has_one(installation, tmp_path, right, wrong):
    world = classic_world(load_robot("arm"), SCENE)
    assert right in world
    assert "name" in check(installation, world.replace(right, wrong), tmp_path)


def test_gazebo_reads_every_link_joint_and_frame(installation, tmp_path) -> None:
    file = tmp_path / "our.world"
    file.write_text(classic_world(load_robot("arm"), SCENE))
    printed = subprocess.run(
        [installation.server.with_name("gz"), "sdf", "-p", file],
        env=installation.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    given, read = ElementTree.parse(file).getroot(), ElementTree.fromstring(printed)
    for tag in ("model", "link", "joint", "frame", "visual", "collision", "sensor", "light"):
        names = [element.get("name") for element in given.iter(tag)]
        assert [element.get("name") for element in read.iter(tag)] == names
