"""Launch files under the real `launch`, as `ros2 launch` starts them, and what it finds there."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from rl_robot.resources import resource_path

# What `ros2 launch FILE name:=value` does with a file, without ros2cli.
_SCRIPT = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

arguments = [text.split(":=", 1) for text in sys.argv[2:]]
included = IncludeLaunchDescription(
    AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments
)
service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


def launch_command(name: str) -> list[str]:
    """Return what starts the launch file of a graph; arguments are added to it."""
    return [sys.executable, "-c", _SCRIPT, str(resource_path(f"launch/{name}.launch.py"))]


def make_prefix(folder: Path, packages: Iterable[str]) -> Path:
    """Make a prefix in which ROS packages are installed, without anything of theirs."""
    prefix = folder / "prefix"
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for package in packages:
        (index / package).touch()
    return prefix


def launch_environment(folder: Path, prefix: Path) -> dict[str, str]:
    """Return the variables by which launch finds a prefix and this checkout, and logs."""
    root = Path(__file__).resolve().parents[2]
    return {
        "AMENT_PREFIX_PATH": f"{prefix}:{os.environ.get('AMENT_PREFIX_PATH', sys.prefix)}",
        "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}",
        "ROS_LOG_DIR": str(folder / "log"),
    }
