"""Views whose truth is known: corners by exact projection, with noise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Board, Corners
from rl_robot.calibration.views import Lens, View, inverse, moved, transform

Array = NDArray[np.float64]

BOARD = Board()
SIZE = (640, 480)
LENS = Lens(*SIZE, (800.0, 805.0, 322.0, 238.0, -0.1, 0.05, 0.001, -0.0005, 0.0))
NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")


class Made(NamedTuple):
    """Views, and where camera and board are, as `Extrinsics` says it."""

    views: list[View]
    camera: Array
    board: Array


def make(
    count: int,
    seed: int,
    *,
    noise: float = 0.1,
    mount: str = "base",
    scale: float = 1.0,
    tilt: float = 35.0,
    hand_noise: float = 0.0,
) -> Made:
    """Return views of a board in random poses before the camera.

    ``scale`` is of the real board to `BOARD`, ``tilt`` its greatest, in degrees, and ``hand_noise``
    what the robot errs by, in m and rad.
    """
    random = np.random.default_rng(seed)
    camera, board = pose(random, 1.0), pose(random, 0.1)
    views: list[View] = []
    while len(views) < count:
        seen = _before_the_camera(random, scale, tilt)
        pixels = LENS.project(moved(seen, BOARD.corners * scale))
        inside = ((pixels > 0) & (pixels < np.array(SIZE) - 1)).all(axis=1)
        if inside.sum() < 8:
            continue
        arm = camera @ seen @ inverse(board)
        arm = arm @ pose(random, hand_noise, hand_noise) if hand_noise else arm
        noisy = pixels[inside] + random.normal(0.0, noise, (int(inside.sum()), 2))
        hand = arm if mount == "base" else inverse(arm)
        views.append(View(f"{len(views)}.png", Corners(np.flatnonzero(inside), noisy), hand))
    return Made(views, camera, board)


def pose(random: np.random.Generator, size: float, turn: float | None = None) -> Array:
    """Return a random transform: shifts of about ``size``, turned by about ``turn`` or anyhow."""
    if turn is None:
        quaternion = random.normal(size=4)
        rotation = Rotation.from_quat(quaternion / np.linalg.norm(quaternion))
    else:
        rotation = Rotation.from_rotvec(random.normal(0.0, turn, 3))
    return transform(rotation.as_matrix(), random.normal(0.0, size, 3))


def difference(found: Array, truth: Array) -> tuple[float, float]:
    """Return how far a pose is from another, in mm and degrees."""
    between = inverse(truth) @ found
    turn = Rotation.from_matrix(between[:3, :3]).magnitude()
    return 1e3 * float(np.linalg.norm(between[:3, 3])), float(np.degrees(turn))


def _before_the_camera(random: np.random.Generator, scale: float, tilt: float) -> Array:
    angles = [random.uniform(-180, 180), *random.uniform(-tilt, tilt, 2)]
    rotation = Rotation.from_euler("zxy", angles, degrees=True).as_matrix()
    distance = random.uniform(0.4, 0.7)
    pixel = random.uniform(0.2, 0.8, 2) * SIZE
    centre = np.linalg.inv(LENS.matrix) @ [*pixel, 1.0] * distance
    return transform(rotation, centre - rotation @ (BOARD.corners.mean(axis=0) * scale))
