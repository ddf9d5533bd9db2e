"""Reward terms shared by the tasks: small pure functions of what the sensors say."""

import math


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
