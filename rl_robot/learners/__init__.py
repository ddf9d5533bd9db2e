"""Learners: what makes a policy better from transitions. No ROS, no environment."""

from dataclasses import fields
from typing import Any, TypeVar

from rl_robot.errors import UserError
from rl_robot.learners.bc import BehaviorCloning, BehaviorCloningConfig
from rl_robot.learners.learner import (
    Learner,
    LearnerConfig,
    Metrics,
    layout_of,
    new_replay,
    sample,
    samples,
)
from rl_robot.learners.sac import Sac, SacConfig
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task

__all__ = [
    "BehaviorCloning",
    "BehaviorCloningConfig",
    "Learner",
    "LearnerConfig",
    "Metrics",
    "Sac",
    "SacConfig",
    "layout_of",
    "make_learner",
    "new_replay",
    "sample",
    "samples",
]

Config = TypeVar("Config", bound=LearnerConfig)


def make_learner(
    name: str, task: Task, robot: Robot, *, seed: int = 0, **overrides: Any
) -> Learner:
    """Return a fresh learner, "sac" or "bc"; ``overrides`` are fields of its configuration.

    Raises:
        UserError: no such learner, or no such field.
    """
    if name == "sac":
        return Sac(task, robot, _configured(SacConfig, name, overrides), seed=seed)
    if name == "bc":
        config = _configured(BehaviorCloningConfig, name, overrides)
        return BehaviorCloning(task, robot, config, seed=seed)
    raise UserError(f"unknown learner {name!r}: expected sac or bc")


def _configured(kind: type[Config], learner: str, overrides: dict[str, Any]) -> Config:
    known = [field.name for field in fields(kind)]
    unknown = ", ".join(sorted(set(overrides) - set(known)))
    if unknown:
        raise UserError(f"learner {learner} has no {unknown}: expected {', '.join(known)}")
    return kind(**overrides)
