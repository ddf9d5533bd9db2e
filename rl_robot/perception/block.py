"""The pose of a uniformly coloured cube resting on a table, from one image.

The cube's silhouette is cut out by colour, its outline is located to a fraction of a pixel, and
position and yaw are the least-squares fit of the projected cube's outline to it (Gauss-Newton on
point-to-line distances, as in model-based contour tracking: Harris and Stennett, RAPID, 1990;
Drummond and Cipolla, PAMI 2002). Known size and known resting height leave three unknowns, so a
whole silhouette over-determines them by far, and what doesn't fit is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.perception.camera import CameraModel
from rl_robot.perception.tracker import HeldPose, PoseTracker

if TYPE_CHECKING:
    from rl_robot.robots.description import Camera

__all__ = ["BlockDetector", "ColourRange", "Detection", "HeldPose", "PoseTracker", "Trust"]

Array = NDArray[np.float64]
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Detection:
    """A block seen well enough to trust.

    position: (3,) centre in the base frame (m). yaw: rad in (-pi/4, pi/4], a cube looks the same
    every quarter turn. visible_fraction: the part of its silhouette that was seen, 0 to 1.
    """

    position: Array
    yaw: float
    visible_fraction: float


@dataclass(frozen=True)
class ColourRange:
    """The colours that belong to an object: hue (degrees, +- tolerance) and minima in 0 to 1."""

    hue: float = 0.0
    hue_tolerance: float = 18.0
    min_saturation: float = 0.45
    min_value: float = 0.08


@dataclass(frozen=True)
class Trust:
    """When a fitted pose is believed.

    max_residual: root mean square distance of the outline from the fit (px).
    max_edge_offset: mean distance along any one edge (px); a hidden side shows up here.
    max_height_error: how far from resting the block may look (m); a lifted block shows up here.
    whole: with this part of silhouette and outline seen, nothing worth mentioning is hidden.
    min_visible: part of the silhouette that must have the block's colour.
    min_outline: part of the outline that must have been found.
    min_shading: part of the shading's variance that the faces must explain, where not whole.
    max_unevenness: standard deviation of the shade within faces, as a part of the mean shade.
    max_stray: block-coloured pixels outside the fit, as a part of the silhouette.
    """

    max_residual: float = 0.65
    max_edge_offset: float = 0.7
    max_height_error: float = 0.008
    whole: float = 0.92
    min_visible: float = 0.7
    min_outline: float = 0.5
    min_shading: float = 0.92
    max_unevenness: float = 0.15
    max_stray: float = 0.03


_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
_FACES = [  # axis and sign of the normal, corners in a ring
    (axis, sign, np.flatnonzero(_SIGNS[:, axis] == sign)[[0, 1, 3, 2]])
    for axis in range(3)
    for sign in (-1, 1)
]
_DIRECTIONS = np.column_stack([f(np.arange(24) * np.pi / 12) for f in (np.cos, np.sin)])
_START_YAWS = np.arange(9) * (np.pi / 18)
_NONE = np.zeros(len(_START_YAWS))
_MAX_ITERATIONS = 10
_SETTLED = 3
_INLIER_PX = 2.0


@dataclass(frozen=True)
class _Fit:
    """A pose (x, y, yaw) with the outline it predicts and how the points lie to it."""

    pose: Array  # (3,)
    outline: Array  # (m, 2) corners of the silhouette, px
    edge: NDArray[np.intp]  # (n,) the outline's edge each point belongs to
    along: Array  # (n,) where along it, 0 to 1
    residual: Array  # (n,) px, outward positive
    height_error: float  # m


class BlockDetector:
    """Finds the one block of a colour; stateless, so equal images give equal answers."""

    def __init__(
        self,
        camera: Camera,
        *,
        size: float = 0.04,
        colour: ColourRange | None = None,
        table_height: float = 0.0,
        trust: Trust | None = None,
    ) -> None:
        """size: the cube's edge (m). table_height: z of what it rests on, base frame (m)."""
        self.camera = CameraModel(camera)
        self._size = float(size)
        self._colour = colour or ColourRange()
        self._height = float(table_height) + self._size / 2
        self._trust = trust or Trust()
        self._corners = _SIGNS * (self._size / 2)
        linear = self.camera.linear
        # What a corner (x, y) adds to the homogeneous pixel per radian of yaw, as a (2, 3) matrix.
        self._yaw_change = np.array([linear[:, 1], -linear[:, 0]])
        cosine, sine, zero, one = np.cos(_START_YAWS), np.sin(_START_YAWS), _NONE, _NONE + 1
        turns = np.array([[cosine, sine, zero], [-sine, cosine, zero], [zero, zero, one]])
        self._start_corners = self._corners @ turns.transpose(2, 0, 1) @ linear.T
        angles = np.radians(self._colour.hue) - np.radians([0.0, 120.0, 240.0])
        # How much of the block's hue a pixel holds: 0 for any grey, linear in its RGB.
        self._chroma = np.cos(angles).astype(np.float32)[None]
        self._stride = max(1, self.camera.width // 80)

    def detect(self, rgb: NDArray[np.uint8]) -> Detection | None:
        """Return the block's pose, or None when it is hidden or seen too badly to trust.

        rgb: (height, width, 3) uint8, the camera's size, else ValueError.
        """
        expected = (self.camera.height, self.camera.width, 3)
        if rgb.shape != expected or rgb.dtype != np.uint8:
            raise ValueError(f"expected a uint8 image {expected}, not {rgb.dtype} {rgb.shape}")
        window = self._window(rgb)
        if window is None:
            return None
        left, top, right, bottom = window
        crop = np.ascontiguousarray(rgb[top:bottom, left:right])
        mask = self._mask(crop)
        chroma = np.asarray(cv2.transform(crop.astype(np.float32), self._chroma), np.float32)
        points = self._outline_points(chroma, mask)
        if len(points) < 24:
            return None
        points = self.camera.undistort(points + np.array([left, top]))
        fit = self._fit(points)
        if fit is None:
            return None
        return self._judge(fit, chroma, mask, np.array([left, top]))

    def _mask(self, rgb: NDArray[np.uint8]) -> Mask:
        """Return (h, w) uint8, 255 where the colour is the block's."""
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL)  # every channel 0 to 255
        colour = self._colour
        low = (colour.hue - colour.hue_tolerance) % 360 * (256 / 360)
        width = 2 * colour.hue_tolerance * (256 / 360)
        floor = (255 * colour.min_saturation, 255 * colour.min_value)
        mask = cv2.inRange(hsv, (low, *floor), (low + width, 255, 255))
        if low + width > 255:  # the range wraps around red
            beyond = cv2.inRange(hsv, (0, *floor), (low + width - 256, 255, 255))
            mask = cv2.bitwise_or(mask, beyond)
        return np.asarray(mask, dtype=np.uint8)

    def _window(self, rgb: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
        """Return the part of the image (left, top, right, bottom) that surely holds the block."""
        step = self._stride
        coarse = self._mask(np.ascontiguousarray(rgb[step // 2 :: step, step // 2 :: step]))
        count, _, stats, centres = cv2.connectedComponentsWithStats(coarse)
        if count < 2:
            return None
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        centre = centres[largest] * step + step // 2
        place = self.camera.on_plane(centre, self._height)[0]
        if not np.isfinite(place).all():
            return None
        depth = float((place - self.camera.origin) @ self.camera.rotation[:, 2])
        focal = float(self.camera.matrix[0, 0])
        reach = 1.1 * math.sqrt(3) * self._size * focal / max(depth, self._size)
        left, top = (max(0, int(c - reach)) for c in centre)
        right = min(self.camera.width, int(centre[0] + reach) + 1)
        bottom = min(self.camera.height, int(centre[1] + reach) + 1)
        return left, top, right, bottom

    def _outline_points(self, chroma: NDArray[np.float32], mask: Mask) -> Array:
        """Return the mask's border (n, 2) in the crop's pixels, to a fraction of a pixel.

        Between a pixel inside and its neighbour outside, the border is where the chroma falls to
        halfway between its values one pixel further in and one further out.
        """
        inside = mask > 0
        found = []
        for axis in (0, 1):
            values = np.moveaxis(chroma, axis, 1)
            flags = np.moveaxis(inside, axis, 1)
            rows, columns = np.nonzero(flags[:, 2:-1] != flags[:, 1:-2])
            columns = columns + 1  # the pixel before the change
            direction = np.where(flags[rows, columns], 1, -1)  # from inside to outside
            inner = np.where(direction > 0, columns, columns + 1)
            deep = values[rows, inner - direction]
            near = values[rows, inner]
            beyond = values[rows, inner + direction]
            far = values[rows, np.clip(inner + 2 * direction, 0, values.shape[1] - 1)]
            half = (deep + far) / 2
            fall = np.where(near >= half, near - beyond, deep - near)
            with np.errstate(divide="ignore", invalid="ignore"):
                shift = np.where(fall > 0, (near - half) / fall, 0.5)
            position = inner + direction * np.clip(shift, -1, 2)
            pair = (position, rows) if axis == 1 else (rows, position)
            found.append(np.column_stack(pair))
        return np.concatenate(found).astype(float)

    def _project(self, pose: Array) -> tuple[Array, Array]:
        """Return the corners' undistorted pixels (8, 2) and their derivatives (8, 2, 4).

        pose: x, y, yaw. The derivatives are by x, y, yaw and height.
        """
        cosine, sine = math.cos(pose[2]), math.sin(pose[2])
        turned = self._corners @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        linear = self.camera.linear
        middle = linear @ np.array([pose[0], pose[1], self._height]) + self.camera.offset
        homogeneous = turned @ linear.T + middle
        inverse_depth = 1 / homogeneous[:, 2:]
        pixels = homogeneous[:, :2] * inverse_depth
        change = np.empty((8, 3, 4))
        change[:, :, :2] = linear[:, :2]
        change[:, :, 2] = turned[:, :2] @ self._yaw_change
        change[:, :, 3] = linear[:, 2]
        derivative = change[:, :2] - pixels[:, :, None] * change[:, 2:]
        return pixels, derivative * inverse_depth[:, :, None]

    def _start(self, points: Array) -> Array:
        """Return a first pose (3,): the yaw whose silhouette is as wide in every direction."""
        supports = (points @ _DIRECTIONS.T).max(axis=0)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        ray = self.camera.inverse @ np.array([middle[0], middle[1], 1.0])
        place = self.camera.origin + ray * (self._height - self.camera.origin[2]) / ray[2]
        homogeneous = self._start_corners + (self.camera.linear @ place + self.camera.offset)
        pixels = homogeneous[:, :, :2] / homogeneous[:, :, 2:]
        gaps = supports - (pixels @ _DIRECTIONS.T).max(axis=1)
        shifts = gaps @ _DIRECTIONS * (2 / len(_DIRECTIONS))
        errors = np.square(gaps - shifts @ _DIRECTIONS.T).sum(axis=1)
        return np.array([place[0], place[1], _START_YAWS[np.argmin(errors)]])

    def _fit(self, points: Array) -> _Fit | None:
        """Return the least-squares pose for outline points (n, 2), None when there is none."""
        pose = self._start(points)
        for iteration in range(_MAX_ITERATIONS):
            corners, derivative = self._project(pose)
            order = cv2.convexHull(corners.astype(np.float32), returnPoints=False).ravel()
            onward = np.append(order[1:], order[0])
            outline, motion = corners[order], derivative[order]
            edges = corners[onward] - outline
            lengths = np.sqrt((edges * edges).sum(axis=1)).clip(1e-6)
            normals = np.column_stack((edges[:, 1], -edges[:, 0])) / lengths[:, None]
            # Points near a convex outline are nearest to the edge that they lie furthest out of.
            distances = points @ normals.T - (normals * outline).sum(axis=1)
            edge = distances.argmax(axis=1)
            residual = distances[np.arange(len(points)), edge]
            along = ((points - outline[edge]) * edges[edge]).sum(axis=1) / lengths[edge] ** 2
            along = along.clip(0, 1)

            start_slope = (normals[:, None] @ motion)[:, 0]
            end_slope = (normals[:, None] @ derivative[onward])[:, 0]
            slope = start_slope[edge] + along[:, None] * (end_slope - start_slope)[edge]
            scale = max(1.0, 8.0 / 2**iteration)
            weight = scale / np.maximum(np.abs(residual), scale)
            if iteration >= _SETTLED:  # by now, a border inside the silhouette is what hides it
                weight[residual < -_INLIER_PX] = 0
            weighted = slope * weight[:, None]
            normal = weighted.T @ slope
            right = weighted.T @ residual
            try:
                step = np.linalg.solve(normal[:3, :3], right[:3])
            except np.linalg.LinAlgError:
                return None
            if not np.isfinite(step).all() or np.abs(step[:2]).max() > 5 * self._size:
                return None
            if iteration > _SETTLED and np.abs(step[:2]).max() < 2e-5 and abs(step[2]) < 5e-4:
                break
            pose = pose + step
        height_error = float(np.linalg.lstsq(normal, right, rcond=None)[0][3])
        return _Fit(pose, outline, edge, along, residual, height_error)

    def _judge(
        self, fit: _Fit, chroma: NDArray[np.float32], mask: Mask, corner: NDArray[np.intp]
    ) -> Detection | None:
        """Return the detection if everything about the fit agrees, else None.

        corner: where chroma (h, w) and mask (h, w) begin in the image (px).
        """
        trust = self._trust
        outline = self._outline_seen(fit)
        if outline is None:
            return None
        visible, stray = self._overlap(fit.outline, mask, corner)
        if stray > trust.max_stray:
            return None
        if visible < trust.min_visible or outline < trust.min_outline:
            return None
        unevenness, explained = self._shading(fit.pose, chroma, mask, corner)
        whole = visible >= trust.whole and outline >= trust.whole
        if unevenness > trust.max_unevenness or (not whole and explained < trust.min_shading):
            return None
        yaw = float((fit.pose[2] + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        yaw = yaw if yaw > -np.pi / 4 else np.pi / 4
        return Detection(np.array([fit.pose[0], fit.pose[1], self._height]), yaw, visible)

    def _outline_seen(self, fit: _Fit) -> float | None:
        """Return which part of the outline was found, None where it contradicts the fit."""
        trust = self._trust
        close = np.abs(fit.residual) < _INLIER_PX
        if not close.any() or abs(fit.height_error) > trust.max_height_error:
            return None
        edge, residual = fit.edge[close], fit.residual[close]
        if math.sqrt(float(residual @ residual) / len(residual)) > trust.max_residual:
            return None
        edges = len(fit.outline)
        count = np.bincount(edge, minlength=edges)
        offset = np.abs(np.bincount(edge, residual, edges)) / np.maximum(count, 4)
        if offset.max() > trust.max_edge_offset:
            return None
        lengths = np.linalg.norm(np.roll(fit.outline, -1, axis=0) - fit.outline, axis=1)
        pieces = np.maximum(1, (lengths / 3).astype(int))  # of about 3 px
        piece = (fit.along[close] * pieces[edge] * 0.999).astype(int)
        found = np.zeros((edges, pieces.max()))
        found[edge, piece] = 1
        seen = found.sum(axis=1) / pieces
        return float(seen @ lengths / lengths.sum())

    def _shading(
        self, pose: Array, chroma: NDArray[np.float32], mask: Mask, corner: NDArray[np.intp]
    ) -> tuple[float, float]:
        """Return how uneven the fitted cube's faces look, and how much they explain.

        Each face is lit evenly and differently, so at the right pose each is of one shade: this
        tells a cube from a part of something else. The first is the standard deviation within
        faces as a part of the mean shade, the second the part of the variance that is between
        faces.
        """
        corners = self.camera.distort(self._project(pose)[0]) - corner
        cosine, sine = math.cos(pose[2]), math.sin(pose[2])
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        centre = np.array([pose[0], pose[1], self._height])
        towards = turn.T @ (self.camera.origin - centre)
        faces = np.zeros_like(mask)
        label = 0
        for axis, sign, ring in _FACES:
            if sign * towards[axis] <= self._size / 2:
                continue
            label += 1
            middle = corners[ring].mean(axis=0)
            inner = middle + 0.8 * (corners[ring] - middle)
            cv2.fillConvexPoly(faces, np.round(inner * 16).astype(np.int32), label, 8, 4)
        chosen = (faces > 0) & (mask > 0)
        labels, shades = faces[chosen], chroma[chosen].astype(float)
        if not len(labels):
            return math.inf, 0.0
        counts = np.bincount(labels).clip(1)
        means = np.bincount(labels, shades) / counts
        within = float(np.square(shades - means[labels]).mean())
        total = float(shades.var())
        unevenness = math.sqrt(within) / max(float(shades.mean()), 1.0)
        return unevenness, 1 - within / total if total > 0 else 0.0

    def _overlap(self, outline: Array, mask: Mask, corner: NDArray[np.intp]) -> tuple[float, float]:
        """Return which part of the silhouette the mask covers, and its pixels outside it as a part.

        A rim of about a pixel on either side of the outline belongs to neither.
        """
        polygon = self.camera.distort(outline) - corner
        arms = polygon - polygon.mean(axis=0)
        arms /= np.linalg.norm(arms, axis=1, keepdims=True)
        within, around = np.zeros_like(mask), np.zeros_like(mask)
        cv2.fillConvexPoly(within, np.round((polygon - 2 * arms) * 16).astype(np.int32), 255, 8, 4)
        cv2.fillConvexPoly(around, np.round((polygon + 1 * arms) * 16).astype(np.int32), 255, 8, 4)
        area = max(1, cv2.countNonZero(within))
        stray = cv2.countNonZero(mask) - cv2.countNonZero(mask & around)
        return cv2.countNonZero(mask & within) / area, stray / area
