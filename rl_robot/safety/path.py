"""Paths of joints through time: twice differentiable, piecewise polynomial, at rest in the end."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from rl_robot.safety.compiled import compiled, inlined

Array = npt.NDArray[np.float64]

_TERMS = 6  # polynomials up to the fifth degree
_ROW, _STACK = types.float64[::1], types.float64[:, :, ::1]


class JointState(NamedTuple):
    """Position, velocity and acceleration of one joint, SI units."""

    position: float
    velocity: float
    acceleration: float


#: A polynomial: from when (s) on, then its terms in powers of the time since then, constant first.
Segment = tuple[float, float, float, float, float, float, float]


class JointPath(NamedTuple):
    """The path of one joint from time 0 on; it rests from ``end`` (s) on.

    Attributes:
        segments: in order of time; the first starts at 0 or before, the last is constant.
        end: s.
        lowest: no position on the path is lower (a bound, not always the smallest).
        highest: likewise.
    """

    segments: tuple[Segment, ...]
    end: float
    lowest: float
    highest: float

    @classmethod
    def resting(cls, position: float) -> "JointPath":
        """Return the path that stays at ``position``."""
        return cls((resting(position, 0.0),), 0.0, position, position)

    def at(self, time: float) -> JointState:
        """Return the state at ``time`` (s), 0 or later."""
        segment = self.segments[0]
        for later in self.segments:
            if later[0] > time:
                break
            segment = later
        return state_at(segment, time)


def resting(position: float, start: float) -> Segment:
    """Return the segment that stays at ``position`` from ``start`` (s) on."""
    return start, position, 0.0, 0.0, 0.0, 0.0, 0.0


def state_at(segment: Segment, time: float) -> JointState:
    """Return the state on a segment at ``time`` (s), counted as its start is."""
    start, c0, c1, c2, c3, c4, c5 = segment
    t = time - start
    return JointState(
        ((((c5 * t + c4) * t + c3) * t + c2) * t + c1) * t + c0,
        (((5.0 * c5 * t + 4.0 * c4) * t + 3.0 * c3) * t + 2.0 * c2) * t + c1,
        ((20.0 * c5 * t + 12.0 * c4) * t + 6.0 * c3) * t + 2.0 * c2,
    )


class Path:
    """The paths of n joints side by side, in at most S segments each."""

    def __init__(self, segments: Array, end: float) -> None:
        """Take ``segments`` (n, S, 7): start, infinite where there are fewer, and terms of each.

        All joints rest from ``end`` (s) on.
        """
        self.end = end
        self._segments = segments

    @classmethod
    def of(cls, joints: Sequence[JointPath]) -> "Path":
        """Put the paths of joints side by side."""
        most = max([len(joint.segments) for joint in joints])
        later = resting(0.0, np.inf)
        numbers: list[float] = []
        for joint in joints:
            for segment in (*joint.segments, *[later] * (most - len(joint.segments))):
                numbers += segment
        rows = np.fromiter(numbers, np.float64, len(numbers))
        return cls(rows.reshape(len(joints), most, 1 + _TERMS), max([j.end for j in joints]))

    def sample(self, times: Array) -> tuple[Array, Array]:
        """Return positions and velocities, each (K, n), at ``times`` (K,), s, 0 or later."""
        positions, velocities, _, _ = _evaluate(self._segments, times)
        return positions, velocities

    def changes(self, times: Array) -> tuple[Array, Array]:
        """Return accelerations and jerks, each (K, n), at ``times`` (K,), s, 0 or later."""
        _, _, accelerations, jerks = _evaluate(self._segments, times)
        return accelerations, jerks

    def states(self, time: float) -> list[JointState]:
        """Return all joints' states at ``time`` (s), 0 or later."""
        states = _evaluate(self._segments, np.array([time]))[:3, 0].T
        return [JointState(*state) for state in states.tolist()]

    def after(self, time: float) -> "Path":
        """Return what is left of the path from ``time`` (s) on, as a path from 0 on."""
        segments = self._segments.copy()
        segments[:, :, 0] -= time
        return Path(segments, max(self.end - time, 0.0))

    def joint(self, index: int) -> JointPath:
        """Return the path of one joint, which says nothing of how far it leads."""
        segments = tuple(tuple(s) for s in self._segments[index].tolist() if s[0] < np.inf)
        return JointPath(segments, self.end, -np.inf, np.inf)

    def blend(self, other: "Path", share: float) -> "Path":
        """Return the path that is ``share`` of the way from ``other`` to this one at any time.

        Limits of position, velocity, acceleration and jerk that both keep, it keeps as well.
        """
        segments = _blend(self._segments, other._segments, share)
        return Path(segments, max(self.end, other.end))


