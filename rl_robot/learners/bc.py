"""Behaviour cloning (Pomerleau, 1988): do what the demonstrator did.

The baseline that reinforcement learning has to beat on the same demonstrations. Trained on, it
fits the demonstrator's noise and gets worse, so it stops early: episodes held out tell when.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from rl_robot.experience.replay import Batch
from rl_robot.experience.transitions import EpisodeTransitions
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
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task, flat_size


@dataclass(frozen=True, kw_only=True)
class BehaviorCloningConfig(LearnerConfig):
    """The recipe. All of a batch is demonstrated."""

    demonstration_fraction: float = 1.0
    n_step: int = 1


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
        loss = self._loss(batch.observations, batch.actions)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def error(self, observations: torch.Tensor, actions: torch.Tensor) -> float:
        """Return the mean squared error on observations (B, D) and actions (B, A)."""
        return float(self._loss(observations, actions))

    def policy(self, version: int) -> NetworkPolicy:
        """Return the policy as it is now, with weights of its own."""
        return network_policy(self._task, self._robot, self._actor, self.config, self.name, version)

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

    def _loss(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        mean, _ = self._actor(observations)
        return functional.mse_loss(torch.tanh(mean), actions)


class Imitation:
    """Behaviour cloning on whole demonstrations until the error on held-out ones rises.

    Call ``step`` until ``done``; ``policy`` then is the best fit of all.
    """

    CHECK = 50  # updates between looks at the held-out episodes
    PATIENCE = 10  # looks without improvement that end it

    def __init__(
        self,
        learner: BehaviorCloning,
        episodes: Sequence[EpisodeTransitions],
        task: Task,
        *,
        seed: int = 0,
        held_out: float = 0.1,
        most_updates: int = 4000,
    ) -> None:
        """Split ``episodes`` (two or more) at random; ``held_out`` of them only tell the end."""
        order = np.random.default_rng(seed).permutation(len(episodes))
        count = max(1, round(held_out * len(episodes)))
        apart = [episodes[index] for index in order[:count]]
        self._learner = learner
        self._replay = new_replay(learner.config, task, seed)
        for index in order[count:]:
            self._replay.add(episodes[index], demonstration=True)
        self._observations = torch.from_numpy(np.concatenate([e.observations[:-1] for e in apart]))
        self._actions = torch.from_numpy(np.concatenate([e.executed for e in apart]))
        self._most = most_updates
        self._best: tuple[float, int, NetworkPolicy] = (np.inf, 0, learner.policy(0))
        self.updates = 0

    @property
    def done(self) -> bool:
        """Whether more updates would not help."""
        stale = self.updates - self._best[1]
        return self.updates >= self._most or stale >= self.CHECK * self.PATIENCE

    def step(self) -> Metrics:
        """Make one update."""
        metrics = self._learner.update(sample(self._learner.config, self._replay))
        self.updates += 1
        if self.updates % self.CHECK == 0:
            error = self._learner.error(self._observations, self._actions)
            metrics["held_out_loss"] = torch.tensor(error)
            if error < self._best[0]:
                self._best = (error, self.updates, self._learner.policy(self.updates))
        return metrics

    def policy(self) -> NetworkPolicy:
        """Return the policy with the smallest error on the held-out episodes so far."""
        return deepcopy(self._best[2])
