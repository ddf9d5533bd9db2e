"""Policies: scripted, learned, random, all behind one protocol."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from rl_robot.errors import UserError
from rl_robot.plugins import make_own
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
    """Return the policy of a name, of a .safetensors file, or of a user's own class.

    Names are "script", "weak_script" and "random"; a class is named as ``module:Class`` and called
    with task and robot.

    Raises:
        UserError: no such policy, file or class, the file is damaged, or the policy was made for
            another task, task version, robot or observation.
    """
    if name_or_file == "script":
        return script(task, robot)
    if name_or_file == "weak_script":
        return script(task, robot, task.weak_script)
    if name_or_file == "random":
        return RandomPolicy(task, robot)
    policy: Policy
    if name_or_file.endswith(".safetensors"):
        # Here, because it brings torch, which a script need not wait seconds for.
        from rl_robot.policies.network import NetworkPolicy

        policy = NetworkPolicy.load(Path(name_or_file))
    elif ":" in name_or_file:
        policy = _own(name_or_file, task, robot)
    else:
        raise UserError(
            f"unknown policy {name_or_file!r}: expected script, weak_script, random, "
            "a .safetensors file, or your own as module:Class"
        )
    policy.spec.require(task, robot, f"policy {name_or_file}")
    return policy


def _own(name: str, task: Task, robot: Robot) -> Policy:
    """Return a user's own policy.

    Raises:
        UserError: it can't be loaded or is no policy.
    """
    policy: Policy = make_own("policy", name, task, robot)
    lacking = [part for part in ("spec", "reset", "act") if not hasattr(policy, part)]
    if lacking:
        raise UserError(
            f"{name} is not a policy: it has no {', '.join(lacking)} "
            "(rl_robot.policies.Policy says what a policy has)"
        )
    if not isinstance(policy.spec, PolicySpec):
        raise UserError(f"{name} is not a policy: its spec should be PolicySpec.of(task, robot)")
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
