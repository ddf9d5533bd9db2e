"""Puts the robot and its scene back to where an episode starts."""
