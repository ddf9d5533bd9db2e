"""Policies: scripted, learned, random, all behind one protocol."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from rl_robot.errors import UserError
from rl_robot.policies.policy import LEARNED, Action, Policy, PolicySpec, RandomPolicy
from rl_robot.policies.scripted import script
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task

__all__ = [
    "LEARNED",
    "Action",
    "Policy",
    "PolicySpec",
    "RandomPolicy",
    "load_policy",
    "policy_version",
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


def policy_version(name_or_file: str) -> int:
    """Return the version of a policy: 0 for one without a file.

    Raises:
        UserError: the file can't be read or is no policy.
    """
    if not name_or_file.endswith(".safetensors"):
        return 0
    try:
        with safe_open(name_or_file, framework="numpy") as file:
            return PolicySpec.from_json(file.metadata()["spec"]).version
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"policy file {name_or_file} can't be read as a policy ({type(error).__name__})"
        ) from error
