"""The learner's Cartesian action and the joint motion that carries it out, both ways."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Positions of named joints over time.

    ``times`` (H,) in seconds from the start, ``positions`` (H, n) in rad or m, in the order of
    ``names``.
    """

    names: tuple[str, ...]
    times: Array
    positions: Array
