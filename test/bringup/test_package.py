"""The package's manifest, read as colcon and rosdep read it."""

from pathlib import Path

import pytest

parse = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed here")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of catkin_pkg's own
MANIFEST = Path(__file__).resolve().parents[2] / "package.xml"
CLASSIC = {"gazebo_ros", "gazebo_plugins", "gazebo_ros2_control"}
MODERN = {"ros_gz_sim", "ros_gz_bridge", "gz_ros2_control"}
ALWAYS = {
    "control_msgs",
    "controller_manager",
    "forward_command_controller",
    "joint_state_broadcaster",
    "joint_trajectory_controller",
    "rclpy",
    "robot_state_publisher",
}


def dependencies(distribution: str) -> set[str]:
    package = parse.parse_package(str(MANIFEST))
    package.evaluate_conditions({"ROS_DISTRO": distribution})
    return {d.name for d in package.exec_depends if d.evaluated_condition}


@pytest.mark.parametrize(
    ("distribution", "there", "absent"),
    [
        ("humble", CLASSIC, MODERN),
        ("jazzy", MODERN, CLASSIC),
        ("kilted", MODERN, CLASSIC),
        ("rolling", MODERN, CLASSIC),
    ],
)
def test_each_distribution_gets_the_gazebo_that_it_has(distribution, there, absent):
    found = dependencies(distribution)
    assert there | ALWAYS <= found
    assert not absent & found


def test_the_gripper_controllers_are_asked_for_only_where_they_are():
    assert "gripper_controllers" in dependencies("humble") & dependencies("jazzy")
    assert "gripper_controllers" not in dependencies("kilted") | dependencies("rolling")


def test_it_is_a_python_package_to_colcon():
    package = parse.parse_package(str(MANIFEST))
    assert package.get_build_type() == "ament_python"
    assert not package.validate(warnings=(warnings := []))
    assert not warnings
