"""What every learner is, and what they share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from rl_robot.experience.replay import Batch, Replay
from rl_robot.experience.ring import Layout
from rl_robot.experience.sources import Mixture
from rl_robot.experience.store import ReplayStore
from rl_robot.policies.network import NetworkPolicy
from rl_robot.policies.policy import PolicySpec
from rl_robot.tasks import Task, flat_size

# Scalars without gradient; read with float(), which costs time, only when they are wanted.
Metrics = dict[str, torch.Tensor]

Module = TypeVar("Module", bound=nn.Module)

# What a learner's state is made of.
Part = nn.Module | torch.optim.Optimizer | torch.Generator | torch.Tensor


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """What every learner can be told.

    Attributes:
        batch_size: transitions per update.
        demonstration_fraction: part of a batch that is taken from demonstrations.
        mixture: instead of that, weights by patterns of sources (`Mixture`).
        n_step: steps whose rewards a transition sums up.
    """

    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 3e-4
    batch_size: int = 256
    demonstration_fraction: float = 0.5
    n_step: int = 3
    mixture: Mapping[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """Makes a policy better from batches of transitions."""

    name: str

    @property
    def config(self) -> LearnerConfig:
        """What the learner was told."""
        ...

    def update(self, batch: Batch) -> Metrics:
        """Learn from one batch."""
        ...

    def policy(self, version: int) -> NetworkPolicy:
        """Return the policy to be judged by, with weights of its own."""
        ...

    def explorer(self, version: int) -> NetworkPolicy:
        """Return the policy to gather experience with, with weights of its own."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return all that the coming updates depend on, flat: weights, optimizers, generators."""
        ...

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from where ``state_dict`` was taken.

        Raises:
            ValueError: the state of another learner, or of one configured otherwise.
        """
        ...


def layout_of(task: Task) -> Layout:
    """Return what a transition of this task holds."""
    return Layout(flat_size(task.observation_spec), len(task.action_names))


def new_replay(
    config: LearnerConfig, task: Task, seed: int, store: ReplayStore | None = None
) -> Replay:
    """Return the replay that a learner of this configuration samples from.

    Args:
        config: of the learner.
        task: that the transitions are of.
        seed: of the batches.
        store: to sample from; by default a new one in memory.
    """
    return Replay(
        store or ReplayStore.in_memory(layout_of(task)),
        discount=task.discount,
        n_step=config.n_step,
        seed=seed,
    )


def sample(config: LearnerConfig, replay: Replay) -> Batch:
    """Return the batch for one update of a learner of this configuration.

    Raises:
        UserError: its mixture makes no sense, or matches nothing.
    """
    return samples(config, replay, 1)[0]


def samples(config: LearnerConfig, replay: Replay, updates: int) -> list[Batch]:
    """Return the batches for a few updates, which takes less time than one by one.

    Raises:
        UserError: the mixture makes no sense, or matches nothing.
    """
    if config.mixture:
        mixture = Mixture.of(config.mixture)
    else:
        mixture = Mixture.demonstrated(config.demonstration_fraction)
    return replay.samples(config.batch_size, updates, mixture)


def seeded(seed: int, make: Callable[[], Module]) -> Module:
    """Return a module whose initial weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def network_policy(spec: PolicySpec, actor: nn.Module, config: LearnerConfig) -> NetworkPolicy:
    """Return a policy with a copy of the weights of ``actor``."""
    policy = NetworkPolicy(spec, config.hidden)
    policy.actor.load_state_dict(actor.state_dict())
    return policy


def pack(**parts: Part) -> dict[str, torch.Tensor]:
    """Return the states of named parts as one flat dictionary of copied tensors."""
    state: dict[str, torch.Tensor] = {}
    for name, part in parts.items():
        state |= {f"{name}.{key}": value.detach().clone() for key, value in _tensors(part)}
    return state


def unpack(state: dict[str, torch.Tensor], **parts: Part) -> None:
    """Put what ``pack`` returned back into the parts of the same names.

    Raises:
        ValueError: something is missing, or of another shape.
    """
    try:
        for name, part in parts.items():
            begin = f"{name}."
            _restore(part, {k[len(begin) :]: v for k, v in state.items() if k.startswith(begin)})
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"not the state of this learner: {error}") from error


def _tensors(part: Part) -> Iterable[tuple[str, torch.Tensor]]:
    if isinstance(part, torch.Tensor):
        return [("value", part)]
    if isinstance(part, torch.Generator):
        return [("state", part.get_state())]
    if isinstance(part, nn.Module):
        return part.state_dict().items()
    return [
        (f"{index}.{key}", value)
        for index, values in part.state_dict()["state"].items()
        for key, value in values.items()
    ]


@torch.no_grad()
def _restore(part: Part, state: dict[str, torch.Tensor]) -> None:
    if isinstance(part, torch.Tensor):
        part.copy_(state["value"])
    elif isinstance(part, torch.Generator):
        part.set_state(state["state"])
    elif isinstance(part, nn.Module):
        part.load_state_dict(state)
    else:
        entries: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            index, key = name.split(".", 1)
            entries.setdefault(int(index), {})[key] = value.clone()
        part.load_state_dict({"state": entries, "param_groups": part.state_dict()["param_groups"]})
