"""Reward terms shared by the tasks: small pure functions of what the sensors say."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def closeness(distance: float, scale: float) -> float:
    """Return 1 at ``distance`` 0, falling smoothly to 0 over a few times ``scale`` (both m)."""
    return 1.0 - math.tanh(distance / scale)


def object_held(
    aperture: float, rate: float, *, closing: bool, width: float, tolerance: float
) -> bool:
    """Tell from the gripper's encoder whether it holds an object of a known width.

    A gripper told to close that came to rest (``rate`` below 2 cm/s) at about the object's
    ``width`` (m) has the object between its fingers.
    """
    at_rest = abs(rate) < 0.02
    return closing and at_rest and abs(aperture - width) <= tolerance


def lift_fraction(height: float, resting: float, lifted: float) -> float:
    """Return how far ``height`` has risen from ``resting`` (0) to ``lifted`` (1); all in m."""
    return min(max((height - resting) / (lifted - resting), 0.0), 1.0)


def squared_jerk(before: Array, last: Array, now: Array) -> float:
    """Return the mean square of the second difference of three velocities (A,) in a row.

    The velocities' second difference is the positions' third, jerk, whose square a smooth movement
    keeps small (T. Flash and N. Hogan, 1985). Its unit is the velocities' per control period
    squared: for actions in [-1, 1] it is between 0 and 16.
    """
    return float(np.mean(np.square(now - 2.0 * last + before)))
