"""Transitions ready to be learnt from, in memory, sampled at random.

Built from the bags, which are the lasting store; nothing here is written anywhere.
"""

from typing import NamedTuple

import numpy as np
import torch

from rl_robot.experience.transitions import EpisodeTransitions


class Batch(NamedTuple):
    """B transitions over up to n steps, float32 but for ``demonstration``.

    Attributes:
        observations: (B, D), flat.
        actions: (B, A), as executed.
        returns: (B,), discounted sum of the rewards of the n steps.
        discounts: (B,), what the value of the next observation counts: discount**n, 0 when the
            episode truly ended on the way.
        next_observations: (B, D), n steps later, or the episode's last.
        demonstration: (B,), bool.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    returns: torch.Tensor
    discounts: torch.Tensor
    next_observations: torch.Tensor
    demonstration: torch.Tensor


class Replay:
    """Demonstrations and the learner's own experience, kept apart and sampled in a given ratio."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        discount: float,
        n_step: int = 3,
        seed: int = 0,
    ) -> None:
        """Make an empty replay of flat observations (D,) and actions (A,)."""
        self.discount = discount
        self.n_step = n_step
        self._split = [observation_size, action_size, 1, 1, observation_size]
        self._demonstrations = _Rows(sum(self._split))
        self._experience = _Rows(sum(self._split))
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def demonstrations(self) -> int:
        """Number of demonstrated transitions."""
        return len(self._demonstrations)

    @property
    def experience(self) -> int:
        """Number of the learner's own transitions."""
        return len(self._experience)

    def add(self, episode: EpisodeTransitions, *, demonstration: bool) -> None:
        """Add all transitions of an episode, each over n steps or what is left of it.

        Raises:
            ValueError: the episode's arrays don't fit together or aren't finite.
        """
        rows = self._demonstrations if demonstration else self._experience
        for stretch in episode.contiguous():
            rows.append(torch.from_numpy(self._transitions(stretch)))

    def sample(self, size: int, demonstration_fraction: float) -> Batch:
        """Return ``size`` transitions drawn uniformly, that part of them demonstrated.

        Where there is only one of both kinds, all are of that kind.

        Raises:
            ValueError: there are no transitions yet.
        """
        demonstrated = round(size * demonstration_fraction) if self.demonstrations else 0
        if not self.experience:
            demonstrated = size
        rows = torch.cat(
            [
                self._demonstrations.sample(demonstrated, self._generator),
                self._experience.sample(size - demonstrated, self._generator),
            ]
        )
        observations, actions, returns, discounts, following = rows.split(self._split, dim=1)
        return Batch(
            observations,
            actions,
            returns.squeeze(1),
            discounts.squeeze(1),
            following,
            torch.arange(size) < demonstrated,
        )

    def generator_state(self) -> torch.Tensor:
        """Return what the coming samples depend on beside the transitions, for a checkpoint."""
        return self._generator.get_state()

    def set_generator_state(self, state: torch.Tensor) -> None:
        """Go on sampling as from ``generator_state``."""
        self._generator.set_state(state)

    def _transitions(self, episode: EpisodeTransitions) -> np.ndarray:
        """Return a row per step: observation, action, return, discount, next observation."""
        steps = len(episode.rewards)
        observation_size, action_size = self._split[:2]
        if (
            episode.observations.shape != (steps + 1, observation_size)
            or episode.executed.shape != (steps, action_size)
            or not steps
        ):
            raise ValueError(
                f"expected observations (T+1, {observation_size}) and actions (T, {action_size}) "
                f"of T steps, not {episode.observations.shape} and {episode.executed.shape} "
                f"of {steps}"
            )
        ends = np.minimum(np.arange(steps) + self.n_step, steps)
        lengths = ends - np.arange(steps)
        returns = np.zeros(steps)
        for k in range(min(self.n_step, steps)):
            returns[: steps - k] += self.discount**k * episode.rewards[k:]
        discounts = self.discount**lengths
        if episode.terminated:
            discounts[ends == steps] = 0.0
        rows = np.column_stack(
            [
                episode.observations[:-1],
                episode.executed,
                returns,
                discounts,
                episode.observations[ends],
            ]
        ).astype(np.float32)
        if not np.isfinite(rows).all():
            raise ValueError("the episode holds values that are not finite")
        return rows


class _Rows:
    """A matrix that grows at its end."""

    def __init__(self, width: int) -> None:
        self._rows = torch.empty(1024, width)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def append(self, rows: torch.Tensor) -> None:
        """Append ``rows`` (N, width)."""
        needed = self._used + len(rows)
        if needed > len(self._rows):
            grown = torch.empty(max(needed, 2 * len(self._rows)), self._rows.shape[1])
            grown[: self._used] = self._rows[: self._used]
            self._rows = grown
        self._rows[self._used : needed] = rows
        self._used = needed

    def sample(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """Return ``size`` rows, drawn with replacement."""
        if not size:
            return self._rows[:0]
        if not self._used:
            raise ValueError("nothing to sample from: no transitions were added")
        indices = torch.randint(self._used, (size,), generator=generator)
        return self._rows.index_select(0, indices)
