"""Soft actor-critic with demonstrations, in one file, readable from top to bottom.

Soft actor-critic (Haarnoja et al., 2018) with twin critics under layer normalization and batches
half of demonstrations (RLPD: Ball et al., 2023), n-step returns, and imitation of those
demonstrated actions that the critics think better than the policy's own (Nair et al., 2018).
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from rl_robot.errors import UserError
from rl_robot.experience.replay import Batch
from rl_robot.learners.learner import (
    LearnerConfig,
    Metrics,
    Part,
    network_policy,
    pack,
    seeded,
    unpack,
)
from rl_robot.policies.low_pass import LowPass
from rl_robot.policies.network import Actor, NetworkPolicy, encode
from rl_robot.policies.policy import PolicySpec, low_pass_gains
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task, flat_size


@dataclass(frozen=True, kw_only=True)
class SacConfig(LearnerConfig):
    """The recipe.

    Attributes:
        critics: how many; the smallest of their values is believed.
        target_rate: how fast the target critics follow, per update.
        actor_interval: updates of the critics per update of the actor.
        initial_temperature: weight of entropy against reward at the start.
        target_entropy: per action component, in nats, what the temperature is tuned for.
        imitation_weight: of the squared distance to better demonstrated actions.
        average_rate: how fast the averaged actor follows, per update of the actor.
        noise_correlation: of the exploration, as in `PolicySpec`.
        action_cutoff: Hz, of the low-pass on the policy's actions; 0 for none.
    """

    critics: int = 2
    learning_rate: float = 1e-3
    target_rate: float = 0.01
    actor_interval: int = 2
    initial_temperature: float = 0.01
    target_entropy: float = -0.5
    imitation_weight: float = 0.1
    average_rate: float = 0.005
    noise_correlation: float = PolicySpec.noise_correlation
    action_cutoff: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise_correlation < 1.0:
            raise UserError(
                f"noise_correlation {self.noise_correlation}: expected a part of the noise, 0 "
                "(white) or more and below 1"
            )


class Critics(nn.Module):
    """Independent networks of one shape, computed as one batch of matrices for speed."""

    def __init__(self, observed: int, acted: int, hidden: tuple[int, ...], count: int) -> None:
        """Make ``count`` networks from observation and action to one value each."""
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for width_in, width_out in pairwise((2 * observed + acted, *hidden, 1)):
            bound = width_in**-0.5  # as nn.Linear
            self.weights.append(torch.empty(count, width_in, width_out).uniform_(-bound, bound))
            self.biases.append(torch.empty(count, 1, width_out).uniform_(-bound, bound))

    def forward(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the values (count, batch) of actions (batch, A) at observations (batch, D)."""
        inputs = torch.cat([encode(observations), actions], dim=1)
        values = inputs.expand(len(self.weights[0]), -1, -1)
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            values = torch.baddbmm(bias, values, weight)
            values = torch.relu(functional.layer_norm(values, values.shape[-1:]))
        # not a matrix product: for a single column the libraries are five times slower
        weight, bias = layers[-1]
        return (values * weight.transpose(1, 2)).sum(-1) + bias.squeeze(-1)


