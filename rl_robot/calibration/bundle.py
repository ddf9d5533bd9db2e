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
from rl_robot.calibration.views import Lens, inverse, moved

Array = NDArray[np.float64]

POSE = 6  # of a transform: shift in m, then turn in rad
_FAR = 1e5  # px, for what can't be projected
_LENS_STEP = 1e-4  # relative, for derivatives by the lens


@dataclass(frozen=True)
class Solution:
    """Camera ``z`` and board ``x`` (4, 4), and the scale of the board."""

    z: Array
    x: Array
    scale: float = 1.0


class Fitted(NamedTuple):
    """A solution, the step (12,) from where the fit began, and its sum of squares, px^2."""

    solution: Solution
    step: Array


class Bundle:
    """The corners of all pictures, as functions of where the camera and the board are.

    A corner p of the board is seen at Z^-1 A_i X p in picture i, where A_i is what the robot says.
    """

    def __init__(self, points: Array, pictures: Sequence[Corners], arms: Array, lens: Lens) -> None:
        """Take what stays the same.

        Args:
            points: (m, 3) corners of the board, m.
            pictures: what is seen of them in each picture.
            arms: (n, 4, 4) A_i.
            lens: the camera's intrinsics.
        """
        self.arms = arms
        self.count = len(pictures)
        self._lens = lens
        self._points = [points[corners.ids] for corners in pictures]
        self._pixels = [corners.pixels for corners in pictures]

    def start(self, z: Array, x: Array, scale: float) -> Solution:
        """Return a solution to start from."""
        return Solution(z, x, scale)

    def fit(
        self,
        start: Solution,
        used: NDArray[np.int64],
        *,
        width: float | None = None,
        scaled: bool = False,
    ) -> Fitted:
        """Minimize the reprojection errors of the pictures ``used``.

        Args:
            start: where to begin.
            used: numbers of the pictures.
            width: px beyond which an error counts less (soft L1); None for plain least squares.
            scaled: whether the board's scale is free.
        """
        found = least_squares(
            lambda step: self._residuals(stepped(start, step), used).reshape(-1),
            np.zeros(2 * POSE + scaled),
            loss="linear" if width is None else "soft_l1",
            f_scale=width or 1.0,
            x_scale="jac",
        )
        return Fitted(stepped(start, found.x), found.x[: 2 * POSE])

    def errors(self, solution: Solution) -> Array:
        """Return each picture's reprojection error (n,), px RMS."""
        offsets = self._residuals(solution, np.arange(self.count))
        ends = np.cumsum([len(points) for points in self._points])[:-1]
        parts = np.split(np.sum(offsets**2, axis=1), ends)
        return np.sqrt([float(np.mean(part)) for part in parts])

    def distance(self, solution: Solution, picture: int) -> float:
        """Return how far the camera is from the middle of the corners in a picture, m."""
        pose = inverse(solution.z) @ self.arms[picture] @ solution.x
        return float(np.linalg.norm(moved(pose, self._points[picture]).mean(axis=0)))

    def covariance(
        self, solution: Solution, used: NDArray[np.int64], lens_covariance: Array | None
    ) -> Array:
        """Return the covariance (12, 12) of a step from the solution, by linearization.

        The corners' variance is what the residuals show; an uncertain lens adds what it does to
        the solution.
        """
        zero = np.zeros(2 * POSE)
        by_step = _derivative(
            lambda step: self._residuals(stepped(solution, step), used), zero, np.full(12, 1e-6)
        )
        residuals = self._residuals(solution, used).reshape(-1)
        variance = residuals @ residuals / max(1, len(residuals) - 2 * POSE)
        normal = np.linalg.pinv(by_step.T @ by_step)
        covariance = variance * normal
        if lens_covariance is not None:
            values = np.array(self._lens.values)
            steps = _LENS_STEP * np.maximum(np.abs(values), 1.0)
            by_lens = _derivative(
                lambda v: self._residuals(solution, used, self._with_lens(v)), values, steps
            )
            follows = normal @ by_step.T @ by_lens
            covariance = covariance + follows @ lens_covariance @ follows.T
        return np.asarray(covariance)

    def _with_lens(self, values: Array) -> Lens:
        return Lens(self._lens.width, self._lens.height, tuple(values))

    def _residuals(
        self, solution: Solution, used: NDArray[np.int64], lens: Lens | None = None
    ) -> Array:
        """Offsets (m, 2), px, between where corners should be seen and where they are."""
        poses = inverse(solution.z) @ self.arms[used] @ solution.x
        points = [
            moved(pose, solution.scale * self._points[i])
            for pose, i in zip(poses, used, strict=True)
        ]
        pixels = np.concatenate([self._pixels[i] for i in used])
        offsets = (lens or self._lens).project(np.concatenate(points)) - pixels
        return np.clip(np.nan_to_num(offsets, nan=_FAR), -_FAR, _FAR)


def stepped(solution: Solution, step: Array) -> Solution:
    """Return a solution moved by shifts and turns of camera and board, and a change of scale.

    Shifts (m) are in the frames that the poses are given in, turns (rad) about their own axes.
    """
    scale = solution.scale + (step[2 * POSE] if len(step) > 2 * POSE else 0.0)
    return Solution(_moved(solution.z, step[:POSE]), _moved(solution.x, step[POSE:]), float(scale))


def _moved(pose: Array, step: Array) -> Array:
    made = pose.copy()
    made[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(step[3:POSE]).as_matrix()
    made[:3, 3] += step[:3]
    return made


def _derivative(function: Any, at: Array, steps: Array) -> Array:
    """Return the derivatives (m, n) of a function at ``at`` (n,), by central differences."""
    columns = []
    for i, size in enumerate(steps):
        change = np.zeros(len(at))
        change[i] = size
        columns.append((function(at + change) - function(at - change)).reshape(-1) / (2.0 * size))
    return np.stack(columns, axis=1)
