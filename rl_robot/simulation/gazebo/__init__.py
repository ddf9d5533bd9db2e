"""Gazebo 11 behind the simulator node: its installation, its server, its worlds."""
