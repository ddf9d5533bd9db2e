"""Corners that are not where the rest of their picture says, as at the edge of what hides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rl_robot.calibration.board import LEAST_CORNERS, Board, Corners
from rl_robot.calibration.views import Lens, View, board_pose, moved

STRAY = 5.0  # times the median error of all corners
STRAY_FLOOR = 0.3  # px that are not astray, however well the others fit
MOST_STRAYS = 0.25  # of a picture's corners, or the whole picture is to be doubted


def without_strays(board: Board, views: Sequence[View], lens: Lens) -> list[View]:
    """Return the pictures without corners that contradict the others of the same picture.

    A picture in which many do is left as it is, to be judged as a whole.
    """
    errors = [_errors(board, view.corners, lens) for view in views]
    limit = max(STRAY * float(np.median(np.concatenate(errors))), STRAY_FLOOR)
    return [
        replace(view, corners=_cleaned(board, view.corners, lens, limit))
        if float(error.max()) > limit
        else view
        for view, error in zip(views, errors, strict=True)
    ]


def count_strays(views: Sequence[View], cleaned: Sequence[View]) -> int:
    """Return how many corners ``without_strays`` took from all pictures together."""
    pairs = zip(views, cleaned, strict=True)
    return sum(len(view.corners.ids) - len(rest.corners.ids) for view, rest in pairs)


def _cleaned(board: Board, corners: Corners, lens: Lens, limit: float) -> Corners:
    """Leave out the worst corner, as long as there is one beyond the limit: it pulls the others."""
    left = corners
    least = max(LEAST_CORNERS, (1.0 - MOST_STRAYS) * len(corners.ids))
    while len(left.ids) >= least:
        errors = _errors(board, left, lens)
        if float(errors.max()) <= limit:
            return left
        kept = np.arange(len(left.ids)) != int(np.argmax(errors))
        left = Corners(left.ids[kept], left.pixels[kept])
    return corners


def _errors(board: Board, corners: Corners, lens: Lens) -> NDArray[np.float64]:
    """Return how far (n,) corners are from where the board's pose puts them, px."""
    pose, _ = board_pose(board, corners, lens)
    expected = lens.project(moved(pose, board.corners[corners.ids]))
    return np.linalg.norm(corners.pixels - expected, axis=1)
