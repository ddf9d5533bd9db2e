"""Episodes as a learner takes them: what was observed, what was executed, what it was worth."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rl_robot.bags import EpisodeMetadata

Floats = npt.NDArray[np.float32]


def _none() -> Floats:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class EpisodeTransitions:
    """T control steps of one episode.

    Attributes:
        observations: (T + 1, D) flat (``rl_robot.tasks.flatten``); the last one follows the last
            step.
        proposed: (T, A) the policy's normalized actions; NaN where it said nothing.
        executed: (T, A) what safety made of them, as normalized actions: what is learnt from.
        rewards: (T,) of the observation that each step led to.
        terminated: the last observation was a true terminal. Otherwise the episode was cut off
            there (time limit, something broke) and the last observation has a value.
        ages: (T,) s, of the oldest part of the observation when it was acted on; empty: unknown.
        latencies: (T,) s of wall time from the observation to its command; NaN or empty: unknown.
        gaps: the steps that are none, because ticks are missing between their two observations.
        metadata: of the bag; None for an episode without one.
        pictures: (T + 1, H, W, C) uint8 by name, at the same ticks as the observations.
    """

    observations: Floats
    proposed: Floats
    executed: Floats
    rewards: Floats
    terminated: bool
    ages: Floats = field(default_factory=_none)
    latencies: Floats = field(default_factory=_none)
    gaps: tuple[int, ...] = ()
    metadata: EpisodeMetadata | None = None
    pictures: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        if not len(self.observations) - 1 == len(self.proposed) == len(self.executed) == steps:
            raise ValueError(
                f"{steps} rewards do not go with {len(self.observations)} observations and "
                f"{len(self.executed)} actions"
            )
        for name, pictures in self.pictures.items():
            if len(pictures) != steps + 1:
                raise ValueError(f"{steps} rewards do not go with {len(pictures)} pictures {name}")

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def steps(self) -> int:
        """Control steps that can be learnt from."""
        return len(self) - len(self.gaps)

    def contiguous(self) -> list["EpisodeTransitions"]:
        """The stretches between gaps, in order; returns over several steps hold within each.

        A stretch that a gap ends is not terminal: its last observation has a value.
        """
        if not self.gaps:
            return [self]
        starts = [0, *(gap + 1 for gap in self.gaps)]
        ends = [*self.gaps, len(self)]
        return [self._part(a, b) for a, b in zip(starts, ends, strict=True) if b > a]

    def _part(self, start: int, end: int) -> "EpisodeTransitions":
        return replace(
            self,
            observations=self.observations[start : end + 1],
            proposed=self.proposed[start:end],
            executed=self.executed[start:end],
            rewards=self.rewards[start:end],
            terminated=self.terminated and end == len(self),
            ages=self.ages[start:end],
            latencies=self.latencies[start:end],
            gaps=(),
            pictures={name: these[start : end + 1] for name, these in self.pictures.items()},
        )
