"""Keeps what is sent to the robot within its limits. Not safety-rated; no ROS here."""
