"""Fits a cube that rests on a surface to the outline of its silhouette.

Gauss-Newton on the distances of outline points from the projected cube's outline, as in
model-based contour tracking (Harris and Stennett, RAPID, 1990; Drummond and Cipolla, "Real-time
visual tracking of complex structures", IEEE PAMI, 2002). Size and resting height are known, so
there are three unknowns: x, y and yaw; a fourth, the height, is only looked at to tell whether the
cube rests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.perception.camera import CameraModel

Array = NDArray[np.float64]

INLIER_PX = 2.0

_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
_FACES = [  # axis and sign of the normal, corners in a ring
    (axis, sign, np.flatnonzero(_SIGNS[:, axis] == sign)[[0, 1, 3, 2]])
    for axis in range(3)
    for sign in (-1, 1)
]
_ACROSS, _ALONG = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0.2, 0.8, 6)] * 2))
_SPREAD = np.column_stack(  # (k, 4): points of a face as mixtures of its corners
    ((1 - _ACROSS) * (1 - _ALONG), _ACROSS * (1 - _ALONG), _ACROSS * _ALONG, (1 - _ACROSS) * _ALONG)
)
_DIRECTIONS = np.column_stack([f(np.arange(24) * np.pi / 12) for f in (np.cos, np.sin)])
_START_YAWS = np.arange(9) * (np.pi / 18)
_MAX_ITERATIONS = 10
_SETTLED = 2  # iterations after which points far from the outline are left out
_PIECE_PX = 3.0
# Standard deviation of an outline point (px): edges along the pixel grid are off together.
_POINT_PX = 0.6


@dataclass(frozen=True)
class CubeFit:
    """A pose and how well it agrees with the outline points it was fitted to.

    pose: (3,) x, y (m) and yaw (rad). outline: (m, 2) corners of the silhouette, undistorted px.
    inliers: part of the points within INLIER_PX of it. residual: their root mean square (px).
    edge_offset: largest mean distance of the points along one edge (px). coverage: part of the
    outline along which points were found. deviation: (4,) standard deviations that the points
    leave: of x, y and yaw if it rests, and of the height. height_error: how much higher than
    resting it looks (m).
    """

    pose: Array
    outline: Array
    inliers: float
    residual: float
    edge_offset: float
    coverage: float
    deviation: Array
    height_error: float


@dataclass(frozen=True)
class _Linearized:
    """The outline at a pose, and how the points lie to it."""

    outline: Array  # (m, 2)
    edge: NDArray[np.intp]  # (n,) the edge each point is nearest to
    along: Array  # (n,) where along it, 0 to 1
    residual: Array  # (n,) px, outward positive
    slope: Array  # (n, 4) how the edge moves there, px by x, y, yaw and height


class RestingCube:
    """A cube of known size on a surface of known height, as one camera sees it.

    Pixels are those of the undistorted camera.
    """

    def __init__(self, camera: CameraModel, *, size: float, height: float) -> None:
        """size: edge (m). height: z of the centre in the base frame (m)."""
        self._camera = camera
        self._size = size
        self._height = height
        self._corners = _SIGNS * (size / 2)
        linear = camera.linear
        # What a corner (x, y) adds to the homogeneous pixel per radian of yaw, as a (2, 3) matrix.
        self._yaw_change = np.array([linear[:, 1], -linear[:, 0]])
        turns = np.array([_turn(yaw) for yaw in _START_YAWS])
        self._start_corners = self._corners @ turns.transpose(0, 2, 1) @ linear.T

    def fit(self, points: Array, start: Array) -> CubeFit | None:
        """Return the least-squares pose for outline points (n, 2), None when there is none.

        start: (3,) where to begin, within about half a cube of the truth.
        """
        pose = start
        for iteration in range(_MAX_ITERATIONS):
            here = self._linearize(pose, points)
            scale = max(1.0, 4.0 / 2**iteration)  # of Huber's weights, px
            weight = scale / np.maximum(np.abs(here.residual), scale)
            if iteration > _SETTLED:
                weight[np.abs(here.residual) > INLIER_PX] = 0
            weighted = here.slope * weight[:, None]
            normal, right = weighted.T @ here.slope, weighted.T @ here.residual
            try:
                step = np.linalg.solve(normal[:3, :3], right[:3])
            except np.linalg.LinAlgError:
                return None
            if not np.isfinite(step).all() or np.abs(step[:2]).max() > 5 * self._size:
                return None
            if iteration > _SETTLED and np.abs(step[:2]).max() < 5e-5 and abs(step[2]) < 1e-3:
                break
            pose = pose + step
        try:
            resting, free = np.linalg.inv(normal[:3, :3]), np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return None
        variance = np.append(np.diag(resting), free[3, 3]) * _POINT_PX**2
        if not (variance > 0).all():  # so few points that rounding decides
            return None
        return _summary(pose, here, np.sqrt(variance), height_error=float(free[3] @ right))

    def start(self, points: Array) -> Array:
        """Return a first pose (3,): the yaw whose silhouette is as wide in every direction.

        points: (n, 2) of the visible part's outline.
        """
        supports = (points @ _DIRECTIONS.T).max(axis=0)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        place = self._at(middle)
        homogeneous = self._start_corners + (self._camera.linear @ place + self._camera.offset)
        pixels = homogeneous[:, :, :2] / homogeneous[:, :, 2:]
        gaps = supports - (pixels @ _DIRECTIONS.T).max(axis=1)
        shifts = gaps @ _DIRECTIONS * (2 / len(_DIRECTIONS))
        best = np.square(gaps - shifts @ _DIRECTIONS.T).sum(axis=1).argmin()
        place = self._at(middle + shifts[best])
        return np.array([place[0], place[1], _START_YAWS[best]])

    def depth(self, pixel: Array) -> float | None:
        """Return how far ahead of the camera (m) a cube at a pixel (2,) would be.

        None above the horizon.
        """
        depth = self._camera.linear[2] @ self._at(pixel) + self._camera.offset[2]
        return float(depth) if depth > 0 else None

    def face_samples(self, pose: Array) -> tuple[Array, Array]:
        """Return pixels (faces, k, 2) spread over each face that is seen at a pose (3,).

        They keep away from the faces' edges. With them, the faces' areas (faces,) in px.
        """
        corners, _ = self._project(pose)
        centre = np.array([pose[0], pose[1], self._height])
        towards = _turn(pose[2]).T @ (self._camera.origin - centre)
        half = self._size / 2
        rings = [ring for axis, sign, ring in _FACES if sign * towards[axis] > half]
        faces = corners[np.array(rings, dtype=int).reshape(-1, 4)]
        one, other = (faces[:, 2] - faces[:, 0]).T, (faces[:, 3] - faces[:, 1]).T
        return _SPREAD @ faces, np.abs(one[0] * other[1] - one[1] * other[0]) / 2

    def _at(self, pixel: Array) -> Array:
        """Return the point (3,) at the cube's height that a pixel (2,) shows."""
        ray = self._camera.inverse @ np.append(pixel, 1.0)
        return self._camera.origin + ray * ((self._height - self._camera.origin[2]) / ray[2])

    def _project(self, pose: Array) -> tuple[Array, Array]:
        """Return the corners' pixels (8, 2) and their derivatives (8, 2, 4).

        pose: x, y, yaw. The derivatives are by x, y, yaw and height.
        """
        turned = self._corners @ _turn(pose[2]).T
        linear = self._camera.linear
        middle = linear @ np.array([pose[0], pose[1], self._height]) + self._camera.offset
        homogeneous = turned @ linear.T + middle
        inverse_depth = 1 / homogeneous[:, 2:]
        pixels = homogeneous[:, :2] * inverse_depth
        change = np.empty((8, 3, 4))
        change[:, :, :2] = linear[:, :2]
        change[:, :, 2] = turned[:, :2] @ self._yaw_change
        change[:, :, 3] = linear[:, 2]
        derivative = change[:, :2] - pixels[:, :, None] * change[:, 2:]
        return pixels, derivative * inverse_depth[:, :, None]

    def _linearize(self, pose: Array, points: Array) -> _Linearized:
        corners, derivative = self._project(pose)
        order = cv2.convexHull(corners.astype(np.float32), returnPoints=False).ravel()
        onward = np.append(order[1:], order[0])
        outline = corners[order]
        edges = corners[onward] - outline
        lengths = np.sqrt((edges * edges).sum(axis=1)).clip(1e-6)
        normals = np.column_stack((edges[:, 1], -edges[:, 0])) / lengths[:, None]
        # Points near a convex outline are nearest to the edge that they lie furthest out of.
        distances = points @ normals.T - (normals * outline).sum(axis=1)
        edge = distances.argmax(axis=1)
        residual = distances[np.arange(len(points)), edge]
        along = ((points - outline[edge]) * edges[edge]).sum(axis=1) / lengths[edge] ** 2
        along = along.clip(0, 1)
        start_slope = (normals[:, None] @ derivative[order])[:, 0]
        end_slope = (normals[:, None] @ derivative[onward])[:, 0]
        slope = start_slope[edge] + along[:, None] * (end_slope - start_slope)[edge]
        return _Linearized(outline, edge, along, residual, slope)


