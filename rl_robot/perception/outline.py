"""Where the border of a coloured region runs, to a fraction of a pixel."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


def outline_points(
    inside: Flags, strength: NDArray[np.float32], beside: Flags
) -> tuple[Array, Flags]:
    """Return the region's border points (n, 2), u and v, and which of them have ``beside`` outside.

    Between a pixel inside and its neighbour outside, the border is where the strength falls to
    halfway between its values one pixel further in and one further out.

    Args:
        inside: (h, w) the region.
        strength: (h, w) how much of the region's colour a pixel holds, linear in its light.
        beside: (h, w) looked up two pixels out from the region.
    """
    points, flags = [], []
    for axis in (1, 0):
        values, region, other = (np.moveaxis(a, axis, 1) for a in (strength, inside, beside))
        last = values.shape[1] - 1
        rows, before = np.nonzero(region[:, 2:-1] != region[:, 1:-2])
        before = before + 1
        outward = np.where(region[rows, before], 1, -1)
        inner = np.where(outward > 0, before, before + 1)
        further = (inner + 2 * outward).clip(0, last)
        deep, near = values[rows, inner - outward], values[rows, inner]
        beyond, far = values[rows, inner + outward], values[rows, further]
        half = (deep + far) / 2
        fall = np.where(near >= half, near - beyond, deep - near)
        shift = np.divide(near - half, fall, out=np.full_like(fall, 0.5), where=fall > 0)
        position = inner + outward * shift.clip(-1, 2)
        points.append(np.column_stack((position, rows) if axis == 1 else (rows, position)))
        flags.append(other[rows, further])
    return np.concatenate(points).astype(np.float64), np.concatenate(flags)
