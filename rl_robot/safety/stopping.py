"""Braking arithmetic of a joint that is commanded at fixed sampling times.

A joint moves from sample to sample at constant velocity, and from one sampling interval ``h`` to
the next its velocity changes by at most ``h * a``. So all distances here are those of the sampled
motion, exactly, not of its continuous idealization ``v^2 / 2a``, which would overrun by up to
``h * v / 2``.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def stopping_distance(speed: Array, acceleration: Array, interval: float) -> Array:
    """Return how far (>= 0) joints still travel that brake from the next interval on.

    Args:
        speed: speed over the interval just ended, >= 0, any shape.
        acceleration: greatest deceleration, > 0, broadcast against ``speed``.
        interval: sampling interval in s, > 0.
    """
    step = interval * acceleration
    count = np.floor(speed / step)
    return interval * count * (speed - 0.5 * step * (count + 1.0))


def safe_speed(distance: Array, acceleration: Array, interval: float) -> Array:
    """Return the greatest speed over the next interval that still allows to stop in time.

    The inverse of ``speed * interval + stopping_distance(speed)``, which is piecewise linear,
    continuous and increasing. No distance left, or a negative one, gives 0.

    Args:
        distance: room left, any shape, finite.
        acceleration: greatest deceleration, > 0, broadcast against ``distance``.
        interval: sampling interval in s, > 0.
    """
    step = interval * acceleration
    room = np.maximum(distance, 0.0) / (interval * step)
    count = np.floor(0.5 * (np.sqrt(1.0 + 8.0 * room) - 1.0))
    speed: Array = step * (room / (count + 1.0) + 0.5 * count)
    return speed
