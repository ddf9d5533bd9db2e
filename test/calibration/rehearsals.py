"""Pictures of a board in a simulated robot's hand, whose truth is known."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from known_views import BOARD, LENS
from numpy.typing import NDArray

from rl_robot.calibration.rehearsal import Rehearsal
from rl_robot.robots.description import Camera, load_robot
from rl_robot.simulation.world import load_scene

POSES = 20


@dataclass(frozen=True)
class Rehearsed:
    """A camera, the arm's joints in each pose, and the pictures; ``rehearsal`` draws no more."""

    camera: Camera
    rehearsal: Rehearsal
    joints: list[NDArray[np.float64]]
    pictures: list[NDArray[np.uint8]]


@cache
def rehearse() -> Rehearsed:
    """The built-in robot before a camera whose lens is that of `LENS`; drawn once."""
    robot = load_robot("arm")
    camera = LENS.on(robot.cameras[0])
    rehearsal = Rehearsal(robot, load_scene("table"), BOARD, camera, seed=3)
    joints = rehearsal.poses(POSES)
    pictures = [rehearsal.picture(q) for q in joints]
    rehearsal.close()
    return Rehearsed(camera, rehearsal, joints, pictures)
