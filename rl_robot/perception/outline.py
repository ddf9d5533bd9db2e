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
    halfway between its values two pixels further in and two further out, beyond the lens's blur.
    Borders within two pixels of the image's own are left out.

    Args:
        inside: (h, w) the region.
        strength: (h, w) how much of the region's colour a pixel holds, linear in its light.
        beside: (h, w) looked up three pixels out from the last one inside.
    """
    width = inside.shape[1]
    rows, columns = np.nonzero(inside[:, 2:-3] != inside[:, 3:-2])
    across = rows * width + columns + 2  # the left one of each pair, in the flattened image
    rows, columns = np.nonzero(inside[2:-3] != inside[3:-2])
    down = (rows + 2) * width + columns
    first = np.concatenate((across, down))
    stride = np.repeat((1, width), (len(across), len(down)))

    region, values = inside.ravel(), strength.ravel()
    outward = np.where(region[first], stride, -stride)
    inner = np.where(region[first], first, first + stride)
    further = inner + 3 * outward
    deep, near = values[inner - 2 * outward], values[inner]
    beyond, far = values[inner + outward], values[further]
    half = (deep + far) / 2
    fall = np.where(near >= half, near - beyond, values[inner - outward] - near)
    shift = np.divide(near - half, fall, out=np.full_like(fall, 0.5), where=fall > 0).clip(-1, 2)

    points = np.column_stack((inner % width, inner // width)).astype(np.float64)
    points[: len(across), 0] += (shift * outward)[: len(across)]
    points[len(across) :, 1] += (shift * outward)[len(across) :] / width
    return points, beside.ravel()[further]
