"""Joint drives that follow a reference with a lag, within limits."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAG = 0.03  # s, of the order of what position-streamed arms show
LONGEST_STEP = 0.0025  # s: far below the lag, so that the integration is stable


class Servo:
    """Position drives of n joints: second order, critically damped, acceleration limited.

    ``q'' = w^2 (r - q) - 2 w q'`` with ``w = 2 / lag``: at constant speed the joint is ``lag``
    seconds behind its reference. The reference itself moves no faster than the joint may.
    """

    def __init__(
        self, positions: Array, velocity: Array, acceleration: Array, *, lag: float = LAG
    ) -> None:
        """Start at rest at ``positions`` (n,), with limits (n,) of velocity and acceleration.

        Raises:
            ValueError: a lag that could not be integrated.
        """
        if not lag >= 2.0 * LONGEST_STEP:
            raise ValueError(f"a lag of {lag} s is too small: at least {2.0 * LONGEST_STEP} s")
        self.positions = np.array(positions, dtype=float)
        self.velocities = np.zeros_like(self.positions)
        self._reference = self.positions.copy()
        self._velocity = np.asarray(velocity, dtype=float)
        self._acceleration = np.asarray(acceleration, dtype=float)
        self._frequency = 2.0 / lag

    def advance(self, reference: Array, step: float) -> None:
        """Follow ``reference`` (n,) for ``step`` s, at most ``LONGEST_STEP``."""
        furthest = self._velocity * step
        self._reference += np.clip(reference - self._reference, -furthest, furthest)
        wanted = self._frequency * (
            self._frequency * (self._reference - self.positions) - 2.0 * self.velocities
        )
        self.velocities += np.clip(wanted, -self._acceleration, self._acceleration) * step
        self.positions += self.velocities * step
