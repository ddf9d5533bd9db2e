"""The pose of a uniformly coloured cube resting on a table, from one image.

The cube's silhouette is cut out by colour, its outline is located to a fraction of a pixel, and
the cube is fitted to it (see cube.py). Only where the surface it rests on borders it is the border
the cube's own; elsewhere something hides it. A pose is believed when the outline determines it,
resting height included, and nothing in the picture speaks against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.perception.camera import CameraModel
from rl_robot.perception.cube import CubeFit, RestingCube
from rl_robot.perception.outline import outline_points
from rl_robot.perception.tracker import HeldPose, PoseTracker

if TYPE_CHECKING:
    from rl_robot.robots.description import Camera

__all__ = ["BlockDetector", "ColourRange", "Detection", "HeldPose", "PoseTracker", "Trust"]

Array = NDArray[np.float64]
Mask = NDArray[np.uint8]

_FEWEST_POINTS = 16


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
    max_edge_offset: mean distance along any one edge (px).
    min_inliers: part of the cube's own border that must lie on the fit.
    max_deviation: standard deviation that the outline may leave of x and y (m), yaw (rad) and
        height (m).
    height_error: how far below and above resting it may look (m): a lifted block looks too high.
        Below there is nothing it could be in, only edges along the pixel grid that seem too short.
    min_coverage: part of the silhouette's outline that must be seen as the cube's own border.
    min_visible: part of the silhouette that must have the block's colour.
    max_bare: part of the silhouette where the surface may be seen instead of the block.
    max_stray: block-coloured pixels outside the silhouette, as a part of it.
    max_unevenness: standard deviation of the shade within faces, as a part of the mean shade.
    min_shading: part of the shade's variance that is between faces, where less than ``whole`` of
        the silhouette and its outline is seen.
    """

    max_residual: float = 0.6
    max_edge_offset: float = 0.7
    min_inliers: float = 0.9
    max_deviation: tuple[float, float, float, float] = (0.001, 0.001, 0.05, 0.004)
    height_error: tuple[float, float] = (-0.015, 0.008)
    min_coverage: float = 0.4
    min_visible: float = 0.3
    max_bare: float = 0.02
    max_stray: float = 0.03
    max_unevenness: float = 0.12
    whole: float = 0.92
    min_shading: float = 0.9


