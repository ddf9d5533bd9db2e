"""What the tests of this folder start from: a Gazebo 11, and worlds to run in it."""

from pathlib import Path

import pytest

from rl_robot.simulation.gazebo.installation import Installation, find_installation

EMPTY = """<?xml version="1.0"?>
<sdf version="1.6">
  <world name="default">
    <physics type="ode"><real_time_update_rate>1000</real_time_update_rate></physics>
  </world>
</sdf>
"""


@pytest.fixture(scope="session")
def installation() -> Installation:
    return find_installation()


@pytest.fixture
def empty_world(tmp_path: Path) -> Path:
    path = tmp_path / "empty.world"
    path.write_text(EMPTY)
    return path
