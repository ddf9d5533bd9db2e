"""Smooth motion of several joints from rest to rest, all arriving together."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Greatest first, second and third derivative of 10 s^3 - 15 s^4 + 6 s^5 on [0, 1].
_PEAK_VELOCITY = 15.0 / 8.0
_PEAK_ACCELERATION = 10.0 / np.sqrt(3.0)
_PEAK_JERK = 60.0


@dataclass(frozen=True)
class Quintic:
    """Minimum-jerk motion along a straight line in joint space.

    Flash and Hogan, "The coordination of arm movements: an experimentally confirmed mathematical
    model", Journal of Neuroscience, 1985.

    Attributes:
        start: positions (n,) at time 0.
        goal: positions (n,) from ``duration`` (s) on.
    """

    start: Array
    goal: Array
    duration: float

    @classmethod
    def within(
        cls, start: Array, goal: Array, *, velocity: Array, acceleration: Array, jerk: Array
    ) -> "Quintic":
        """Return the fastest one whose derivatives stay within the limits (n,), all > 0."""
        way = np.abs(goal - start)
        needed = [
            _PEAK_VELOCITY * way / velocity,
            np.sqrt(_PEAK_ACCELERATION * way / acceleration),
            np.cbrt(_PEAK_JERK * way / jerk),
        ]
        return cls(start.copy(), goal.copy(), float(np.max(needed)))

    def at(self, times: Array) -> Array:
        """Return the positions (H, n) at ``times`` (H,) in s; at rest before and after."""
        if self.duration == 0.0:
            return np.tile(self.goal, (len(times), 1))
        s = np.clip(times / self.duration, 0.0, 1.0)[:, None]
        blend = s**3 * (10.0 + s * (6.0 * s - 15.0))
        return (1.0 - blend) * self.start + blend * self.goal
