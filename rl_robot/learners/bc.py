"""Behaviour cloning (Pomerleau, 1988): do what the demonstrator did.

The baseline that reinforcement learning has to beat on the same demonstrations. It is trained on
all of them, also on those that failed, and not for long: trained on, it fits the demonstrator's
noise and gets worse. The error on held-out demonstrations does not tell when to stop. It is at its
smallest while the policy grasps nothing yet, since most of it is the demonstrator's noise; so the
number of updates was chosen by success on validation starts.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from rl_robot.experience.replay import Batch
from rl_robot.experience.store import ReplayStore
from rl_robot.learners.learner import (
    LearnerConfig,
    Metrics,
    network_policy,
    new_replay,
    pack,
    sample,
    seeded,
    unpack,
)
from rl_robot.policies.network import Actor, NetworkPolicy
from rl_robot.policies.policy import PolicySpec
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task, flat_size


@dataclass(frozen=True, kw_only=True)
class BehaviorCloningConfig(LearnerConfig):
    """The recipe. All of a batch is demonstrated.

    Attributes:
        updates: after which the policy is at its best.
    """

    learning_rate: float = 1e-3
    demonstration_fraction: float = 1.0
    n_step: int = 1
    updates: int = 1000


class BehaviorCloning:
    """Regression of the executed action on the observation; ``policy`` is the current fit."""

    name = "bc"

    def __init__(
        self, task: Task, robot: Robot, config: BehaviorCloningConfig, *, seed: int = 0
    ) -> None:
        """Make a learner with fresh weights that depend on ``seed`` alone."""
        self.config = config
        self._task, self._robot = task, robot
        sizes = flat_size(task.observation_spec), len(task.action_names)
        self._actor = seeded(seed, lambda: Actor(*sizes, config.hidden))
        self._optimizer = torch.optim.Adam(
            self._actor.parameters(), lr=config.learning_rate, fused=True
        )

    def update(self, batch: Batch) -> Metrics:
        """Take one step towards the actions of ``batch``."""
        mean, _ = self._actor(batch.observations)
        loss = functional.mse_loss(torch.tanh(mean), batch.actions)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return {"loss": loss.detach()}

    def policy(self, version: int) -> NetworkPolicy:
        """Return the policy as it is now, with weights of its own."""
        spec = PolicySpec.of(self._task, self._robot, version, self.name)
        return network_policy(spec, self._actor, self.config)

    def explorer(self, version: int) -> NetworkPolicy:
        """Return the same as ``policy``: imitation has nothing to explore for."""
        return self.policy(version)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return weights and optimizer."""
        return pack(actor=self._actor, optimizer=self._optimizer)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from ``state_dict``.

        Raises:
            ValueError: the state of another learner.
        """
        unpack(state, actor=self._actor, optimizer=self._optimizer)


class Imitation:
    """Behaviour cloning on all demonstrations: ``step`` until ``done``, then take ``policy``."""

    def __init__(
        self,
        learner: BehaviorCloning,
        store: ReplayStore,
        task: Task,
        *,
        seed: int = 0,
        most_updates: int | None = None,
    ) -> None:
        """Begin with what is in ``store``; ``most_updates`` ends it earlier than the recipe would.

        Demonstrations that are added meanwhile are learnt from as well.
        """
        self._learner = learner
        self._replay = new_replay(learner.config, task, seed, store)
        self._last = min(learner.config.updates, most_updates or learner.config.updates)
        self.updates = 0

    @property
    def done(self) -> bool:
        """Whether all updates are made."""
        return self.updates >= self._last

    def step(self) -> Metrics:
        """Make one update."""
        self.updates += 1
        return self._learner.update(sample(self._learner.config, self._replay))

    def policy(self) -> NetworkPolicy:
        """Return the policy as it is now."""
        return self._learner.policy(self.updates)
