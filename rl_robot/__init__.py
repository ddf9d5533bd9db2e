"""A ROS 2 robot control stack whose nodes learn."""

__version__ = "0.1.0"
