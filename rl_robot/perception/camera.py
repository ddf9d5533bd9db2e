"""The pinhole camera with lens distortion: base frame to pixels and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from rl_robot.robots.description import Camera

Array = NDArray[np.float64]


class CameraModel:
    """Projects between the robot's base frame (m) and pixels.

    Pixel (0, 0) is the centre of the top left pixel, as in OpenCV and ROS; u grows to the right,
    v downwards. Distortion is plumb_bob (k1, k2, p1, p2[, k3]).
    """

    def __init__(self, camera: Camera) -> None:
        self.width = int(camera.width)
        self.height = int(camera.height)
        self.matrix: Array = np.asarray(camera.matrix, dtype=np.float64)
        self.distortion: Array = np.asarray(camera.distortion, dtype=np.float64)
        pose = np.asarray(camera.pose, dtype=np.float64)
        self.origin: Array = pose[:3, 3].copy()
        self.rotation: Array = pose[:3, :3].copy()
        # Homogeneous pixels of a base frame point are linear @ point + offset.
        self.linear: Array = self.matrix @ self.rotation.T
        self.offset: Array = -self.linear @ self.origin
        self.inverse: Array = np.asarray(np.linalg.inv(self.linear), dtype=np.float64)
        self._distorts = bool(self.distortion.any())

    def project(self, points: ArrayLike) -> Array:
        """Return the pixels (n, 2) of base frame points (n, 3).

        Points in the image plane or behind the camera give NaN.
        """
        homogeneous = np.reshape(points, (-1, 3)) @ self.linear.T + self.offset
        depth = np.where(homogeneous[:, 2:] > 1e-6, homogeneous[:, 2:], np.nan)
        return self.distort(homogeneous[:, :2] / depth)

    def ray(self, pixels: ArrayLike) -> tuple[Array, Array]:
        """Return the camera's origin (3,) and the unit directions (n, 3) of pixels (n, 2)."""
        ideal = self.undistort(np.reshape(pixels, (-1, 2)))
        homogeneous = np.column_stack((ideal, np.ones(len(ideal))))
        directions = homogeneous @ self.inverse.T
        return self.origin, directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def on_plane(self, pixels: ArrayLike, height: float) -> Array:
        """Return where the rays of pixels (n, 2) meet the plane z = height, as (n, 3).

        Rays that never meet it in front of the camera give NaN.
        """
        origin, directions = self.ray(pixels)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (height - origin[2]) / directions[:, 2]
        distance = np.where(np.isfinite(distance) & (distance > 0), distance, np.nan)
        return origin + distance[:, None] * directions

    def undistort(self, pixels: Array) -> Array:
        """Return where an undistorted pinhole would see these pixels, (n, 2) to (n, 2)."""
        if not (self._distorts and len(pixels)):
            return pixels
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
        ideal = cv2.undistortPoints(
            np.ascontiguousarray(pixels, dtype=np.float64)[:, None],
            self.matrix,
            self.distortion,
            P=self.matrix,
            criteria=criteria,
        )
        return np.asarray(ideal, dtype=np.float64)[:, 0]

    def distort(self, pixels: Array) -> Array:
        """Return where the lens puts the pixels of an undistorted pinhole, (n, 2) to (n, 2)."""
        if not (self._distorts and len(pixels)):
            return pixels
        homogeneous = np.column_stack((pixels, np.ones(len(pixels))))
        rays = np.linalg.solve(self.matrix, homogeneous.T).T
        seen, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), self.matrix, self.distortion)
        return np.asarray(seen, dtype=np.float64)[:, 0]
