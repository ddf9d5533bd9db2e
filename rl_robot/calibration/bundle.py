"""Least squares over the corners of all pictures: camera and board from the robot's poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Corners
from rl_robot.calibration.views import Lens, inverse

Array = NDArray[np.float64]

POSES = 12  # of a step: shift in m and turn in rad of the camera, then of the board
_POSE = POSES // 2
_FAR = 1e5  # px, for what can't be projected
_STEP = 1e-6  # m, rad, or part of a prior's sigma, for derivatives


@dataclass(frozen=True)
class Solution:
    """Camera ``z`` and board ``x`` (4, 4), the scale of the board, and the lens."""

    z: Array
    x: Array
    scale: float
    lens: Lens


@dataclass(frozen=True)
class Prior:
    """What is known of the lens before the robot's poses are looked at.

    Attributes:
        centre: (9,) the most likely ``Lens.values``.
        directions: (9, k) along which they are uncertain, each one sigma long.
        pixel: standard deviation of a corner, px, by which it counts against the prior.
    """

    centre: Array
    directions: Array
    pixel: float

    @staticmethod
    def directions_of(covariance: Array) -> Array:
        """Return the directions (9, k) in which a covariance (9, 9) is not nothing."""
        # The values' sizes differ by many orders of magnitude, so directions are found in sigmas.
        sigmas = np.sqrt(np.diag(covariance))
        known = np.where(sigmas > 0.0, sigmas, 1.0)
        sizes, vectors = np.linalg.eigh(covariance / np.outer(known, known))
        large = sizes > 1e-9
        return np.asarray(known[:, None] * vectors[:, large] * np.sqrt(sizes[large]))


class Fitted(NamedTuple):
    """A solution, and the step (12,) of its poses from where the fit began."""

    solution: Solution
    step: Array


class Bundle:
    """The corners of all pictures, as functions of where the camera and the board are.

    A corner p of the board is seen at Z^-1 A_i X p in picture i, where A_i is what the robot says.
    """

    def __init__(self, points: Array, pictures: Sequence[Corners], arms: Array) -> None:
        """Take what stays the same.

        Args:
            points: (m, 3) corners of the board, m.
            pictures: what is seen of them in each picture.
            arms: (n, 4, 4) A_i.
        """
        self.arms = arms
        self.count = len(pictures)
        sizes = [len(corners.ids) for corners in pictures]
        self._owner = np.repeat(np.arange(self.count), sizes)  # picture of each corner
        self._ends = np.cumsum(sizes)[:-1]
        self._points = np.concatenate([points[corners.ids] for corners in pictures])
        self._pixels = np.concatenate([corners.pixels for corners in pictures])

    def fit(
        self,
        start: Solution,
        used: NDArray[np.int64],
        *,
        width: float | None = None,
        scaled: bool = False,
        prior: Prior | None = None,
    ) -> Fitted:
        """Minimize the reprojection errors of the pictures ``used``.

        Args:
            start: where to begin.
            used: numbers of the pictures.
            width: px beyond which an error counts less (soft L1); None for plain least squares.
            scaled: whether the board's scale is free.
            prior: of the lens, if that is free; not together with ``scaled``.
        """
        first = _first_step(start, scaled, prior)
        found = least_squares(
            lambda step: self._weighed(start, step, used, scaled, prior),
            first,
            loss="linear" if width is None else "soft_l1",
            f_scale=width or 1.0,
            x_scale="jac",
        )
        return Fitted(_stepped(start, found.x, scaled, prior), found.x[:POSES])

    def errors(self, solution: Solution) -> Array:
        """Return each picture's reprojection error (n,), px RMS."""
        return np.sqrt([float(np.mean(np.sum(part**2, axis=1))) for part in self._parts(solution)])

    def together(self, solution: Solution, used: NDArray[np.int64]) -> tuple[float, float]:
        """Return how corners err: alone, and the corners of a picture together.

        Returns:
            Standard deviation of a corner's coordinate, px, and by what factor the variance of a
            picture's mean is greater than of corners that err independently (Kish's design effect,
            "Survey Sampling", 1965), at least 1: a robot's errors move all corners of a picture.
        """
        parts = [part for i, part in enumerate(self._parts(solution)) if i in set(used.tolist())]
        variance = float(np.mean(np.concatenate(parts) ** 2))
        means = float(np.mean([len(part) * np.mean(part, axis=0) ** 2 for part in parts]))
        return float(np.sqrt(variance)), max(1.0, means / max(variance, 1e-12))

    def distance(self, solution: Solution, picture: int) -> float:
        """Return how far the camera is from the middle of the corners in a picture, m."""
        seen = self._seen(solution)[self._owner == picture]
        return float(np.linalg.norm(seen.mean(axis=0)))

    def variances(
        self, solution: Solution, used: NDArray[np.int64], prior: Prior | None
    ) -> tuple[Array, Array]:
        """Return variances by linearization: of a step (12,), and of the lens' values (9,).

        Without a prior the corners' variance is what the residuals show.
        """
        step = _first_step(solution, False, prior)
        slopes = _derivative(lambda s: self._weighed(solution, s, used, False, prior), step)
        covariance = np.linalg.pinv(slopes.T @ slopes)
        if prior is None:
            residuals = self._weighed(solution, step, used, False, None)
            covariance *= residuals @ residuals / max(1, len(residuals) - POSES)
            return np.diag(covariance), np.zeros(len(solution.lens.values))
        of_lens = prior.directions @ covariance[POSES:, POSES:] @ prior.directions.T
        return np.diag(covariance)[:POSES], np.diag(of_lens)

    def _weighed(
        self,
        start: Solution,
        step: Array,
        used: NDArray[np.int64],
        scaled: bool,
        prior: Prior | None,
    ) -> Array:
        """What is minimized: all offsets in px, or in sigmas and then what speaks for the prior."""
        offsets = self._residuals(_stepped(start, step, scaled, prior), used).reshape(-1)
        if prior is None:
            return offsets
        return np.concatenate([offsets / prior.pixel, step[POSES:]])

    def _parts(self, solution: Solution) -> list[Array]:
        return np.split(self._residuals(solution, np.arange(self.count)), self._ends)

    def _residuals(self, solution: Solution, used: NDArray[np.int64]) -> Array:
        """Offsets (m, 2), px, between where corners should be seen and where they are."""
        chosen = np.isin(self._owner, used)
        offsets = solution.lens.project(self._seen(solution)[chosen]) - self._pixels[chosen]
        return np.clip(np.nan_to_num(offsets, nan=_FAR), -_FAR, _FAR)

    def _seen(self, solution: Solution) -> Array:
        """Every corner (m, 3) in the optical frame, m."""
        poses = (inverse(solution.z) @ self.arms @ solution.x)[self._owner]
        turned = np.einsum("nij,nj->ni", poses[:, :3, :3], solution.scale * self._points)
        return np.asarray(turned + poses[:, :3, 3])


