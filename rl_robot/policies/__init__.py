"""Policies: scripted, learned, random, all behind one protocol."""

from pathlib import Path

from rl_robot.errors import UserError
from rl_robot.policies.policy import Action, Policy, PolicySpec, RandomPolicy
from rl_robot.policies.scripted import script
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task

__all__ = [
    "Action",
    "Policy",
    "PolicySpec",
    "RandomPolicy",
    "load_policy",
    "script",
]


def load_policy(name_or_file: str, task: Task, robot: Robot) -> Policy:
    """Return the policy "script", "weak_script" or "random", or the one in a .safetensors file.

    Raises:
        UserError: no such policy or file, the file is damaged, or the policy was made for
            another task, task version, robot or observation.
    """
    if name_or_file == "script":
        return script(task, robot)
    if name_or_file == "weak_script":
        return script(task, robot, task.weak_script)
    if name_or_file == "random":
        return RandomPolicy(task, robot)
    if not name_or_file.endswith(".safetensors"):
        raise UserError(
            f"unknown policy {name_or_file!r}: expected script, weak_script, random "
            "or a .safetensors file"
        )
    # Here, because it brings torch, which a script need not wait seconds for.
    from rl_robot.policies.network import NetworkPolicy

    policy = NetworkPolicy.load(Path(name_or_file))
    policy.spec.require(task, robot, f"policy {name_or_file}")
    return policy
