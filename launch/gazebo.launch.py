from rl_robot.bringup.graphs import GAZEBO
from rl_robot.bringup.launch_ros_actions import launch_description


def generate_launch_description():
    return launch_description(GAZEBO)
