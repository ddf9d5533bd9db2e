"""gazebo.launch.py under the real `launch` and `launch_ros`, over stubs of a full ROS 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ros_launch import launch_command, launch_environment, make_prefix

pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed here")

# Notes its arguments; the spawner ends once all are there, then Gazebo, and with it the launch.
STUB = """\
#!{python}
import json, os, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
here, name = Path({folder!r}), Path(sys.argv[0]).name
(here / f"{{name}}.new").write_text(json.dumps(sys.argv[1:]))
(here / f"{{name}}.new").rename(here / f"{{name}}.started")
while len(list(here.glob("*.started"))) < {count}:
    time.sleep(0.02)
if name == "spawner":
    (here / "spawned").touch()
    sys.exit({fate})
while not (name == "gz" and (here / "spawned").exists() and not {fate}):
    time.sleep(0.02)
"""
EXECUTABLES = {
    "lib/ros_gz_bridge/parameter_bridge",
    "lib/robot_state_publisher/robot_state_publisher",
    "lib/controller_manager/spawner",
    "bin/gz",
}
PACKAGES = (
    "controller_manager",
    "gz_ros2_control",
    "joint_state_broadcaster",
    "joint_trajectory_controller",
    "robot_state_publisher",
    "ros_gz_bridge",
)


def launch(folder: Path, *arguments: str, fate: int = 0) -> subprocess.CompletedProcess[str]:
    """Launch the file over stubs in ``folder``; the spawner's exit status is ``fate``."""
    prefix = make_prefix(folder, PACKAGES)
    for name in EXECUTABLES:
        path = prefix / name
        path.parent.mkdir(parents=True)
        path.write_text(
            STUB.format(
                python=sys.executable, folder=str(folder), count=len(EXECUTABLES), fate=fate
            )
        )
        path.chmod(0o755)
    environment = os.environ | launch_environment(folder, prefix)
    environment["PATH"] = f"{prefix / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [*launch_command("gazebo"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_everything_starts_and_ends_with_gazebo(tmp_path):
    done = launch(tmp_path, "namespace:=left", f"folder:={tmp_path / 'made'}")
    assert done.returncode == 0, done.stdout + done.stderr
    given = {
        Path(name).name: json.loads((tmp_path / f"{Path(name).name}.started").read_text())
        for name in EXECUTABLES
    }
    assert given["gz"][:2] == ["sim", "-r"]
    assert Path(given["gz"][-1]).read_text().startswith("<?xml")
    assert "__ns:=/left" in given["parameter_bridge"]
    assert str(tmp_path / "made" / "robot_description.yaml") in given["robot_state_publisher"]
    assert "arm_controller" in given["spawner"]
    for name in ("gz", "spawner", "parameter_bridge"):  # their own names stay
        assert not [word for word in given[name] if "__node:=" in word]


def test_a_spawner_that_fails_ends_the_launch(tmp_path):
    done = launch(tmp_path, f"folder:={tmp_path / 'made'}", fate=3)
    assert done.returncode == 1
    assert "spawner ended with exit status 3" in done.stdout + done.stderr


def test_what_is_missing_ends_the_launch_with_the_reason(tmp_path):
    done = launch(tmp_path, "gazebo:=classic")
    assert done.returncode == 1
    assert "gazebo:=classic lacks" in done.stdout + done.stderr
