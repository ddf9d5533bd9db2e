"""What ros_gz_bridge carries between today's Gazebo and the robot's ROS graph."""

from rl_robot.robots.description import Robot

FROM_GAZEBO = "GZ_TO_ROS"
WORLD_SERVICES = {
    # Pauses, steps and resets the world.
    "control": "ros_gz_interfaces/srv/ControlWorld",
    # Places an object; ros_gz_bridge has it since 1.0.11 in Jazzy, and says so where it has not.
    "set_pose": "ros_gz_interfaces/srv/SetEntityPose",
}


def bridge_topics(robot: Robot) -> list[dict[str, str]]:
    """Return ros_gz_bridge's configuration: the clock, each camera's pictures and calibration.

    Names on the ROS side are relative, so that a namespace of the bridge holds for them. Joint
    states and commands are not among them: ros2_control runs in Gazebo's process and speaks ROS.
    """
    topics = [_topic("clock", "/clock", "rosgraph_msgs/msg/Clock", "gz.msgs.Clock")]
    for camera in robot.cameras:
        image, info = camera_topics(camera.name)
        topics.append(_topic(camera.topic, f"/{image}", "sensor_msgs/msg/Image", "gz.msgs.Image"))
        topics.append(_topic(info, f"/{info}", "sensor_msgs/msg/CameraInfo", "gz.msgs.CameraInfo"))
    return topics


def camera_topics(name: str) -> tuple[str, str]:
    """Return the topics of a camera's pictures and calibration in Gazebo, without a slash ahead."""
    return f"{name}/image_raw", f"{name}/camera_info"


def bridge_services(world: str) -> list[str]:
    """Return ros_gz_bridge's arguments for a world's services: ``service@ROS type``."""
    return [f"/world/{world}/{name}@{type_}" for name, type_ in WORLD_SERVICES.items()]


def _topic(ros: str, gazebo: str, ros_type: str, gazebo_type: str) -> dict[str, str]:
    return {
        "ros_topic_name": ros,
        "gz_topic_name": gazebo,
        "ros_type_name": ros_type,
        "gz_type_name": gazebo_type,
        "direction": FROM_GAZEBO,
    }
