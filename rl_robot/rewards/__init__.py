"""Reward terms shared by the tasks: small pure functions of what the sensors say."""

from rl_robot.rewards.terms import closeness, lift_fraction, object_held, squared_jerk

__all__ = ["closeness", "lift_fraction", "object_held", "squared_jerk"]
