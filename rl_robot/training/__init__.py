"""Training: from bags to policies. No ROS."""