@inlined
def _segment_at(segments, time, first):  # type: ignore[no-untyped-def]
    """Return the index of one joint's segment (S, 7) at ``time``, not before the ``first``."""
    while first + 1 < len(segments) and segments[first + 1, 0] <= time:
        first += 1
    return first


@compiled(_STACK(_STACK, _ROW))
def _evaluate(segments: Array, times: Array) -> Array:
    """Return positions, velocities, accelerations and jerks, (4, K, n), at rising times (K,)."""
    result = np.empty((4, len(times), len(segments)))
    for j in range(len(segments)):
        s = 0
        for k in range(len(times)):
            s = _segment_at(segments[j], times[k], s)
            t = times[k] - segments[j, s, 0]
            _, c0, c1, c2, c3, c4, c5 = segments[j, s]
            result[0, k, j] = ((((c5 * t + c4) * t + c3) * t + c2) * t + c1) * t + c0
            result[1, k, j] = (((5.0 * c5 * t + 4.0 * c4) * t + 3.0 * c3) * t + 2.0 * c2) * t + c1
            result[2, k, j] = ((20.0 * c5 * t + 12.0 * c4) * t + 6.0 * c3) * t + 2.0 * c2
            result[3, k, j] = (60.0 * c5 * t + 24.0 * c4) * t + 6.0 * c3
    return result


@inlined
def _add_from(segment, moment, share, terms):  # type: ignore[no-untyped-def]
    """Add ``share`` of a segment (7,) to ``terms`` (6,) in powers of the time since ``moment``."""
    t = moment - segment[0]
    _, c0, c1, c2, c3, c4, c5 = segment
    terms[0] += share * (((((c5 * t + c4) * t + c3) * t + c2) * t + c1) * t + c0)
    terms[1] += share * ((((5.0 * c5 * t + 4.0 * c4) * t + 3.0 * c3) * t + 2.0 * c2) * t + c1)
    terms[2] += share * (((10.0 * c5 * t + 6.0 * c4) * t + 3.0 * c3) * t + c2)
    terms[3] += share * ((10.0 * c5 * t + 4.0 * c4) * t + c3)
    terms[4] += share * (5.0 * c5 * t + c4)
    terms[5] += share * c5


@compiled(_STACK(_STACK, _STACK, types.float64))
def _blend(one: Array, other: Array, share: float) -> Array:
    """Return the segments of `Path.blend` from 0 on: what lies before has no further part."""
    joints, most, used = len(one), one.shape[1] + other.shape[1], 0
    result = np.zeros((joints, most, 1 + _TERMS))
    result[:, :, 0] = np.inf
    for j in range(joints):
        start, count, a, b = 0.0, 0, 0, 0
        while start < np.inf:
            a, b = _segment_at(one[j], start, a), _segment_at(other[j], start, b)
            result[j, count, 0] = start
            _add_from(one[j, a], start, share, result[j, count, 1:])
            _add_from(other[j, b], start, 1.0 - share, result[j, count, 1:])
            count += 1
            used = max(used, count)
            # where the next segment of either begins
            start = min(
                one[j, a + 1, 0] if a + 1 < one.shape[1] else np.inf,
                other[j, b + 1, 0] if b + 1 < other.shape[1] else np.inf,
            )
    return result[:, :used].copy()
