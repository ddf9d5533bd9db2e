"""Tasks: each an MDP as data, readable on one page."""

from collections.abc import Callable

from rl_robot.errors import UserError
from rl_robot.plugins import make_own
from rl_robot.tasks.grasp import Grasp
from rl_robot.tasks.reach import Reach
from rl_robot.tasks.task import (
    HISTORY,
    SPLITS,
    Memory,
    Observation,
    ObservationSpec,
    Reward,
    ScriptStrength,
    Start,
    Task,
    flat_size,
    flatten,
    flatten_rows,
)

__all__ = [
    "HISTORY",
    "SPLITS",
    "Grasp",
    "Memory",
    "Observation",
    "ObservationSpec",
    "Reach",
    "Reward",
    "ScriptStrength",
    "Start",
    "Task",
    "available_tasks",
    "flat_size",
    "flatten",
    "flatten_rows",
    "load_task",
]

_TASKS: dict[str, Callable[[], Task]] = {"grasp": Grasp, "reach": Reach}


def available_tasks() -> list[str]:
    """Return the names of the tasks that come with the package."""
    return sorted(_TASKS)


def load_task(name: str) -> Task:
    """Return the task called ``name``, or a user's own, named as ``module:Class``.

    Raises:
        UserError: no such task.
    """
    if name in _TASKS:
        return _TASKS[name]()
    if ":" not in name:
        known = ", ".join(available_tasks())
        raise UserError(f"unknown task {name!r}: expected {known}, or your own as module:Class")
    task = make_own("task", name)
    if not isinstance(task, Task):
        raise UserError(f"{name} is not a task: expected a subclass of rl_robot.tasks.Task")
    return task
