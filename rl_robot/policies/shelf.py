"""The policies that a node acts by: each by its name or file, and the one that is being learnt."""

from typing import TYPE_CHECKING

from rl_robot.policies import load_policy
from rl_robot.policies.policy import LEARNED, Policy
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task

if TYPE_CHECKING:  # it brings torch, which a script need not wait seconds for
    from rl_robot.policies.network import NetworkPolicy


class Shelf:
    """Loads policies when they are first asked for.

    Weights may come from another thread than the one that acts: they are checked when they come and
    taken over between two actions, without a break in the exploration's noise.
    """

    def __init__(self, task: Task, robot: Robot) -> None:
        self._task, self._robot = task, robot
        self._policies: dict[str, Policy] = {}
        self._learned: NetworkPolicy | None = None
        self._newest: NetworkPolicy | None = None

    def take_weights(self, data: bytes) -> int:
        """Take the contents of a policy file as the newest of "learned"; return its version.

        Raises:
            UserError: damaged, or made for something else.
        """
        from rl_robot.policies.network import NetworkPolicy

        policy = NetworkPolicy.from_bytes(data, "policy/weights")
        policy.spec.require(self._task, self._robot, "policy/weights")
        self._newest = policy
        return policy.spec.version

    def get(self, name: str) -> Policy | None:
        """Return a policy; None for "learned" while no weights have come.

        Raises:
            UserError: see `load_policy`.
        """
        if name == LEARNED:
            return self._get_learned()
        if name not in self._policies:
            self._policies[name] = load_policy(name, self._task, self._robot)
        return self._policies[name]

    def _get_learned(self) -> Policy | None:
        newest, self._newest = self._newest, None
        if self._learned is None:
            self._learned = newest
        elif newest is not None:
            self._learned.adopt(newest)
        return self._learned
