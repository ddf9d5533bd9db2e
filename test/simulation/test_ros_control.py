"""What ros2_control is told of a robot, and what the bridge is told to carry."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot, load_robot
from rl_robot.robots.urdf import parse_urdf
from rl_robot.simulation.gazebo.bridge import bridge_services, bridge_topics
from rl_robot.simulation.gazebo.ros_control import (
    controller_names,
    controllers,
    remappings,
    robot_description,
)
from rl_robot.simulation.gazebo.ros_worlds import CLASSIC_HARDWARE, GZ_HARDWARE

CRANE = str(Path(__file__).parents[1] / "robots" / "crane.yaml")
# From the tables in ros_gz_bridge/README.md of https://github.com/gazebosim/ros_gz, branches jazzy
# and ros2: those pairs of a ROS type and a Gazebo type that a robot arm's world may have use for.
BRIDGED_TOPICS = {
    ("geometry_msgs/msg/Pose", "gz.msgs.Pose"),
    ("geometry_msgs/msg/PoseArray", "gz.msgs.Pose_V"),
    ("geometry_msgs/msg/PoseStamped", "gz.msgs.Pose"),
    ("geometry_msgs/msg/Wrench", "gz.msgs.Wrench"),
    ("ros_gz_interfaces/msg/Contacts", "gz.msgs.Contacts"),
    ("rosgraph_msgs/msg/Clock", "gz.msgs.Clock"),
    ("sensor_msgs/msg/CameraInfo", "gz.msgs.CameraInfo"),
    ("sensor_msgs/msg/Image", "gz.msgs.Image"),
    ("sensor_msgs/msg/JointState", "gz.msgs.Model"),
    ("std_msgs/msg/Float64", "gz.msgs.Double"),
    ("tf2_msgs/msg/TFMessage", "gz.msgs.Pose_V"),
    ("trajectory_msgs/msg/JointTrajectory", "gz.msgs.JointTrajectory"),
}
# The table of services there; all but ControlWorld since 1.0.11 (ros_gz pull request 380).
BRIDGED_SERVICES = {
    "ros_gz_interfaces/srv/ControlWorld",
    "ros_gz_interfaces/srv/DeleteEntity",
    "ros_gz_interfaces/srv/SetEntityPose",
    "ros_gz_interfaces/srv/SpawnEntity",
}
# Keys that ros_gz_bridge/src/bridge_config.cpp reads of an entry, and the directions it knows.
BRIDGE_KEYS = {
    "topic_name",
    "ros_topic_name",
    "gz_topic_name",
    "ros_type_name",
    "gz_type_name",
    "subscriber_queue",
    "publisher_queue",
    "lazy",
    "direction",
}
BRIDGE_DIRECTIONS = {"BIDIRECTIONAL", "GZ_TO_ROS", "ROS_TO_GZ"}


def with_interface(name: str = "gripper_controller", **changes: object) -> Robot:
    robot = load_robot("arm")
    changed = tuple(replace(i, **changes) if i.name == name else i for i in robot.interfaces)
    return replace(robot, interfaces=changed)


def control_of(robot: Robot, hardware: str = GZ_HARDWARE) -> ElementTree.Element:
    (control,) = ElementTree.fromstring(robot_description(robot, hardware)).findall("ros2_control")
    return control


@pytest.mark.parametrize("name", ["arm", "arm7", "ur5e", "fr3", "iiwa", CRANE])
def test_the_description_is_the_urdf_and_its_hardware(name: str) -> None:
    robot = load_robot(name)
    text = robot_description(robot, GZ_HARDWARE)
    urdf, original = parse_urdf(text, "made"), parse_urdf(robot.urdf_xml, "given")
    assert (urdf.links, set(urdf.joints)) == (original.links, set(original.joints))
    control = control_of(robot)
    assert control.findtext("hardware/plugin") == GZ_HARDWARE
    commanded = {
        joint.get("name"): [c.get("name") for c in joint.findall("command_interface")]
        for joint in control.findall("joint")
    }
    mimics = {joint.name for joint in urdf.joints.values() if joint.mimics}
    modes = {joint: [i.mode] for i in robot.interfaces for joint in i.joints}
    assert commanded == modes | {joint: [] for joint in mimics}


def test_joints_begin_at_home_and_mimics_where_that_puts_them() -> None:
    robot = load_robot("arm")
    text = robot.urdf_xml.replace('multiplier="1" offset="0"', 'multiplier="-2" offset="0.01"')
    control = control_of(replace(robot, urdf_xml=text), CLASSIC_HARDWARE)
    assert control.findtext("hardware/plugin") == "gazebo_ros2_control/GazeboSystem"
    starts = {}
    for joint in control.findall("joint"):
        states = {state.get("name"): state for state in joint.findall("state_interface")}
        assert list(states) == ["position", "velocity", "effort"]
        value = states["position"].find("param")
        assert value.get("name") == "initial_value"
        starts[joint.get("name")] = float(value.text)
    mimic = starts.pop("right_finger")
    assert starts == robot.home
    assert mimic == pytest.approx(-2 * robot.home["gripper"] + 0.01)


def test_each_interface_has_its_controller_on_its_topic() -> None:
    robot = load_robot("arm")
    made = controllers(robot)
    manager = made["controller_manager"]["ros__parameters"]
    assert controller_names(robot)[0] == "joint_state_broadcaster"
    for name in controller_names(robot):
        assert "/" in manager[name]["type"]
        assert name in made
    arm = made["arm_controller"]["ros__parameters"]
    assert tuple(arm["joints"]) == robot.interface("arm_controller").joints
    assert arm["command_interfaces"] == ["position"]
    assert (
        manager["update_rate"] % made["joint_state_broadcaster"]["ros__parameters"]["update_rate"]
        == 0
    )
    assert remappings(robot) == {}


def test_set_points_are_forwarded_in_their_own_mode() -> None:
    robot = with_interface(
        type="std_msgs/msg/Float64MultiArray", mode="velocity", topic="gripper_controller/commands"
    )
    made = controllers(robot)
    kind = made["controller_manager"]["ros__parameters"]["gripper_controller"]["type"]
    assert kind == "forward_command_controller/ForwardCommandController"
    assert made["gripper_controller"]["ros__parameters"] == {
        "joints": ["gripper"],
        "interface_name": "velocity",
    }
    joints = {joint.get("name"): joint for joint in control_of(robot).findall("joint")}
    assert joints["gripper"].find("command_interface").get("name") == "velocity"
    assert joints["elbow"].find("command_interface").get("name") == "position"
    assert remappings(robot) == {}


def test_topics_of_other_names_are_remapped() -> None:
    robot = replace(with_interface("arm_controller", topic="follow"), joint_state_topic="states")
    assert remappings(robot) == {
        "joint_states": "states",
        "arm_controller/joint_trajectory": "follow",
    }


def test_a_gripper_action_keeps_its_name() -> None:
    action = {"type": "control_msgs/action/GripperCommand"}
    robot = with_interface(topic="gripper_controller/gripper_cmd", **action)
    assert controllers(robot)["gripper_controller"]["ros__parameters"] == {"joint": "gripper"}
    with pytest.raises(UserError, match="ros2_control calls it gripper_controller/gripper_cmd"):
        controllers(with_interface(topic="grasp", **action))


def test_an_interface_without_a_controller_is_named() -> None:
    robot = with_interface("arm_controller", type="geometry_msgs/msg/TwistStamped")
    with pytest.raises(UserError, match="arm_controller takes geometry_msgs/msg/TwistStamped"):
        controllers(robot)


def test_a_namespace_holds_for_the_manager_and_its_controllers() -> None:
    assert set(controllers(load_robot("arm"), namespace="lab/left")) == {
        "/lab/left/controller_manager",
        "/lab/left/joint_state_broadcaster",
        "/lab/left/arm_controller",
        "/lab/left/gripper_controller",
    }


def test_all_that_is_bridged_is_what_the_bridge_can_carry() -> None:
    topics = bridge_topics(load_robot("arm"))
    for entry in topics:
        assert set(entry) <= BRIDGE_KEYS
        assert (entry["ros_type_name"], entry["gz_type_name"]) in BRIDGED_TOPICS
        assert entry["direction"] in BRIDGE_DIRECTIONS
        assert not entry["ros_topic_name"].startswith("/")
    assert [entry["ros_topic_name"] for entry in topics] == [
        "clock",
        "camera/image_raw",
        "camera/camera_info",
    ]
    robot = load_robot("arm")
    own = replace(robot, cameras=(replace(robot.camera("camera"), topic="/front/image"),))
    image = bridge_topics(own)[1]
    assert (image["ros_topic_name"], image["gz_topic_name"]) == (
        "/front/image",
        "/camera/image_raw",
    )
    for argument in bridge_services("default"):
        service, _, kind = argument.partition("@")
        assert service.startswith("/world/default/")
        assert kind in BRIDGED_SERVICES