def _summary(
    pose: Array, here: _Linearized, deviation: Array, height_error: float
) -> CubeFit | None:
    close = np.abs(here.residual) < INLIER_PX
    if not close.any():
        return None
    edge, residual = here.edge[close], here.residual[close]
    edges = len(here.outline)
    count = np.bincount(edge, minlength=edges)
    offset = np.abs(np.bincount(edge, residual, edges)) / np.maximum(count, 4)
    lengths = np.linalg.norm(np.roll(here.outline, -1, axis=0) - here.outline, axis=1)
    pieces = np.maximum(1, (lengths / _PIECE_PX).astype(int))
    found = np.zeros((edges, pieces.max()))
    found[edge, (here.along[close] * pieces[edge] * 0.999).astype(int)] = 1
    return CubeFit(
        pose=pose,
        outline=here.outline,
        inliers=float(close.mean()),
        residual=math.sqrt(float(residual @ residual) / len(residual)),
        edge_offset=float(offset.max()),
        coverage=float(found.sum(axis=1) / pieces @ lengths / lengths.sum()),
        deviation=deviation,
        height_error=height_error,
    )


def _turn(yaw: float) -> Array:
    """Return the rotation (3, 3) about z."""
    cosine, sine = math.cos(yaw), math.sin(yaw)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
