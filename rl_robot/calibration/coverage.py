"""What pictures of a board show, and what is still missing for a good calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_robot.calibration.board import Board
from rl_robot.calibration.hand_eye import GOOD_TURN, turn_spread
from rl_robot.calibration.views import Lens, View, board_pose, guessed_lens

COLUMNS, ROWS = 5, 4  # cells of the picture that corners should be seen in
ENOUGH_CELLS = 0.7
ENOUGH_TILT = math.radians(30.0)  # from one side to the other, about each direction
ENOUGH_VIEWS = 20


@dataclass(frozen=True)
class Coverage:
    """What a set of pictures shows.

    Attributes:
        views: how many pictures.
        cells: (ROWS, COLUMNS) corners seen in each part of the picture.
        tilts: angles from the board's least to its greatest tilt, to the sides and up and down,
            rad.
        turn: RMS turn of the hand about its second axis, rad; None where there is no robot.
    """

    views: int
    cells: NDArray[np.int64]
    tilts: tuple[float, float]
    turn: float | None

    @classmethod
    def of(
        cls, board: Board, views: Sequence[View], size: tuple[int, int], lens: Lens | None = None
    ) -> Coverage:
        """Judge pictures of ``size`` (width, height) px; without a ``lens`` tilts are guesses."""
        cells = np.zeros((ROWS, COLUMNS), np.int64)
        normals = []
        for view in views:
            columns, rows = (view.corners.pixels * (COLUMNS, ROWS) / size).astype(int).T
            np.add.at(cells, (np.clip(rows, 0, ROWS - 1), np.clip(columns, 0, COLUMNS - 1)), 1)
            pose, _ = board_pose(board, view.corners, lens or guessed_lens(*size))
            normals.append(pose[:3, 2])
        hands = [view.hand for view in views if view.hand is not None]
        return cls(
            len(views),
            cells,
            _tilts(np.array(normals).reshape(-1, 3)),
            turn_spread(np.array(hands))[0] if len(hands) > 2 else (0.0 if hands else None),
        )

    @property
    def covered(self) -> float:
        """Part of the picture's cells in which corners were seen."""
        return float(np.mean(self.cells > 0))

    def missing(self, enough: int = ENOUGH_VIEWS) -> list[str]:
        """Say in words what is still missing; nothing when it is enough."""
        found = []
        if self.views < enough:
            found.append(f"{enough - self.views} more pictures")
        if self.covered < ENOUGH_CELLS:
            found.append(f"the board {_empty(self.cells)} of the picture")
        for tilt, way in zip(self.tilts, ("left and right", "up and down"), strict=True):
            if tilt < ENOUGH_TILT:
                found.append(
                    f"the board tilted {way} ({math.degrees(tilt):.0f} of "
                    f"{math.degrees(ENOUGH_TILT):.0f} degrees so far)"
                )
        if self.turn is not None and self.turn < GOOD_TURN:
            found.append(
                "the hand turned about more than one axis "
                f"({math.degrees(self.turn):.0f} of {math.degrees(GOOD_TURN):.0f} degrees so far)"
            )
        return found


def _tilts(normals: NDArray[np.float64]) -> tuple[float, float]:
    if not len(normals):
        return 0.0, 0.0
    normals = normals * np.sign(normals[:, 2:])
    sideways, upwards = np.arctan2(normals[:, :2], normals[:, 2:]).T
    return float(np.ptp(sideways)), float(np.ptp(upwards))


def _empty(cells: NDArray[np.int64]) -> str:
    """Name the side of the picture with most cells in which nothing was seen."""
    empty = cells == 0
    half = COLUMNS // 2
    sides = {
        "at the left": empty[:, :half].mean(),
        "at the right": empty[:, -half:].mean(),
        "at the top": empty[: ROWS // 2].mean(),
        "at the bottom": empty[ROWS // 2 :].mean(),
    }
    return max(sides, key=lambda side: sides[side])
