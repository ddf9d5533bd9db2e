"""Faults by configuration: topics dropped, delayed, duplicated, reordered, frozen, corrupted."""

from rl_robot.faults.plan import Plan, available_plans, load_plan

__all__ = ["Plan", "available_plans", "load_plan"]
