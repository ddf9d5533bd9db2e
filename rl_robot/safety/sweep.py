"""A planned motion of the whole robot, as the constraints look at it."""

import numpy as np
import numpy.typing as npt
from numba import types

from rl_robot.safety.compiled import compiled
from rl_robot.safety.geometry import Geometry

Array = npt.NDArray[np.float64]

_ROW, _TABLE = types.float64[::1], types.float64[:, ::1]


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
        places, self.turned = _go_through(np.array(positions, dtype=np.float64, order="C"))
        self.poses = geometry.poses(geometry.coordinates(places))

    def tool_bulges(self) -> Array:
        """Return how far the tool gets at most from straight lines between places, (2 K - 2,) m.

        An eighth of the square of what each joint turns, times its lever.
        """
        return _bulges(self.turned, self.geometry.tool_reach)


@compiled(types.UniTuple(_TABLE, 2)(_TABLE))
def _go_through(samples: Array) -> tuple[Array, Array]:
    """Return samples and what lies half-way, and how far joints have moved in all up to there."""
    places = np.empty((2 * len(samples) - 1, samples.shape[1]))
    moved = np.zeros_like(places)
    for j in range(samples.shape[1]):
        places[0, j] = samples[0, j]
        for k in range(1, len(samples)):
            before, after = samples[k - 1, j], samples[k, j]
            places[2 * k - 1, j], places[2 * k, j] = 0.5 * (before + after), after
            for i in (2 * k - 1, 2 * k):
                moved[i, j] = moved[i - 1, j] + abs(places[i, j] - places[i - 1, j])
    return places, moved


@compiled(_ROW(_TABLE, _ROW))
def _bulges(turned: Array, reach: Array) -> Array:
    """See `Sweep.tool_bulges`."""
    bulges = np.empty(len(turned) - 1)
    for k in range(len(bulges)):
        turns = way = 0.0
        for j in range(len(reach)):
            turn = turned[k + 1, j] - turned[k, j]
            turns += turn
            way += turn * reach[j]
        bulges[k] = 0.125 * turns * way
    return bulges
