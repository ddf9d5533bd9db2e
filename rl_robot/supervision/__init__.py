"""How a session of episodes goes on with nobody touching it (no ROS here)."""
