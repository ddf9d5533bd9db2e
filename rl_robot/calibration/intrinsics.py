"""The camera's intrinsics and lens distortion from pictures of a board."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Board
from rl_robot.calibration.coverage import Coverage
from rl_robot.calibration.strays import count_strays, without_strays
from rl_robot.calibration.views import Lens, View, board_pose, groups_of, jackknife_covariance
from rl_robot.errors import UserError

Array = NDArray[np.float64]

LEAST_VIEWS = 6
OUTLIER = 3.0  # times the median picture's error
OUTLIER_FLOOR = 0.3  # px
LEAST_TILT = math.radians(10.0)  # of the board to the picture, in the most tilted picture
UNCERTAIN = 0.005  # of a focal length, one sigma
_ROUNDS = 5
_LENS_VALUES = 9  # fx, fy, cx, cy, k1, k2, p1, p2, k3


@dataclass(frozen=True)
class Intrinsics:
    """A lens, and how far to believe it.

    Attributes:
        lens: the intrinsics.
        covariance: (9, 9) of ``lens.values``, by linearization, as large as the jackknife over
            groups of pictures says.
        sigma: (9,) standard deviations: the larger of the two.
        errors: each picture's reprojection error by its name, px RMS, also of those left out.
        left_out: the pictures that contradict the others.
        strays: corners that contradict the others of their picture, and were left out.
        rms, held_out: px RMS of the pictures used; of pictures that the lens was not made from,
            whose board poses were.
        coverage: what the pictures show.
        advice: what would make it better.
    """

    lens: Lens
    covariance: Array
    sigma: Array
    errors: dict[str, float]
    left_out: tuple[str, ...]
    strays: int
    rms: float
    held_out: float
    coverage: Coverage
    advice: tuple[str, ...]


def calibrate_intrinsics(
    board: Board, views: Sequence[View], size: tuple[int, int], *, third_radial: bool = False
) -> Intrinsics:
    """Find focal lengths, principal point and distortion.

    Zhang, "A flexible new technique for camera calibration", IEEE TPAMI, 2000, by OpenCV: the
    board's pose in each picture and the lens together, by least squares over the corners.

    Args:
        board: the board; its size does not matter here.
        views: pictures that show it.
        size: width and height of the pictures, px.
        third_radial: also k3, for lenses of short focal length; else it is 0.

    Raises:
        UserError: too few pictures, or all from straight ahead.
    """
    coverage = Coverage.of(board, views, size)
    if len(views) < LEAST_VIEWS:
        raise UserError(
            f"{len(views)} pictures with the board: at least {LEAST_VIEWS} are needed, 15 to 30 "
            "are good"
        )
    given = views
    views, used = list(given), list(range(len(given)))
    for _ in range(_ROUNDS):
        lens, sigma = fit_lens(board, [views[i] for i in used], size, third_radial)
        cleaned = without_strays(board, views, lens)
        errors = np.array([board_pose(board, view.corners, lens)[1] for view in cleaned])
        limit = max(OUTLIER * float(np.median(errors)), OUTLIER_FLOOR)
        kept = [i for i, error in enumerate(errors) if error <= limit]
        same = all(new is old for new, old in zip(cleaned, views, strict=True))
        views = cleaned
        if (same and kept == used) or len(kept) < LEAST_VIEWS:
            break
        used = kept
    kept_views = [views[i] for i in used]
    _check_tilt(board, kept_views, lens)
    rms = math.sqrt(float(np.mean(errors[used] ** 2)))
    scattered, held_out = _jackknife(board, kept_views, size, third_radial)
    covariance = _covariance(board, kept_views, lens, sigma > 0.0, rms)
    # Ten groups say how large the errors are, but not how those of eight values go together.
    free = np.diag(covariance) > 0.0
    covariance *= max(1.0, float(np.mean(scattered[free] / np.diag(covariance)[free])))
    sigma = np.sqrt(np.maximum(np.diag(covariance), scattered))
    return Intrinsics(
        lens=lens,
        covariance=covariance,
        sigma=sigma,
        errors={view.name: float(error) for view, error in zip(views, errors, strict=True)},
        left_out=tuple(view.name for i, view in enumerate(views) if i not in used),
        strays=count_strays(given, views),
        rms=rms,
        held_out=held_out,
        coverage=coverage,
        advice=tuple(_advice(lens, sigma, coverage)),
    )


def fit_lens(
    board: Board, views: Sequence[View], size: tuple[int, int], third_radial: bool
) -> tuple[Lens, Array]:
    """Return the lens of all these pictures, and standard deviations (9,) by linearization.

    Raises:
        UserError: there is none.
    """
    points = [board.corners[view.corners.ids].astype(np.float32) for view in views]
    pixels = [view.corners.pixels.astype(np.float32)[:, None] for view in views]
    flags = 0 if third_radial else cv2.CALIB_FIX_K3
    try:
        found = cv2.calibrateCameraExtended(
            points, pixels, size, np.eye(3), np.zeros(5), flags=flags
        )
    except cv2.error as error:
        raise UserError(
            f"no lens explains these pictures ({' '.join(str(error).split())}): take some with the "
            "board tilted"
        ) from None
    _, matrix, distortion, _, _, sigma, *_ = found
    values = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *distortion.reshape(-1)[:5]]
    if not np.isfinite(values).all() or min(values[:2]) <= 0:
        raise UserError("no lens explains these pictures: take some with the board tilted")
    lens = Lens(*size, tuple(float(value) for value in values))
    return lens, np.asarray(sigma, np.float64).reshape(-1)[:_LENS_VALUES]


def _jackknife(
    board: Board, views: Sequence[View], size: tuple[int, int], third_radial: bool
) -> tuple[Array, float]:
    """Return variances (9,) and the held-out error, px RMS, by leaving out groups."""
    values, squares = [], []
    for group in groups_of(len(views)):
        rest = [view for i, view in enumerate(views) if i not in group]
        lens, _ = fit_lens(board, rest, size, third_radial)
        values.append(lens.values)
        squares += [board_pose(board, views[i].corners, lens)[1] ** 2 for i in group]
    variances = np.diag(jackknife_covariance(np.array(values)))
    return variances, math.sqrt(float(np.mean(squares)))


def _covariance(
    board: Board, views: Sequence[View], lens: Lens, free: NDArray[np.bool_], rms: float
) -> Array:
    """Return the covariance (9, 9) of the lens' values, whatever the board's poses are.

    By linearization: what each picture says of the lens is what its own pose can't explain (the
    Schur complement of the poses in the normal equations).
    """
    information = np.zeros((_LENS_VALUES, _LENS_VALUES))
    corners = 0
    for view in views:
        pose, _ = board_pose(board, view.corners, lens)
        turn = Rotation.from_matrix(pose[:3, :3]).as_rotvec()
        points = board.corners[view.corners.ids]
        _, slopes = cv2.projectPoints(points, turn, pose[:3, 3], lens.matrix, lens.distortion)
        by_pose, by_lens = slopes[:, :6], slopes[:, 6 : 6 + _LENS_VALUES]
        unexplained = by_lens - by_pose @ np.linalg.lstsq(by_pose, by_lens, rcond=None)[0]
        information += by_lens.T @ unexplained
        corners += len(points)
    unknowns = int(free.sum()) + 6 * len(views)
    variance = rms**2 * corners / max(1, 2 * corners - unknowns)
    covariance = np.zeros_like(information)
    scale = np.sqrt(np.maximum(np.diag(information)[free], 1e-12))
    inner = np.linalg.pinv(information[np.ix_(free, free)] / np.outer(scale, scale))
    covariance[np.ix_(free, free)] = variance * inner / np.outer(scale, scale)
    return covariance


def _check_tilt(board: Board, views: Sequence[View], lens: Lens) -> None:
    """Refuse pictures from straight ahead: there, focal length and distance can't be told apart."""
    poses = [board_pose(board, view.corners, lens)[0] for view in views]
    tilts = [math.acos(min(1.0, abs(pose[2, 2]))) for pose in poses]
    if max(tilts) < LEAST_TILT:
        raise UserError(
            f"the board is never tilted by more than {math.degrees(max(tilts)):.0f} degrees: that "
            "does not say what the focal length is. Tilt it by 20 to 40 degrees in some pictures, "
            "each way"
        )


def _advice(lens: Lens, sigma: Array, coverage: Coverage) -> list[str]:
    found = coverage.missing()
    uncertain = max(sigma[0] / lens.values[0], sigma[1] / lens.values[1])
    if uncertain > UNCERTAIN:
        found.append(
            f"the focal length is uncertain by {100 * uncertain:.1f} % (1 sigma): take more "
            "pictures, tilted and near enough to fill half of the picture"
        )
    return found
