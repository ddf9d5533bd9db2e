"""The inner loops of looking at a motion, compiled with MuJoCo's C functions in them.

A motion has some forty samples and a robot some fifty pairs of shapes. From Python, to call MuJoCo
for each takes several times as long as what it then computes.
"""

from pathlib import Path
from typing import Any

import llvmlite.binding
import mujoco
import numpy as np
import numpy.typing as npt
from numba import types

from rl_robot.errors import UserError
from rl_robot.safety.compiled import compiled, inlined

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def _load_mujoco() -> None:
    """Have the compiled code find MuJoCo's C functions by name.

    Raises:
        UserError: the ``mujoco`` package does not hold its library where it is known to.
    """
    folder = Path(mujoco.__file__).parent
    libraries = sorted(folder.glob("libmujoco*"))
    if not libraries:
        raise UserError(f"no libmujoco in {folder}: install the package mujoco from PyPI")
    llvmlite.binding.load_library_permanently(str(libraries[0]))


_load_mujoco()
_address = types.uintp
_mj_kinematics: Any = types.ExternalFunction("mj_kinematics", types.void(_address, _address))
_mj_geom_distance: Any = types.ExternalFunction(
    "mj_geomDistance",
    types.float64(_address, _address, types.int32, types.int32, types.float64, _address),
)
_row, _table, _stack = types.float64[::1], types.float64[:, ::1], types.float64[:, :, ::1]
_pairs = types.int64[:, ::1]


@compiled(
    types.void(_address, _address, _row, _row, _table, _table, _table, _table, _stack, _stack)
)
def pose_all(
    model: int,
    data: int,
    qpos: Array,
    tool: Array,
    centre: Array,
    turn: Array,
    coordinates: Array,
    tools: Array,
    centres: Array,
    turns: Array,
) -> None:
    """Fill in where tool and shapes are at each of K coordinates.

    Args:
        model: address of the MjModel.
        data: address of the MjData.
        qpos: (nq,), of the data, as are the next three.
        tool: (3,) position of the tool.
        centre: (S, 3) positions of the shapes.
        turn: (S, 9) their axes.
        coordinates: (K, nq).
        tools: (K, 3), to be filled in, as are the next two.
        centres: (K, S, 3).
        turns: (K, S, 9).
    """
    for k in range(len(coordinates)):
        qpos[:] = coordinates[k]
        _mj_kinematics(model, data)
        tools[k] = tool
        centres[k] = centre
        turns[k] = turn


@inlined
def _apart(shapes, pair, k):  # type: ignore[no-untyped-def]
    """Return how far a pair is apart at least at sample ``k``.

    The first of it is taken as the sphere around it, the second as sphere and as box.
    """
    _, _, _, _, centres, turns, radii, boxes = shapes
    one, other = pair
    spheres = box = 0.0
    for axis in range(3):
        seen = 0.0  # along the box's axis
        for i in range(3):
            seen += turns[k, other, 3 * i + axis] * (centres[k, one, i] - centres[k, other, i])
        spheres += seen**2
        box += max(abs(seen - boxes[other, axis]) - boxes[other, 3 + axis], 0.0) ** 2
    return max(np.sqrt(spheres) - radii[other], np.sqrt(box)) - radii[one]


@inlined
def _distance(shapes, pair, k, enough, far):  # type: ignore[no-untyped-def]
    """Return the distance of a pair of shapes at sample ``k``, or less that is ``enough``."""
    model, data, centre, turn, centres, turns, _, _ = shapes
    apart = _apart(shapes, pair, k)
    if apart >= enough:
        return apart
    for shape in pair:
        centre[shape] = centres[k, shape]
        turn[shape] = turns[k, shape]
    return _mj_geom_distance(model, data, np.int32(pair[0]), np.int32(pair[1]), far, 0)