class BlockDetector:
    """Finds the one block of a colour; stateless, so equal images give equal answers."""

    def __init__(
        self,
        camera: Camera,
        *,
        size: float = 0.04,
        colour: ColourRange | None = None,
        table_height: float = 0.0,
        table_brightness: float = 0.35,
        trust: Trust | None = None,
    ) -> None:
        """Set what to look for.

        Args:
            camera: intrinsics, distortion and pose.
            size: the cube's edge (m).
            colour: what belongs to the block; red by default.
            table_height: z of what it rests on, in the base frame (m).
            table_brightness: from this brightness on (0 to 1, the largest of R, G and B) what
                lies beside the block is what it rests on; darker things are tools that hide it.
                With 0 everything is taken for the table, and a partly hidden block isn't found.
            trust: when a pose is believed.
        """
        self.camera = CameraModel(camera)
        self._colour = colour or ColourRange()
        self._height = float(table_height) + float(size) / 2
        self._reach = math.sqrt(3) * float(size)
        self._cube = RestingCube(self.camera, size=float(size), height=self._height)
        self._brightness = round(255 * table_brightness)
        self._trust = trust or Trust()
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
        view = self._view(np.ascontiguousarray(rgb[top:bottom, left:right]), left, top)
        points, own = view.outline()
        if own.sum() < _FEWEST_POINTS:
            return None
        points = self.camera.undistort(points)
        fit = self._cube.fit(points[own], self._cube.start(points))
        return None if fit is None else self._judge(fit, view)

    def _view(self, crop: NDArray[np.uint8], left: int, top: int) -> _View:
        hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV_FULL)
        block = self._mask(hsv)
        bright = cv2.inRange(hsv, (0, 0, self._brightness), (255, 255, 255))
        table = cv2.bitwise_and(bright, cv2.bitwise_not(block))
        chroma = cv2.transform(crop.astype(np.float32), self._chroma)
        return _View(
            np.array([left, top]),
            block,
            np.asarray(table, dtype=np.uint8),
            np.asarray(chroma, dtype=np.float32),
        )

    def _mask(self, hsv: cv2.typing.MatLike) -> Mask:
        """Return (h, w) uint8, 255 where the colour is the block's; hsv in 0 to 255 each."""
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
        sparse = np.ascontiguousarray(rgb[step // 2 :: step, step // 2 :: step])
        coarse = self._mask(cv2.cvtColor(sparse, cv2.COLOR_RGB2HSV_FULL))
        count, _, stats, centres = cv2.connectedComponentsWithStats(coarse)
        if count < 2:
            return None
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        centre = centres[largest] * step + step // 2
        depth = self._cube.depth(centre)
        if depth is None:
            return None
        reach = self._reach * float(self.camera.matrix[0, 0]) / max(depth, self._reach)
        left, top = (max(0, int(c - reach)) for c in centre)
        right = min(self.camera.width, int(centre[0] + reach) + 1)
        bottom = min(self.camera.height, int(centre[1] + reach) + 1)
        return left, top, right, bottom

    def _judge(self, fit: CubeFit, view: _View) -> Detection | None:
        """Return the detection if everything about the fit agrees, else None."""
        trust = self._trust
        if (
            fit.residual > trust.max_residual
            or fit.edge_offset > trust.max_edge_offset
            or fit.inliers < trust.min_inliers
            or fit.coverage < trust.min_coverage
            or (fit.deviation > trust.max_deviation).any()
            or not trust.height_error[0] < fit.height_error < trust.height_error[1]
        ):
            return None
        visible, bare, stray = self._overlap(fit, view)
        if visible < trust.min_visible or bare > trust.max_bare or stray > trust.max_stray:
            return None
        unevenness, explained = self._shading(fit, view)
        whole = min(visible, fit.coverage) >= trust.whole
        if unevenness > trust.max_unevenness or (not whole and explained < trust.min_shading):
            return None
        yaw = float((fit.pose[2] + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        yaw = yaw if yaw > -np.pi / 4 else np.pi / 4
        return Detection(np.array([fit.pose[0], fit.pose[1], self._height]), yaw, visible)

    def _overlap(self, fit: CubeFit, view: _View) -> tuple[float, float, float]:
        """Return three areas as parts of the silhouette.

        Where it shows the block, where it shows the table, and where the block shows outside it.
        A rim of one to two pixels on either side of the outline belongs to neither.
        """
        polygon = self.camera.distort(fit.outline) - view.corner
        arms = polygon - polygon.mean(axis=0)
        arms /= np.linalg.norm(arms, axis=1, keepdims=True).clip(1e-6)
        within, around = np.zeros_like(view.block), np.zeros_like(view.block)
        _fill(within, polygon - 2 * arms, 255)
        _fill(around, polygon + arms, 255)
        area = max(1, cv2.countNonZero(within))
        seen = cv2.countNonZero(view.block & within)
        bare = cv2.countNonZero(view.table & within)
        stray = cv2.countNonZero(view.block) - cv2.countNonZero(view.block & around)
        return seen / area, bare / area, stray / area

    def _shading(self, fit: CubeFit, view: _View) -> tuple[float, float]:
        """Return how uneven the fitted cube's faces look, and how much they explain.

        Each face is lit evenly and differently, so at the right pose each is of one shade: this
        tells a cube from a part of something else. The first is the standard deviation within
        faces as a part of the mean shade, the second the part of the variance that is between
        faces.
        """
        samples, areas = self._cube.face_samples(fit.pose)
        pixels = self.camera.distort(samples.reshape(-1, 2)).reshape(samples.shape) - view.corner
        height, width = view.block.shape
        columns = np.rint(pixels[..., 0]).astype(int).clip(0, width - 1)
        rows = np.rint(pixels[..., 1]).astype(int).clip(0, height - 1)
        shades = view.chroma[rows, columns].astype(float)
        weights = (view.block[rows, columns] > 0) * areas[:, None]
        if not weights.any():
            return math.inf, 0.0
        weights /= weights.sum()
        mean = float((weights * shades).sum())
        means = (weights * shades).sum(axis=1) / weights.sum(axis=1).clip(1e-9)
        within = float((weights * np.square(shades - means[:, None])).sum())
        total = float((weights * np.square(shades - mean)).sum())
        return math.sqrt(within) / max(mean, 1.0), 1 - within / max(total, 1e-9)


@dataclass(frozen=True)
class _View:
    """The part of an image around the block; arrays are (h, w), masks 0 or 255."""

    corner: NDArray[np.intp]  # (2,) where it begins in the image, px
    block: Mask
    table: Mask
    chroma: NDArray[np.float32]

    def outline(self) -> tuple[Array, NDArray[np.bool_]]:
        """Return the block's border points (n, 2) in the image, and which border on the table."""
        left, top, width, height = cv2.boundingRect(self.block)
        part = np.s_[max(0, top - 4) : top + height + 4, max(0, left - 4) : left + width + 4]
        points, own = outline_points(self.block[part] > 0, self.chroma[part], self.table[part] > 0)
        return points + self.corner + np.array([part[1].start, part[0].start]), own


def _fill(picture: Mask, polygon: Array, value: int) -> None:
    """Fill a convex polygon (n, 2) given to a fraction of a pixel."""
    cv2.fillConvexPoly(picture, np.round(polygon * 16).astype(np.int32), value, cv2.LINE_8, 4)
