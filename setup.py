"""Packaging for both worlds: `pip install` on a bare machine, `colcon build` in a ROS workspace."""

import sys
from itertools import groupby
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "rl_robot"
NODES = (
    "calibrator",
    "camera",
    "container",
    "doctor",
    "faults",
    "perception",
    "player",
    "policy",
    "recorder",
    "reset",
    "reward",
    "safety",
    "simulator",
    "stand_in",
    "supervisor",
    "trainer",
)
# colcon runs `setup.py install` or `setup.py develop`, and setup.cfg sends its scripts to
# lib/rl_robot, where `ros2 run` looks. pip builds a wheel, whose scripts land on PATH: there
# a command called `policy` would be in the way, and the bare runner starts modules anyway.
FOR_COLCON = {"install", "develop"} & set(sys.argv)


def data_files() -> list[tuple[str, list[str]]]:
    """Shared files, kept in their folders under share/rl_robot."""
    files = sorted(
        (path for folder in ("config", "launch", "urdf") for path in Path(folder).rglob("*.*")),
        key=lambda path: path.parent,
    )
    share = [
        (f"share/{PACKAGE}/{folder}", [str(path) for path in paths if path.is_file()])
        for folder, paths in groupby(
            (path for path in files if "__pycache__" not in path.parts),
            key=lambda path: path.parent,
        )
    ]
    return [
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *share,
    ]


# LeRobotDataset: tables and videos.
EXCHANGE = ["av", "pyarrow"]
# Gazebo's messages: compiled once, and read.
GAZEBO = ["grpcio-tools", "protobuf"]

setup(
    name=PACKAGE,
    version="0.1.0",
    description="A ROS 2 robot control stack whose nodes learn",
    author="rl_robot maintainers",
    maintainer="rl_robot maintainers",
    maintainer_email="maintainers@rl-robot.example",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    # The C++ is compiled for the Gazebo that is found.
    package_data={PACKAGE: ["py.typed", "simulation/gazebo/*/*.cc", "simulation/gazebo/*/*.hh"]},
    data_files=data_files(),
    python_requires=">=3.10",
    zip_safe=False,
    install_requires=[
        "gymnasium",
        "llvmlite",
        "lz4",
        "matplotlib",
        "mcap",
        "mujoco",
        "numba",
        "numpy",
        "opencv-python",
        "pyyaml",
        "rosbags",
        "ruckig",
        "safetensors",
        "scipy",
        "tensorboard",
        "torch",
        "zstandard",
    ],
    extras_require={
        # ROS 2 Jazzy itself, for machines without it. The unprefixed names need their pin: the
        # newest release belongs to a newer ROS distribution.
        "bare": [
            "ros-jazzy-rclpy[fastrtps]",
            "ros-jazzy-sensor-msgs",
            "ros-jazzy-std-srvs",
            "ros-diagnostic-msgs==5.3.6",
            "ros-trajectory-msgs==5.3.6",
        ],
        "dev": [
            *EXCHANGE,
            *GAZEBO,
            "catkin-pkg",
            "hypothesis",
            "mcap-ros2-support",
            "mypy",
            "pytest",
            "pytest-xdist",
            "ruff",
            "stable-baselines3",
            "types-PyYAML",
        ],
        "exchange": EXCHANGE,
        "gazebo": GAZEBO,
    },
    entry_points={
        "console_scripts": [
            f"{PACKAGE} = {PACKAGE}.cli:main",
            *(f"{node} = {PACKAGE}.nodes.{node}:main" for node in NODES if FOR_COLCON),
        ],
    },
)
