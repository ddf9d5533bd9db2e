"""Joint drives that follow a reference with a lag, within limits."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAG = 0.03  # s, of the order of what position-streamed arms show
# What drives can do, of what a robot's YAML allows: those limits are kept, not reached.
RESERVE = 4.0
LONGEST_STEP = 0.005  # s: far below the lag, so that the integration is stable


class Servo:
    """Position drives of n joints: second order, critically damped, within limits.

    ``q'' = w^2 (r - q) - 2 w q'`` with ``w = 2 / lag``: at constant speed the joint is ``lag``
    seconds behind its reference. Of a reference that jumps, or is too fast, ``r`` is what can be
    followed: it takes up the reference's speed and brakes towards it, within the joint's limits.
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
        self._told = self.positions.copy()  # the reference as it was given last
        self._followed = self.positions.copy()
        self._rate = np.zeros_like(self.positions)  # of what is followed
        self._velocity = np.asarray(velocity, dtype=float)
        self._acceleration = np.asarray(acceleration, dtype=float)
        self._frequency = 2.0 / lag

    def advance(self, reference: Array, step: float) -> None:
        """Follow ``reference`` (n,) for ``step`` s, at most ``LONGEST_STEP``."""
        told_rate = np.clip((reference - self._told) / step, -self._velocity, self._velocity)
        left = self._told - self._followed
        self._told = reference.copy()
        # Braking begins early enough at four fifths of the limit, and ends at the reference.
        nearing = np.minimum(np.sqrt(1.6 * self._acceleration * np.abs(left)), np.abs(left) / step)
        wanted = np.clip(told_rate + np.sign(left) * nearing, -self._velocity, self._velocity)
        change = self._acceleration * step
        self._rate += np.clip(wanted - self._rate, -change, change)
        self._followed += self._rate * step
        self.velocities += step * (
            self._frequency**2 * (self._followed - self.positions)
            - 2.0 * self._frequency * self.velocities
        )
        self.positions += self.velocities * step
