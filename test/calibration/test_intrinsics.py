"""The lens: found from views whose truth is known, or refused with the reason."""

import dataclasses

import numpy as np
import pytest
from known_views import BOARD, LENS, SIZE, make

from rl_robot.calibration.board import Corners
from rl_robot.calibration.intrinsics import calibrate_intrinsics
from rl_robot.errors import UserError


@pytest.mark.parametrize("seed", range(3))
def test_the_focal_length_is_found_within_three_per_mille(seed: int) -> None:
    found = calibrate_intrinsics(BOARD, make(30, seed).views, SIZE)
    np.testing.assert_allclose(found.lens.values[:2], LENS.values[:2], rtol=0.003)
    np.testing.assert_allclose(found.lens.values[2:4], LENS.values[2:4], atol=3.0)
    assert found.lens.values[8] == 0.0
    assert found.rms == pytest.approx(0.14, abs=0.02)  # 0.1 px in each direction
    assert found.held_out >= found.rms
    off = np.abs(np.array(found.lens.values) - LENS.values)
    assert (off[:8] < 4.0 * found.sigma[:8]).all()


def test_exact_corners_give_the_lens_and_the_third_radial_coefficient() -> None:
    views = make(20, 0, noise=0.0).views
    found = calibrate_intrinsics(BOARD, views, SIZE, third_radial=True)
    np.testing.assert_allclose(found.lens.values[:4], LENS.values[:4], rtol=1e-4)
    np.testing.assert_allclose(found.lens.values[4:], LENS.values[4:], atol=0.01)


def test_a_picture_that_no_lens_explains_is_left_out_and_named() -> None:
    views = make(15, 1).views
    bent = views[4].corners.pixels.copy()
    bent[::2] += 4.0  # as by a board that is bent
    views[4] = dataclasses.replace(views[4], corners=Corners(views[4].corners.ids, bent))
    found = calibrate_intrinsics(BOARD, views, SIZE)
    assert found.left_out == ("4.png",)
    np.testing.assert_allclose(found.lens.values[:2], LENS.values[:2], rtol=0.01)


def test_a_board_that_is_never_tilted_is_refused() -> None:
    with pytest.raises(UserError, match="Tilt it by 20 to 40 degrees"):
        calibrate_intrinsics(BOARD, make(20, 0, tilt=2.0).views, SIZE)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(UserError, match=r"5 pictures .* at least 6 are needed"):
        calibrate_intrinsics(BOARD, make(5, 0).views, SIZE)


def test_what_would_make_it_better_is_said() -> None:
    found = calibrate_intrinsics(BOARD, make(8, 2).views, SIZE)
    assert "12 more pictures" in found.advice
