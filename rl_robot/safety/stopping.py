"""Braking arithmetic of one joint whose velocity, acceleration and jerk are limited."""

import math


def stopping_distance(speed: float, acceleration: float, jerk: float) -> float:
    """Return how far a joint still travels that brakes from ``speed`` >= 0, not accelerating yet.

    The deceleration is built up and taken back at ``jerk``, and reaches ``acceleration`` where
    there is time for it.
    """
    if speed * jerk <= acceleration * acceleration:
        return speed * math.sqrt(speed / jerk)
    return 0.5 * speed * (speed / acceleration + acceleration / jerk)


def safe_speed(distance: float, acceleration: float, jerk: float) -> float:
    """Return the greatest speed from which a joint can stop within ``distance``.

    The inverse of ``stopping_distance``; 0 where no distance is left, or a negative one.
    """
    if distance <= 0.0:
        return 0.0
    if distance * jerk * jerk <= acceleration**3:
        return float((distance * distance * jerk) ** (1.0 / 3.0))
    ramp = acceleration * acceleration / (2.0 * jerk)
    return math.sqrt(ramp * ramp + 2.0 * acceleration * distance) - ramp