class Sac:
    """Learns from demonstrations and experience, in any mixture."""

    name = "sac"

    def __init__(self, task: Task, robot: Robot, config: SacConfig, *, seed: int = 0) -> None:
        """Make a learner with fresh weights that depend on ``seed`` alone.

        Raises:
            UserError: ``task`` can't have the low-pass asked for.
        """
        self.config = config
        self._spec = replace(
            PolicySpec.of(task, robot, learner=self.name),
            noise_correlation=config.noise_correlation,
            low_pass=low_pass_gains(task, config.action_cutoff),
        )
        self._low_pass = LowPass(self._spec)
        observed, acted = flat_size(task.observation_spec), len(task.action_names)
        self._actor = seeded(seed, lambda: Actor(observed, acted, config.hidden))
        self._critics = seeded(
            seed + 1, lambda: Critics(observed, acted, config.hidden, config.critics)
        )
        self._average = deepcopy(self._actor).requires_grad_(False)
        self._targets = deepcopy(self._critics).requires_grad_(False)
        self._log_temperature = torch.tensor(config.initial_temperature).log().requires_grad_()
        self._target_entropy = config.target_entropy * acted
        self._binary = torch.tensor(task.binary_actions)
        self._critic_optimizer = torch.optim.Adam(
            self._critics.parameters(), lr=config.learning_rate, fused=True
        )
        self._actor_optimizer = torch.optim.Adam(
            [*self._actor.parameters(), self._log_temperature], lr=config.learning_rate, fused=True
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._updates = torch.zeros((), dtype=torch.int64)
        self._metrics: Metrics = {}

    def update(self, batch: Batch) -> Metrics:
        """Update the critics and, every ``actor_interval``-th time, the actor."""
        values = self._update_critics(batch)
        self._updates += 1
        if int(self._updates) % self.config.actor_interval == 0:
            self._update_actor(batch, values)
        return dict(self._metrics)

    def policy(self, version: int) -> NetworkPolicy:
        """Return the averaged actor, which is steadier than the newest."""
        return self._network_policy(self._average, version)

    def explorer(self, version: int) -> NetworkPolicy:
        """Return the newest actor."""
        return self._network_policy(self._actor, version)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything that the coming updates depend on but the batches."""
        return pack(**self._parts())

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from ``state_dict``.

        Raises:
            ValueError: the state of another learner, or of one configured otherwise.
        """
        unpack(state, **self._parts())

    def _update_critics(self, batch: Batch) -> torch.Tensor:
        """Move the critics towards the n-step return and what the targets say of its end.

        Returns the values (B,) that they gave the batch's actions before.
        """
        with torch.no_grad():
            actions, log_probability = self._act(batch.next_observations)
            following = self._targets(batch.next_observations, actions).amin(0)
            following -= self._log_temperature.exp() * log_probability
            wanted = batch.returns + batch.discounts * following
        values = self._critics(batch.observations, batch.actions)
        loss = (values - wanted).square().mean(1).sum()
        self._critic_optimizer.zero_grad()
        loss.backward()
        self._critic_optimizer.step()
        _follow(self._targets, self._critics, self.config.target_rate)
        values = values.detach()
        self._metrics |= {"critic_loss": loss.detach(), "value": values.mean()}
        return values.amin(0)

    def _update_actor(self, batch: Batch, values: torch.Tensor) -> None:
        """Make actions of higher value likelier; ``values`` (B,): of the batch's own actions."""
        mean, log_std = self._actor(batch.observations)
        actions, log_probability = self._sample(mean, log_std, batch.observations)
        own = self._critics(batch.observations, actions).amin(0)
        temperature = self._log_temperature.exp()
        improve = (temperature.detach() * log_probability - own).mean()
        better = batch.demonstration & (values > own.detach())
        deterministic = self._low_pass(torch.tanh(mean), batch.observations)
        distance = (deterministic - batch.actions).square().sum(1)
        imitate = (distance * better).mean()
        tune = -temperature * (log_probability.detach().mean() + self._target_entropy)
        loss = improve + self.config.imitation_weight * imitate + tune
        self._actor_optimizer.zero_grad()
        loss.backward(inputs=[*self._actor.parameters(), self._log_temperature])
        self._actor_optimizer.step()
        _follow(self._average, self._actor, self.config.average_rate)
        self._metrics |= {
            "actor_loss": improve.detach(),
            "imitation_loss": imitate.detach(),
            "imitated": better.float().mean(),
            "entropy": -log_probability.detach().mean(),
            "temperature": temperature.detach(),
        }

    def _act(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = self._actor(observations)
        return self._sample(mean, log_std, observations)

    def _sample(
        self, mean: torch.Tensor, log_std: torch.Tensor, observations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return actions (B, A) drawn from the policy and their log probability densities (B,).

        The densities are those before the low-pass, which changes them by a constant factor. Binary
        components are -1 or 1, as they will have been executed: the critics know no others. Their
        gradient passes straight through (Bengio et al., 2013).
        """
        noise = torch.randn(mean.shape, generator=self._generator)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.9189385  # log sqrt(2 pi)
        # log(1 - tanh(x)^2), without its rounding errors
        squashing = 2.0 * (0.6931472 - before - functional.softplus(-2.0 * before))
        actions = torch.tanh(before)
        rounded = torch.where(actions > 0.0, 1.0, -1.0)
        actions = torch.where(self._binary, actions + (rounded - actions).detach(), actions)
        return self._low_pass(actions, observations), (gaussian - squashing).sum(1)

    def _network_policy(self, actor: Actor, version: int) -> NetworkPolicy:
        return network_policy(replace(self._spec, version=version), actor, self.config)

    def _parts(self) -> dict[str, Part]:
        return {
            "actor": self._actor,
            "average": self._average,
            "critics": self._critics,
            "targets": self._targets,
            "actor_optimizer": self._actor_optimizer,
            "critic_optimizer": self._critic_optimizer,
            "generator": self._generator,
            "log_temperature": self._log_temperature,
            "updates": self._updates,
        }


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, rate: float) -> None:
    """Move the weights of ``average`` towards those of ``module`` by that fraction."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), rate)
