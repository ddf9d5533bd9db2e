"""Where other ROS packages are installed: looked up in the ament index, by files alone."""

import os
from pathlib import Path

from rl_robot.errors import UserError

_INDEX = Path("share/ament_index/resource_index/packages")


def find_package(name: str) -> Path | None:
    """Return the prefix that a ROS package is installed in, or None if it is not."""
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        if (Path(prefix) / _INDEX / name).is_file():
            return Path(prefix)
    return None


def package_executable(package: str, executable: str) -> Path:
    """Return the path of a ROS package's executable.

    Raises:
        UserError: the package is not installed, or has no such executable.
    """
    prefix = find_package(package)
    path = None if prefix is None else prefix / "lib" / package / executable
    if path is None or not path.is_file():
        raise UserError(f"{executable} of the ROS package {package} is not installed here")
    return path
