"""Paths of joints through time: twice differentiable, piecewise polynomial, at rest in the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_TERMS = 6  # polynomials up to the fifth degree
_REST = (0.0,) * (_TERMS - 1)


class JointState(NamedTuple):
    """Position, velocity and acceleration of one joint, SI units."""

    position: float
    velocity: float
    acceleration: float


class Segment(NamedTuple):
    """A polynomial from ``start`` (s) on, in powers of the time since then, constant term first."""

    start: float
    terms: tuple[float, ...]


@dataclass(frozen=True)
class JointPath:
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
        return cls((Segment(0.0, (position, *_REST)),), 0.0, position, position)

    def at(self, time: float) -> JointState:
        """Return the state at ``time`` (s), 0 or later."""
        segment = self.segments[0]
        for later in self.segments:
            if later.start > time:
                break
            segment = later
        t = time - segment.start
        c0, c1, c2, c3, c4, c5 = segment.terms
        return JointState(
            ((((c5 * t + c4) * t + c3) * t + c2) * t + c1) * t + c0,
            (((5.0 * c5 * t + 4.0 * c4) * t + 3.0 * c3) * t + 2.0 * c2) * t + c1,
            ((20.0 * c5 * t + 12.0 * c4) * t + 6.0 * c3) * t + 2.0 * c2,
        )

    def after(self, time: float) -> "JointPath":
        """Return what is left of the path from ``time`` (s) on, as a path from 0 on."""
        first = max(
            (i for i, segment in enumerate(self.segments) if segment.start <= time), default=0
        )
        left = tuple(Segment(start - time, terms) for start, terms in self.segments[first:])
        return JointPath(left, max(self.end - time, 0.0), self.lowest, self.highest)


class Path:
    """The paths of several joints, sampled together."""

    def __init__(self, joints: Sequence[JointPath]) -> None:
        """Put the paths of joints side by side."""
        self.joints = tuple(joints)
        self.end = max(joint.end for joint in joints)
        most = max(len(joint.segments) for joint in joints)
        later = Segment(np.inf, (0.0,) * _TERMS)
        padded = [s for joint in joints for s in (*joint.segments, *[later] * most)[:most]]
        shape = len(joints), most
        self._starts = np.array([segment.start for segment in padded]).reshape(shape)
        terms = np.array([term for segment in padded for term in segment.terms])
        self._terms = np.ascontiguousarray(terms.reshape(*shape, _TERMS).transpose(2, 0, 1))
        self._rows = np.arange(len(joints))

    def sample(self, times: Array) -> tuple[Array, Array]:
        """Return positions and velocities, each (K, n), at ``times`` (K,), s, 0 or later."""
        t, terms = self._at(times)
        c0, c1, c2, c3, c4, c5 = terms
        positions = ((((c5 * t + c4) * t + c3) * t + c2) * t + c1) * t + c0
        velocities = (((5.0 * c5 * t + 4.0 * c4) * t + 3.0 * c3) * t + 2.0 * c2) * t + c1
        return positions, velocities

    def changes(self, times: Array) -> tuple[Array, Array]:
        """Return accelerations and jerks, each (K, n), at ``times`` (K,), s, 0 or later."""
        t, (_, _, c2, c3, c4, c5) = self._at(times)
        accelerations = ((20.0 * c5 * t + 12.0 * c4) * t + 6.0 * c3) * t + 2.0 * c2
        jerks = (60.0 * c5 * t + 24.0 * c4) * t + 6.0 * c3
        return accelerations, jerks

    def _at(self, times: Array) -> tuple[Array, Array]:
        """Return the times within the segments, (K, n), and the segments' terms, (6, K, n)."""
        index = (self._starts <= times[:, None, None]).sum(axis=2) - 1
        np.maximum(index, 0, out=index)
        t = times[:, None] - self._starts[self._rows, index]
        return t, self._terms[:, self._rows, index]
