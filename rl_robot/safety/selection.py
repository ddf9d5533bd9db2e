"""Chooses, among the actions that an exploring policy would take, one that is safe as it is.

What the safety filter has to hold back teaches little and costs a period. So actions are sampled
until one passes the filter's own look ahead, within a number of tries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from rl_robot.robots.cartesian import Motion
from rl_robot.safety.filter import SafeMotion, SafetyFilter

Array = npt.NDArray[np.float64]
A = TypeVar("A")

# Motion beyond these is only made smooth, not held back: no reason to do something else.
_SHAPING = frozenset({"velocity", "acceleration", "jerk"})


@dataclass(frozen=True)
class Choice(Generic[A]):
    """The action chosen, its motion, and how many were tried and rejected as unsafe.

    All tried are rejected when none was safe; then it is the one that had to be changed least.
    """

    action: A
    motion: Motion
    tried: int
    rejected: int


class SafeSelection:
    """Samples up to ``candidates`` actions for each control step."""

    def __init__(self, safety_filter: SafetyFilter, *, candidates: int) -> None:
        """Judge by ``safety_filter``, which nothing else may use: the robot's own chain.

        Raises:
            ValueError: less than one candidate.
        """
        if candidates < 1:
            raise ValueError(f"candidates: expected 1 or more, got {candidates}")
        self._filter = safety_filter
        self._candidates = candidates

    def choose(
        self,
        sample: Callable[[], A],
        propose: Callable[[A], Motion],
        positions: Array,
        velocities: Array,
    ) -> Choice[A]:
        """Return the first safe action of those that ``sample`` gives.

        Args:
            sample: gives an action.
            propose: gives the motion that an action stands for.
            positions: (n,) commanded at the beginning of that motion.
            velocities: likewise.
        """
        self._filter.reset(positions, velocities)
        least: tuple[int, Choice[A]] | None = None
        for tried in range(1, self._candidates + 1):
            action = sample()
            motion = propose(action)
            broken = unsafe(self._filter.preview(motion))
            if not broken:
                return Choice(action, motion, tried, tried - 1)
            if least is None or broken < least[0]:
                least = broken, Choice(action, motion, self._candidates, self._candidates)
        assert least is not None
        return least[1]


def unsafe(safe: SafeMotion) -> int:
    """Return how many constraints held a motion back, beyond making it smooth."""
    return sum(item.kind not in _SHAPING for item in safe.interventions)