def _first_step(start: Solution, scaled: bool, prior: Prior | None) -> Array:
    """Return the step that leads nowhere."""
    if prior is None:
        return np.zeros(POSES + scaled)
    off = np.array(start.lens.values) - prior.centre
    return np.concatenate([np.zeros(POSES), np.linalg.lstsq(prior.directions, off, rcond=None)[0]])


def _stepped(start: Solution, step: Array, scaled: bool, prior: Prior | None) -> Solution:
    """Return a solution moved by shifts and turns of camera and board, and what else is free.

    Shifts (m) are in the frames that the poses are given in, turns (rad) about their own axes.
    """
    lens = start.lens
    if prior is not None:
        values = prior.centre + prior.directions @ step[POSES:]
        lens = Lens(lens.width, lens.height, tuple(values.tolist()))
    return Solution(
        _moved(start.z, step[:_POSE]),
        _moved(start.x, step[_POSE:POSES]),
        start.scale + (float(step[POSES]) if scaled else 0.0),
        lens,
    )


def _moved(pose: Array, step: Array) -> Array:
    made = pose.copy()
    made[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(step[3:]).as_matrix()
    made[:3, 3] += step[:3]
    return made


def _derivative(function: Any, at: Array) -> Array:
    """Return the derivatives (m, n) of a function at ``at`` (n,), by central differences."""
    columns = [
        (function(at + change) - function(at - change)) / (2.0 * _STEP)
        for change in _STEP * np.eye(len(at))
    ]
    return np.stack(columns, axis=1)
