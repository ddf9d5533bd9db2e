"""A planned motion of the whole robot, as the constraints look at it."""

import numpy as np
import numpy.typing as npt

from rl_robot.safety.geometry import Geometry

Array = npt.NDArray[np.float64]


class Sweep:
    """A motion, its stop included: samples, and half-way between two of them.

    There joints are as if they went straight on, as drivers make them.

    Attributes:
        geometry: of the robot.
        interval: s between two samples.
        turned: (K, n) how far the joints have moved in all up to each place, rad or m.
        poses: where tool and shapes are at each place, of which every second is half-way.
    """

    def __init__(self, geometry: Geometry, positions: Array, interval: float) -> None:
        """Look at samples (K, n) of a motion, ``interval`` s apart."""
        self.geometry = geometry
        self.interval = interval
        places = np.empty((2 * len(positions) - 1, positions.shape[1]))
        places[::2] = positions
        places[1::2] = 0.5 * (positions[:-1] + positions[1:])
        self.turned = np.zeros_like(places)
        np.cumsum(np.abs(places[1:] - places[:-1]), axis=0, out=self.turned[1:])
        self.poses = geometry.poses(geometry.coordinates(places))

    def tool_bulges(self) -> Array:
        """Return how far the tool gets at most from straight lines between places, (2 K - 2,) m.

        An eighth of the square of what each joint turns, times its lever.
        """
        turns = np.diff(self.turned, axis=0)
        bulges: Array = 0.125 * turns.sum(axis=1) * (turns @ self.geometry.tool_reach)
        return bulges
