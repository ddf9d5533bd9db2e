"""A planned motion of the whole robot, as the constraints look at it."""

import numpy as np
import numpy.typing as npt

from rl_robot.safety.geometry import Geometry

Array = npt.NDArray[np.float64]


class Sweep:
    """A motion, its stop included. Between two samples joints go straight on.

    Attributes:
        geometry: of the robot.
        interval: s.
        turned: (K, n) how far the joints have moved in all up to each sample, rad or m.
        poses: where tool and shapes are at each sample.
    """

    def __init__(self, geometry: Geometry, positions: Array, interval: float) -> None:
        """Look at samples (K, n) of a motion, ``interval`` s apart."""
        self.geometry = geometry
        self.interval = interval
        self.turned = np.zeros_like(positions)
        np.cumsum(np.abs(positions[1:] - positions[:-1]), axis=0, out=self.turned[1:])
        self.poses = geometry.poses(geometry.coordinates(positions))
