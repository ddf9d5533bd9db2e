"""Where the camera is on the robot: hand-eye calibration refined over all pictures' corners."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rl_robot.calibration.board import Board
from rl_robot.calibration.bundle import POSES, Bundle, Prior, Solution
from rl_robot.calibration.hand_eye import check_motion, solve_closed_form
from rl_robot.calibration.strays import count_strays, without_strays
from rl_robot.calibration.views import (
    Lens,
    View,
    board_pose,
    groups_of,
    inverse,
    jackknife_covariance,
)
from rl_robot.errors import UserError

Array = NDArray[np.float64]
Mount = Literal["base", "hand"]

OUTLIER = 3.0  # times the median picture's error: 1 in 500 of normally scattered pictures
OUTLIER_FLOOR = 0.2  # px that are no outlier, however well the others fit
MOST_OUTLIERS = 1.0 / 3.0  # of the pictures, or robot and camera contradict each other
SCALE_TOLERANCE = 0.01  # a board printed "fit to page" is 3 % off or more
SCALE_SIGMAS = 5.0
POOR_AGREEMENT = 0.002  # m between robot and camera, at the board
WRONG_AGREEMENT = 0.01
_ROUNDS = 6
_LENS_ROUNDS = 4
_LEAST_SPREAD = 1e-3  # px, of corners without any noise


class LensGuess(NamedTuple):
    """Intrinsics that are uncertain: what they are made from, and how far to believe them.

    ``fit`` makes a lens of pictures; ``covariance`` (9, 9) is that of its values.
    """

    fit: Callable[[Sequence[View]], Lens]
    covariance: Array


@dataclass(frozen=True)
class Extrinsics:
    """Where the camera and the board are, and how far to believe it.

    Attributes:
        mount: what the camera is fixed to, "base" or "hand".
        camera: (4, 4) pose of the optical frame in the frame of what it is fixed to.
        board: (4, 4) pose of the board in the other one's frame: the hand's or the base's.
        lens: the intrinsics, refined if they were uncertain.
        camera_sigma, board_sigma: (6,) standard deviations: position in m, in the frame that the
            pose is given in, then turns in rad about the optical or the board's own axes.
        lens_sigma: (9,) of ``lens.values``; zeros where the lens was given.
        errors: each picture's reprojection error by its name, px RMS, also of those left out.
        left_out: the pictures that contradict the others.
        strays: corners that contradict the others of their picture, and were left out.
        rms, held_out: px RMS of the pictures used; each in turn, left out of the fit.
        distance: from the camera to the board, mean, m.
        pixel: what a pixel is worth at the board, m.
        scale, scale_sigma: size of the board by the robot's motion, relative to what was said.
        advice: what would make it better.
    """

    mount: Mount
    camera: Array
    board: Array
    lens: Lens
    camera_sigma: Array
    board_sigma: Array
    lens_sigma: Array
    errors: dict[str, float]
    left_out: tuple[str, ...]
    strays: int
    rms: float
    held_out: float
    distance: float
    pixel: float
    scale: float
    scale_sigma: float
    advice: tuple[str, ...]


def calibrate_extrinsics(
    board: Board,
    views: Sequence[View],
    lens: Lens,
    *,
    mount: Mount = "base",
    guess: LensGuess | None = None,
) -> Extrinsics:
    """Find the camera's pose from pictures of a board.

    With the camera fixed to the base the board is on the hand, and the other way round. The start
    is Shah's closed form (`hand_eye`); from there camera and board are refined together by least
    squares over the reprojection errors of all corners, with a robust loss. An uncertain lens is
    refined with them, as far as the robot's poses say more of it than the pictures alone.
    Standard deviations are the larger of two: by linearization, and by the jackknife over groups
    of pictures.

    Args:
        board: the board as it is said to be.
        views: pictures with the hand's pose.
        lens: the camera's intrinsics.
        mount: what the camera is fixed to.
        guess: where the lens is from, if it is uncertain.

    Raises:
        UserError: too few pictures, motion that does not determine the pose, squares of another
            size than said, or a robot that contradicts its pictures.
    """
    check_motion(_hands(views))
    given = views
    views = without_strays(board, given, lens)
    bundle = _bundle(board, views, mount)
    seen = [board_pose(board, view.corners, lens)[0] for view in views]
    start = solve_closed_form(bundle.arms, np.array(seen))
    free = Solution(start.z, start.x, start.scale, lens)
    free, used = _without_outliers(bundle, free, scaled=True)
    _check_outliers(views, used)
    advice = check_motion(_hands([views[int(i)] for i in used]))
    sigma = _scale_sigma(bundle, free, used)
    _check_scale(board, free.scale, sigma)
    solution, used = _without_outliers(bundle, replace(free, scale=1.0), scaled=False)
    _check_outliers(views, used)
    prior = None
    if guess is not None:
        solution, prior = _with_lens(bundle, solution, used, guess)
    distance = float(np.mean([bundle.distance(solution, int(i)) for i in used]))
    pixel = 2.0 * distance / (lens.values[0] + lens.values[1])
    errors = bundle.errors(solution)
    rms = math.sqrt(float(np.mean(errors[used] ** 2)))
    _check_agreement(rms * pixel, advice)
    of_step, of_lens = bundle.variances(solution, used, prior)
    scattered, held_out = _jackknife(bundle, solution, used, views, prior, guess)
    sigmas = np.sqrt(np.maximum(np.concatenate([of_step, of_lens]), scattered))
    return Extrinsics(
        mount=mount,
        camera=solution.z,
        board=solution.x,
        lens=solution.lens,
        camera_sigma=sigmas[: POSES // 2],
        board_sigma=sigmas[POSES // 2 : POSES],
        lens_sigma=sigmas[POSES:],
        errors={view.name: float(error) for view, error in zip(views, errors, strict=True)},
        left_out=tuple(view.name for i, view in enumerate(views) if i not in used),
        strays=count_strays(given, views),
        rms=rms,
        held_out=held_out,
        distance=distance,
        pixel=pixel,
        scale=free.scale,
        scale_sigma=sigma,
        advice=tuple(advice),
    )


def _with_lens(
    bundle: Bundle, solution: Solution, used: NDArray[np.int64], guess: LensGuess
) -> tuple[Solution, Prior]:
    """Refine the lens with the poses, and return also what was known of it before.

    How much the corners count against that follows from how they err: what looks like the robot's
    error at first is the lens' in part, so it is looked at again.
    """
    prior = Prior(np.array(solution.lens.values), Prior.directions_of(guess.covariance), math.inf)
    for _ in range(_LENS_ROUNDS):
        spread, effect = bundle.together(solution, used)
        prior = replace(prior, pixel=max(spread * math.sqrt(effect), _LEAST_SPREAD))
        solution = bundle.fit(solution, used, prior=prior).solution
    return solution, prior


def _hands(views: Sequence[View]) -> Array:
    missing = [view.name for view in views if view.hand is None]
    if missing:
        raise UserError(f"{missing[0]}: where the robot was is not known: give joint states")
    return np.array([view.hand for view in views]).reshape(-1, 4, 4)


def _bundle(board: Board, views: Sequence[View], mount: Mount) -> Bundle:
    hands = _hands(views)
    arms = hands if mount == "base" else inverse(hands)
    return Bundle(board.corners, [view.corners for view in views], arms)


def _without_outliers(
    bundle: Bundle, start: Solution, *, scaled: bool
) -> tuple[Solution, NDArray[np.int64]]:
    """Fit, leave out the pictures that fit badly, and again until none more does."""
    used = np.arange(bundle.count)
    solution = start
    width = 1.0
    for _ in range(_ROUNDS):
        solution = bundle.fit(solution, used, width=width, scaled=scaled).solution
        errors = bundle.errors(solution)
        # By the median of all, so that leaving out does not make the next ones look bad.
        limit = max(OUTLIER * float(np.median(errors)), OUTLIER_FLOOR)
        width = limit
        kept = np.flatnonzero(errors <= limit)
        if np.array_equal(kept, used):
            break
        used = kept
    return solution, used


def _check_outliers(views: Sequence[View], used: NDArray[np.int64]) -> None:
    left_out = [view.name for i, view in enumerate(views) if i not in used]
    if len(left_out) > MOST_OUTLIERS * len(views):
        raise UserError(
            f"{len(left_out)} of {len(views)} pictures contradict the others "
            f"({_some(left_out)}): is it this robot, did the board slip or the camera move, do the "
            "stamps of pictures and joint states agree?"
        )


def _check_scale(board: Board, scale: float, sigma: float) -> None:
    off = abs(scale - 1.0)
    if off > SCALE_TOLERANCE and off > SCALE_SIGMAS * sigma:
        size, said = 1e3 * board.square * scale, 1e3 * board.square
        raise UserError(
            f"by the robot's motion the board's squares are {size:.2f} mm (1 sigma "
            f"{1e3 * board.square * sigma:.3f}), not {said:g}: measure them and say --square "
            f"{size:.1f}, with --marker {1e3 * board.marker * scale:.1f}, or correct fx and fy"
        )


def _check_agreement(metres: float, advice: list[str]) -> None:
    told = f"robot and camera agree only to {1e3 * metres:.1f} mm (RMS at the board)"
    if metres > WRONG_AGREEMENT:
        raise UserError(
            f"{told}: is it this robot, did the board slip, do the stamps of pictures and joint "
            "states agree?"
        )
    if metres > POOR_AGREEMENT:
        advice.append(f"{told}: fix the board better, and let the robot rest longer")


def _scale_sigma(bundle: Bundle, solution: Solution, used: NDArray[np.int64]) -> float:
    values = [
        bundle.fit(solution, np.delete(used, group), scaled=True).solution.scale
        for group in groups_of(len(used))
    ]
    return math.sqrt(float(jackknife_covariance(np.array(values)[:, None])[0, 0]))


def _jackknife(
    bundle: Bundle,
    solution: Solution,
    used: NDArray[np.int64],
    views: Sequence[View],
    prior: Prior | None,
    guess: LensGuess | None,
) -> tuple[Array, float]:
    """Return variances (12 + 9,) and the held-out error, px RMS, by leaving out groups.

    A lens that is made from pictures is made anew without them.
    """
    found, squares = [], []
    for group in groups_of(len(used)):
        rest = np.delete(used, group)
        if prior is not None and guess is not None:
            centre = np.array(guess.fit([views[int(i)] for i in rest]).values)
            prior = replace(prior, centre=centre)
        fitted = bundle.fit(solution, rest, prior=prior)
        found.append(np.concatenate([fitted.step, fitted.solution.lens.values]))
        squares.append(bundle.errors(fitted.solution)[used[group]] ** 2)
    variance = np.diag(jackknife_covariance(np.array(found)))
    return variance, math.sqrt(float(np.mean(np.concatenate(squares))))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown}, ..."
