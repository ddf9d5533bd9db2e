"""What calibration works on: the board's corners in a picture, and where the hand was then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Board, Corners
from rl_robot.robots.description import Camera

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """One picture that shows the board.

    Attributes:
        name: of the picture, for messages.
        corners: where it shows the board's corners.
        hand: (4, 4) pose of the hand in the base frame; None where only the camera matters.
    """

    name: str
    corners: Corners
    hand: Array | None = None


@dataclass(frozen=True)
class Lens:
    """A camera's intrinsics, for pictures of ``width`` x ``height`` px.

    ``values`` are fx, fy, cx, cy in px, the centre of the first pixel at (0, 0), then the
    distortion k1, k2, p1, p2, k3 (plumb_bob).
    """

    width: int
    height: int
    values: tuple[float, ...]

    @classmethod
    def of(cls, camera: Camera) -> Lens:
        """Return a camera's intrinsics as its robot's YAML has them."""
        values = (camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion)
        return cls(camera.width, camera.height, values)

    def on(self, camera: Camera) -> Camera:
        """Return the camera with these intrinsics."""
        fx, fy, cx, cy, *distortion = self.values
        return replace(
            camera,
            width=self.width,
            height=self.height,
            fx=fx,
            fy=fy,
            cx=cx,
            cy=cy,
            distortion=tuple(distortion),
        )

    @property
    def matrix(self) -> Array:
        """Intrinsic matrix K (3, 3)."""
        fx, fy, cx, cy = self.values[:4]
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    @property
    def distortion(self) -> Array:
        """(5,) k1, k2, p1, p2, k3."""
        return np.array(self.values[4:])

    def project(self, points: Array) -> Array:
        """Return the pixels (n, 2) of points (n, 3) in the optical frame."""
        pixels, _ = cv2.projectPoints(
            points, np.zeros(3), np.zeros(3), self.matrix, self.distortion
        )
        return np.asarray(pixels, np.float64).reshape(-1, 2)


def guessed_lens(width: int, height: int) -> Lens:
    """Return a lens of an everyday camera (53 degrees across), to judge tilts by."""
    return Lens(width, height, (width, width, (width - 1) / 2, (height - 1) / 2, *[0.0] * 5))


def board_pose(board: Board, corners: Corners, lens: Lens) -> tuple[Array, float]:
    """Find where the board is from one picture.

    Collins and Bartoli, "Infinitesimal plane-based pose estimation", IJCV, 2014, refined by least
    squares; of the two poses that a plane allows the one that fits better.

    Returns:
        Pose (4, 4) of the board in the optical frame, and its reprojection error, px RMS.
    """
    points = board.corners[corners.ids]
    pixels = np.ascontiguousarray(corners.pixels)
    count, turns, shifts, _ = cv2.solvePnPGeneric(
        points, pixels, lens.matrix, lens.distortion, flags=cv2.SOLVEPNP_IPPE
    )
    if not count:  # where corners hardly span a plane
        _, turn, shift = cv2.solvePnP(points, pixels, lens.matrix, lens.distortion)
        turns, shifts = [turn], [shift]
    found = [
        cv2.solvePnPRefineLM(points, pixels, lens.matrix, lens.distortion, turn, shift)
        for turn, shift in zip(turns, shifts, strict=True)
    ]
    poses = [
        transform(
            Rotation.from_rotvec(turn.reshape(3)).as_matrix(),
            np.asarray(shift, np.float64).reshape(3),
        )
        for turn, shift in found
    ]
    errors = [root_mean_square(lens.project(moved(pose, points)) - pixels) for pose in poses]
    best = int(np.argmin(errors))
    return poses[best], errors[best]


def transform(rotation: Array, translation: Array) -> Array:
    """Return the transform (4, 4) of a rotation (3, 3) and a translation (3,)."""
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = rotation, translation
    return made


def inverse(pose: Array) -> Array:
    """Return the inverse of transforms (..., 4, 4)."""
    turned = np.swapaxes(pose[..., :3, :3], -1, -2)
    made = np.zeros_like(pose)
    made[..., :3, :3] = turned
    made[..., :3, 3] = -np.einsum("...ij,...j->...i", turned, pose[..., :3, 3])
    made[..., 3, 3] = 1.0
    return made


def moved(pose: Array, points: Array) -> Array:
    """Return points (n, 3) moved by a transform (4, 4)."""
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def root_mean_square(offsets: Array) -> float:
    """Return the RMS length of offsets (n, 2)."""
    return float(np.sqrt(np.mean(np.sum(offsets**2, axis=1))))


def groups_of(count: int, most: int = 10) -> list[NDArray[np.int64]]:
    """Split pictures 0 ... count - 1 into groups of nearly one size, each spread over all."""
    number = min(count, most)
    return [np.arange(first, count, number) for first in range(number)]


def jackknife_covariance(values: Array) -> Array:
    """Return the covariance (k, k) of estimates (n, k) that each leave out one of n groups.

    Efron and Stein, "The jackknife estimate of variance", Annals of Statistics, 1981. It sees what
    a robot's errors do to whole pictures, where linearization takes every corner's for its own.
    """
    count = len(values)
    offsets = values - values.mean(axis=0)
    return np.asarray((count - 1) / count * offsets.T @ offsets)
