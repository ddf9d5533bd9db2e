"""Hand-eye calibration in closed form, and whether the robot's motion determines it at all."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.calibration.views import transform
from rl_robot.errors import UserError

Array = NDArray[np.float64]

LEAST_POSES = 6
LEAST_TURN = math.radians(4.0)  # RMS about the second axis; below, errors grow beyond use
GOOD_TURN = math.radians(10.0)


class HandEye(NamedTuple):
    """Transforms (4, 4) that make A X = Z B hold for all poses, and the scale of B's lengths."""

    x: Array
    z: Array
    scale: float


def solve_closed_form(a: Array, b: Array) -> HandEye:
    """Solve A_i X = Z B_i for X and Z by linear algebra.

    Shah, "Solving the robot-world/hand-eye calibration problem using the Kronecker product",
    Journal of Mechanisms and Robotics, 2013: rotations by the singular vectors of a 9 x 9 matrix,
    then translations by linear least squares. Here the scale of B's translations is one more
    unknown of the latter, for a board whose size is not what it is said to be.

    Args:
        a: (n, 4, 4) poses by the robot.
        b: (n, 4, 4) poses by the camera.
    """
    turns_a, turns_b = a[:, :3, :3], b[:, :3, :3]
    # R_a R_x = R_z R_b, so vec(R_z) = (R_b kron R_a) vec(R_x), columns stacked.
    left, _, right = np.linalg.svd(
        sum(np.kron(rb, ra) for ra, rb in zip(turns_a, turns_b, strict=True))
    )
    turn_x = _nearest_rotation(right[0].reshape(3, 3, order="F"))
    turn_z = _nearest_rotation(left[:, 0].reshape(3, 3, order="F"))
    count = len(a)
    # R_a t_x - t_z - s R_z t_b = -t_a
    rows = np.zeros((count, 3, 7))
    rows[:, :, :3] = turns_a
    rows[:, :, 3:6] = -np.eye(3)
    rows[:, :, 6] = -b[:, :3, 3] @ turn_z.T
    solved, *_ = np.linalg.lstsq(rows.reshape(-1, 7), -a[:, :3, 3].reshape(-1), rcond=None)
    shifts = np.asarray(solved, np.float64)
    x, z = transform(turn_x, shifts[:3]), transform(turn_z, shifts[3:6])
    return HandEye(x, z, float(shifts[6]))


def check_motion(hands: Array) -> list[str]:
    """Check that the hand's turns determine a hand-eye calibration.

    Tsai and Lenz, "A new technique for fully autonomous and efficient 3D robotics hand/eye
    calibration", IEEE Transactions on Robotics and Automation, 1989: two turns about axes that are
    not parallel are needed, and the error falls with their angle.

    Args:
        hands: (n, 4, 4) poses of the hand in the base frame.

    Returns:
        Advice, where the motion is poor but enough.

    Raises:
        UserError: too few poses, or turns about one axis only.
    """
    if len(hands) < LEAST_POSES:
        raise UserError(
            f"{len(hands)} pictures with the board and the robot at rest: at least {LEAST_POSES} "
            "are needed, 15 to 30 are good"
        )
    spread, axis = turn_spread(hands)
    x, y, z = axis
    told = (
        f"about the axis ({x:.2f}, {y:.2f}, {z:.2f}) of the base frame, and only "
        f"{math.degrees(spread):.1f} degrees (RMS) about any other"
    )
    if spread < LEAST_TURN:
        raise UserError(
            f"the hand turns {told}: that does not say where the camera is. Tilt the hand about "
            "other axes as well, by 20 degrees or more each way"
        )
    if spread < GOOD_TURN:
        return [f"the hand turns mostly {told}: tilt it further about others"]
    return []


def turn_spread(hands: Array) -> tuple[float, Array]:
    """Return how far hands (n, 4, 4) turn about their second axis, and their first axis.

    Returns:
        RMS angle in rad about the second of the principal axes of all turns from the mean
        orientation, and the first axis (3,) in the base frame.
    """
    turns = Rotation.from_matrix(hands[:, :3, :3])
    vectors = (turns * turns.mean().inv()).as_rotvec()
    _, sizes, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=True)
    sizes = np.append(sizes, np.zeros(3))  # fewer than three poses have fewer axes
    return float(sizes[1] / math.sqrt(len(hands))), axes[0]


def _nearest_rotation(matrix: Array) -> Array:
    """Return the rotation nearest to a matrix (3, 3) that is known up to a factor."""
    u, _, v = np.linalg.svd(matrix * np.sign(np.linalg.det(matrix)))
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v)
