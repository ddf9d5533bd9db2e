"""The ChArUco board: what is on it, how it is found in a picture, and its page for the printer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError

Array = NDArray[np.float64]

DICTIONARIES = tuple(
    f"{bits}X{bits}_{count}" for bits in (4, 5, 6, 7) for count in (50, 100, 250, 1000)
)
LEAST_CORNERS = 6  # of a picture that is used: fewer say little about the board's pose
_MOST_SQUARES = 40  # along one side
_EDGE = 1.5  # px that an edge is wide, by blur and pixels
_WINDOWS = (2, 7)  # px, the smallest and the largest half of a window
_ENOUGH = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-3)


class Corners(NamedTuple):
    """The board's chessboard corners that a picture shows.

    Attributes:
        ids: (n,) which of the board's corners.
        pixels: (n, 2) where, px; the centre of the first pixel is (0, 0).
    """

    ids: NDArray[np.int64]
    pixels: Array


@dataclass(frozen=True)
class Board:
    """A flat board of black squares, with ArUco markers in the white ones.

    Garrido-Jurado et al., "Automatic generation and detection of highly reliable fiducial markers
    under occlusion", Pattern Recognition, 2014: the markers tell which corner of the chessboard is
    which, so that a part of the board is enough.

    Attributes:
        columns, rows: squares along the long and the short side.
        square, marker: edges of a square and of a marker, m.
        dictionary: the markers' dictionary, such as "4X4_50".
    """

    columns: int = 7
    rows: int = 5
    square: float = 0.036
    marker: float = 0.027
    dictionary: str = "4X4_50"

    def __post_init__(self) -> None:
        if not all(3 <= side <= _MOST_SQUARES for side in (self.columns, self.rows)):
            raise UserError(
                f"a board of {self.columns}x{self.rows} squares: each side needs 3 to "
                f"{_MOST_SQUARES}"
            )
        if not (math.isfinite(self.square) and 0.001 <= self.square <= 1.0):
            raise UserError(f"squares of {self.square * 1e3:g} mm: expected 1 to 1000 mm")
        if not 0.3 * self.square <= self.marker <= 0.9 * self.square:
            raise UserError(
                f"markers of {self.marker * 1e3:g} mm in squares of {self.square * 1e3:g} mm: "
                "expected 0.3 to 0.9 of a square"
            )
        if self.dictionary not in DICTIONARIES:
            raise UserError(
                f"unknown dictionary {self.dictionary!r}: give one of {', '.join(DICTIONARIES)}"
            )
        held, needed = int(self.dictionary.split("_")[1]), self.columns * self.rows // 2
        if needed > held:
            raise UserError(
                f"dictionary {self.dictionary} holds {held} markers, a board of "
                f"{self.columns}x{self.rows} squares needs {needed}"
            )

    def __str__(self) -> str:
        return (
            f"ChArUco {self.columns}x{self.rows} squares, squares {self.square * 1e3:g} mm, "
            f"markers {self.marker * 1e3:g} mm, dictionary {self.dictionary}"
        )

    @property
    def options(self) -> str:
        """The options of ``rl_robot calibrate`` that describe this board."""
        return (
            f"--squares {self.columns}x{self.rows} --square {self.square * 1e3:g} "
            f"--marker {self.marker * 1e3:g} --dictionary {self.dictionary}"
        )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, m."""
        return self.columns * self.square, self.rows * self.square

    @cached_property
    def corners(self) -> Array:
        """(n, 3) the inner corners in the board's frame, m.

        Its origin is the printed board's top left corner, x to the right, y down, z into the paper.
        """
        return np.asarray(self._charuco.getChessboardCorners(), dtype=np.float64)

    def scaled(self, factor: float) -> Array:
        """`corners` of a board whose squares are so much larger than said."""
        return self.corners * factor

    def drawn(self, pixels_per_square: int) -> NDArray[np.uint8]:
        """The board as a picture (rows * k, columns * k), without a margin."""
        size = (self.columns * pixels_per_square, self.rows * pixels_per_square)
        image = self._charuco.generateImage(size, marginSize=0, borderBits=1)
        return np.asarray(image, dtype=np.uint8)

    def find(self, image: NDArray[np.uint8]) -> Corners | None:
        """Find the board in a picture (H, W) or (H, W, 3) RGB.

        Returns:
            The corners, or None where fewer than `LEAST_CORNERS` are seen, or all on one line.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        pixels, ids, _, _ = self._detector.detectBoard(np.ascontiguousarray(grey))
        if ids is None or len(ids) < LEAST_CORNERS:
            return None
        if self._charuco.checkCharucoCornersCollinear(ids):
            return None
        found = np.asarray(ids, np.int64).reshape(-1)
        rough = np.asarray(pixels, np.float64).reshape(-1, 2)
        return Corners(found, self._refined(np.asarray(grey, np.uint8), found, rough))

    def _refined(self, grey: NDArray[np.uint8], ids: NDArray[np.int64], pixels: Array) -> Array:
        """Return the corners (n, 2) by the edges that meet in them, and by no others.

        OpenCV's own refinement looks at windows that reach into the markers, whose edges pull a
        corner up to 0.3 px away.
        """
        windows = np.clip(np.floor(self._room(ids, pixels) - _EDGE), *_WINDOWS).astype(int)
        refined = pixels.copy()
        for window in np.unique(windows):
            chosen = windows == window
            rough = np.ascontiguousarray(pixels[chosen], np.float32)
            size = (int(window), int(window))
            refined[chosen] = cv2.cornerSubPix(grey, rough, size, (-1, -1), _ENOUGH)
        return refined

    def _room(self, ids: NDArray[np.int64], pixels: Array) -> Array:
        """Return how far (n,) a square window around a corner may reach before a marker, px."""
        corners = self.corners[ids, :2]
        homography, _ = cv2.findHomography(corners, pixels)
        if np.size(homography) != 9:  # none was found
            return np.zeros(len(ids))
        gap = (self.square - self.marker) / 2.0
        nearest = np.full(len(ids), np.inf)
        for way in ((gap, gap), (gap, -gap), (-gap, gap), (-gap, -gap)):
            there = cv2.perspectiveTransform((corners + way)[:, None], homography)[:, 0]
            nearest = np.minimum(nearest, np.abs(there - pixels).max(axis=1))
        return np.asarray(nearest)

    @cached_property
    def _charuco(self) -> cv2.aruco.CharucoBoard:
        name = getattr(cv2.aruco, f"DICT_{self.dictionary}")
        dictionary = cv2.aruco.getPredefinedDictionary(name)
        size = (self.columns, self.rows)
        return cv2.aruco.CharucoBoard(size, self.square, self.marker, dictionary)

    @cached_property
    def _detector(self) -> cv2.aruco.CharucoDetector:
        return cv2.aruco.CharucoDetector(self._charuco)
