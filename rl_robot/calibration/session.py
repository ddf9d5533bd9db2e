"""A calibration from gathered pictures to what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_robot.calibration.board import Board
from rl_robot.calibration.coverage import Coverage
from rl_robot.calibration.entry import Values, camera_values
from rl_robot.calibration.extrinsics import Extrinsics, LensGuess, Mount, calibrate_extrinsics
from rl_robot.calibration.gathering import Gathered
from rl_robot.calibration.intrinsics import Intrinsics, calibrate_intrinsics, fit_lens
from rl_robot.calibration.views import Lens
from rl_robot.errors import UserError
from rl_robot.robots.description import Camera

Array = NDArray[np.float64]

KINDS = ("intrinsics", "extrinsics", "all")


@dataclass(frozen=True)
class Calibration:
    """What came out, and of what.

    Attributes:
        board: the board as it is said to be.
        gathered: the pictures.
        lens: the intrinsics, calibrated or the YAML's.
        intrinsics, extrinsics: what was calibrated; None for what was not.
        coverage: what the pictures show.
    """

    board: Board
    gathered: Gathered
    lens: Lens
    intrinsics: Intrinsics | None
    extrinsics: Extrinsics | None
    coverage: Coverage

    @property
    def advice(self) -> list[str]:
        """What would make it better."""
        parts = (self.intrinsics, self.extrinsics)
        return [text for part in parts if part is not None for text in part.advice]

    @property
    def left_out(self) -> list[str]:
        """The pictures that contradict the others."""
        parts = (self.intrinsics, self.extrinsics)
        names = [name for part in parts if part is not None for name in part.left_out]
        return sorted(set(names))

    @property
    def values(self) -> Values:
        """What was calibrated, by the keys of a robot's YAML, which knows cameras on the base."""
        on_base = self.extrinsics is not None and self.extrinsics.mount == "base"
        return camera_values(
            self.lens if self.intrinsics else None,
            self.extrinsics.camera if self.extrinsics and on_base else None,
        )


def calibrate(
    kind: str,
    board: Board,
    gathered: Gathered,
    camera: Camera | None,
    *,
    mount: Mount = "base",
    third_radial: bool = False,
) -> Calibration:
    """Calibrate from pictures.

    Args:
        kind: one of `KINDS`.
        board: the board as it is said to be.
        gathered: the pictures.
        camera: as the robot's YAML has it; its intrinsics are used for "extrinsics".
        mount: what the camera is fixed to.
        third_radial: whether k3 is calibrated too.

    Raises:
        UserError: the pictures are too few, contradict each other, or don't determine the result.
    """
    if not gathered.views:
        raise UserError(f"no picture shows the board ({board}): {_refused(gathered)}")
    intrinsics = None
    views = gathered.views
    if kind == "extrinsics":
        lens = _given_lens(camera, gathered.size)
    else:
        intrinsics = calibrate_intrinsics(board, views, gathered.size, third_radial=third_radial)
        lens = intrinsics.lens
        # Corners that no lens explains say nothing of the robot either.
        views = [view for view in views if view.name not in intrinsics.left_out]
    extrinsics = None
    if kind != "intrinsics":
        guess = None
        if intrinsics is not None:
            guess = lens_guess(board, intrinsics, third_radial=third_radial)
        extrinsics = calibrate_extrinsics(board, views, lens, mount=mount, guess=guess)
        lens = extrinsics.lens
    coverage = Coverage.of(board, gathered.views, gathered.size, lens)
    return Calibration(board, gathered, lens, intrinsics, extrinsics, coverage)


def lens_guess(board: Board, found: Intrinsics, *, third_radial: bool = False) -> LensGuess:
    """Return intrinsics as something that extrinsics may refine."""
    size = (found.lens.width, found.lens.height)
    return LensGuess(lambda views: fit_lens(board, views, size, third_radial)[0], found.covariance)


def _given_lens(camera: Camera | None, size: tuple[int, int]) -> Lens:
    if camera is None:
        raise UserError("extrinsics need the camera's intrinsics: say --robot")
    if size != (camera.width, camera.height):
        raise UserError(
            f"the pictures are of {size[0]}x{size[1]} pixels, the intrinsics of camera "
            f"{camera.name} are for {camera.width}x{camera.height}: calibrate all"
        )
    if not camera.calibrated:
        raise UserError(
            f"the intrinsics of camera {camera.name} were not measured (calibrated: false): "
            "calibrate all"
        )
    return Lens.of(camera)


def _refused(gathered: Gathered) -> str:
    parts = [f"{count} {reason}" for reason, count in gathered.refused.most_common()]
    return ", ".join(parts) or "there are no pictures"
