"""Gymnasium environments; importing this registers ``rl_robot/Grasp-v0`` and the others."""

import gymnasium

from rl_robot.environments.control_loop import ControlLoop
from rl_robot.tasks import available_tasks

__all__ = ["ControlLoop"]

for _task in available_tasks():
    gymnasium.register(
        id=f"rl_robot/{_task.capitalize()}-v0",
        entry_point="rl_robot.environments.robot_env:RobotEnv",
        kwargs={"task": _task},
    )