@inlined
def _way(turned, k, reach):  # type: ignore[no-untyped-def]
    """Return how far points have moved at most up to sample ``k``."""
    way = 0.0
    for joint in range(len(reach)):
        way += turned[k, joint] * reach[joint]
    return way


@inlined
def _inspect_pair(shapes, pair, moved, distance, reserve, far):  # type: ignore[no-untyped-def]
    """Return the least distance of a pair that was seen, and whether it is too little."""
    last, kept = len(moved) - 1, distance + reserve
    first = _distance(shapes, pair, 0, kept + moved[last], far)
    at_samples, between = min(kept, first - 1e-9), min(distance, first - 0.5 * reserve)
    # The end first: what comes too close is closest there more often than not.
    end = _distance(shapes, pair, last, kept + moved[last], far)
    if end < at_samples:
        return end, True
    least = min(first, end)
    pending = [(0, last, first, end)]
    while len(pending) > 0:
        begin, stop, before, after = pending.pop()
        proven = 0.5 * (before + after - moved[stop] + moved[begin])
        if proven >= at_samples:
            continue
        if stop - begin <= 1:
            if proven < between:
                return proven, True
            continue
        middle = (begin + stop) // 2
        way = max(moved[stop] - moved[middle], moved[middle] - moved[begin])
        found = _distance(shapes, pair, middle, kept + way, far)
        if found < at_samples:
            return found, True
        least = min(least, found)
        pending.append((middle, stop, found, after))
        pending.append((begin, middle, before, found))
    return least, False


@compiled(
    types.Tuple((types.float64, types.int64, types.boolean))(
        *(_address, _address, _table, _table, _stack, _stack, _row, _table),
        *(_table, _pairs, _table),
        *(types.float64, types.float64, types.float64),
    )
)
def inspect_pairs(
    model: int,
    data: int,
    centre: Array,
    turn: Array,
    centres: Array,
    turns: Array,
    radii: Array,
    boxes: Array,
    turned: Array,
    pairs: Indices,
    reaches: Array,
    distance: float,
    reserve: float,
    far: float,
) -> tuple[float, int, bool]:
    """Look at a motion until no pair can come too close, or one does.

    Between two moments a pair is at least as far apart as on average at both, less half of how far
    it can have moved. Where that does not do, the middle is looked at; so most samples never are.
    All pairs keep ``distance`` all along and ``reserve`` more at the samples; those that are closer
    at first come no closer at the samples, and by half of ``reserve`` at most in between.

    Args:
        model: address of the MjModel.
        data: address of the MjData.
        centre: (S, 3) positions of the shapes in the data.
        turn: (S, 9) their axes there.
        centres: (K, S, 3) and the next, from `pose_all`.
        turns: (K, S, 9).
        radii: (S,) of the spheres around the shapes, m.
        boxes: (S, 6) around the shapes, in their frames: centres and half sizes, m.
        turned: (K, n) how far the joints have moved in all up to each sample, rad or m.
        pairs: (P, 2) of shapes, the larger ones last.
        reaches: (P, n) how far each joint can move them against each other, m per rad or m.
        distance: m.
        reserve: m.
        far: m, beyond which distances need not be told apart.

    Returns:
        The least distance that was seen, m; of which pair; whether it is too little.
    """
    shapes = (model, data, centre, turn, centres, turns, radii, boxes)
    last = len(centres) - 1
    least, nearest = far, 0
    moved = np.zeros(last + 1)
    for p in range(len(pairs)):
        pair = pairs[p, 0], pairs[p, 1]
        apart = _apart(shapes, pair, 0) + _apart(shapes, pair, last)
        room, broken = 0.5 * (apart - _way(turned, last, reaches[p])), False
        if room < distance + reserve:
            for k in range(last + 1):
                moved[k] = _way(turned, k, reaches[p])
            room, broken = _inspect_pair(shapes, pair, moved, distance, reserve, far)
        if broken:
            return room, p, True
        if room < least:
            least, nearest = room, p
    return least, nearest, False
