"""Where the camera is: found from views whose truth is known, or refused with the reason."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_views import BOARD, LENS, SIZE, difference, make
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Board, Corners
from rl_robot.calibration.extrinsics import calibrate_extrinsics
from rl_robot.calibration.intrinsics import calibrate_intrinsics
from rl_robot.calibration.session import lens_guess
from rl_robot.calibration.views import View, transform
from rl_robot.errors import UserError


@settings(max_examples=3)
@given(seed=st.integers(0, 2**31), mount=st.sampled_from(["base", "hand"]))
def test_exact_corners_give_the_truth_for_any_hand_eye(seed: int, mount: str) -> None:
    made = make(10, seed, noise=0.0, mount=mount)
    found = calibrate_extrinsics(BOARD, made.views, LENS, mount=mount)
    assert difference(found.camera, made.camera) < (1e-3, 1e-3)
    assert difference(found.board, made.board) < (1e-3, 1e-3)
    assert found.scale == pytest.approx(1.0, abs=1e-4)
    assert found.left_out == ()


@pytest.mark.parametrize("mount", ["base", "hand"])
@pytest.mark.parametrize("count", [10, 20])
def test_noisy_corners_give_it_within_a_millimetre_and_a_tenth_of_a_degree(
    count: int, mount: str
) -> None:
    made = make(count, 1, noise=0.3, mount=mount)
    found = calibrate_extrinsics(BOARD, made.views, LENS, mount=mount)
    millimetres, degrees = difference(found.camera, made.camera)
    assert millimetres < 1.0
    assert degrees < 0.1
    assert 0.3 < found.rms < 0.5
    assert found.rms <= found.held_out < 1.5 * found.rms


@pytest.mark.parametrize("hand_noise", [0.0, 0.0005])
def test_standard_deviations_are_of_the_errors_size(hand_noise: float) -> None:
    """Also where the robot errs, which moves all corners of a picture together."""
    ratios = []
    for seed in range(4):
        made = make(12, seed, hand_noise=hand_noise)
        found = calibrate_extrinsics(BOARD, made.views, LENS)
        shift = found.camera[:3, 3] - made.camera[:3, 3]
        turn = Rotation.from_matrix(made.camera[:3, :3].T @ found.camera[:3, :3]).as_rotvec()
        ratios.append(np.concatenate([shift, turn]) / found.camera_sigma)
    assert 0.4 < np.sqrt(np.mean(np.square(ratios))) < 1.8


def test_an_uncertain_lens_is_refined_by_an_exact_robot() -> None:
    made = make(15, 5)
    alone = calibrate_intrinsics(BOARD, made.views, SIZE)
    found = calibrate_extrinsics(BOARD, made.views, alone.lens, guess=lens_guess(BOARD, alone))
    before = difference(calibrate_extrinsics(BOARD, made.views, alone.lens).camera, made.camera)
    assert difference(found.camera, made.camera)[0] < before[0]
    truth = np.array(LENS.values)
    errors = np.abs(np.array(found.lens.values) - truth)[:4]
    assert (errors < np.abs(np.array(alone.lens.values) - truth)[:4]).sum() >= 3
    assert (found.lens_sigma[:8] > 0.0).all()
    assert found.lens_sigma[8] == 0.0  # k3 was not free


def test_a_poor_robot_does_not_spoil_the_lens() -> None:
    made = make(20, 6, hand_noise=0.002)
    alone = calibrate_intrinsics(BOARD, made.views, SIZE)
    found = calibrate_extrinsics(BOARD, made.views, alone.lens, guess=lens_guess(BOARD, alone))
    offsets = np.abs(np.array(found.lens.values) - alone.lens.values)[:4]
    assert (offsets < 2.0 * alone.sigma[:4]).all()


def displaced(view: View, degrees: float) -> View:
    """The view with a hand that is not where it was said to be."""
    turned = transform(Rotation.from_euler("x", degrees, degrees=True).as_matrix(), np.zeros(3))
    assert view.hand is not None
    return dataclasses.replace(view, hand=view.hand @ turned)


def test_pictures_that_contradict_the_others_are_left_out_and_named() -> None:
    made = make(15, 2)
    views = list(made.views)
    views[3] = displaced(views[3], 2.0)
    views[9] = View(
        views[9].name, Corners(views[9].corners.ids, views[9].corners.pixels + 15.0), views[9].hand
    )
    found = calibrate_extrinsics(BOARD, views, LENS)
    assert found.left_out == ("3.png", "9.png")
    assert found.errors["3.png"] > 3.0
    assert difference(found.camera, made.camera) < (0.2, 0.02)


def test_a_corner_that_contradicts_the_others_of_its_picture_costs_only_itself() -> None:
    """As one found at the edge of a finger that hides the next."""
    made = make(12, 2)
    views = list(made.views)
    pixels = views[3].corners.pixels.copy()
    pixels[1] += (1.6, -0.8)
    views[3] = dataclasses.replace(views[3], corners=Corners(views[3].corners.ids, pixels))
    alone = calibrate_intrinsics(BOARD, views, SIZE)
    clean = calibrate_intrinsics(BOARD, made.views, SIZE)
    assert alone.left_out == ()
    off = np.abs(np.array(alone.lens.values) - clean.lens.values)[:4]
    assert (off < 0.5 * clean.sigma[:4]).all()
    found = calibrate_extrinsics(BOARD, views, LENS)
    assert found.left_out == ()
    assert found.errors["3.png"] < 0.3
    assert alone.strays == found.strays == 1
    assert clean.strays == 0


def test_a_robot_that_contradicts_most_pictures_is_refused() -> None:
    made = make(15, 3)
    random = np.random.default_rng(0)
    views = [displaced(view, random.uniform(5, 90)) for view in made.views]
    with pytest.raises(UserError, match="is it this robot"):
        calibrate_extrinsics(BOARD, views, LENS)


@pytest.mark.parametrize("scale", [0.97, 1.05])
def test_squares_of_another_size_are_noticed_and_named(scale: float) -> None:
    made = make(15, 4, scale=scale)
    with pytest.raises(UserError, match=rf"squares are {36 * scale:.2f} mm .* not 36"):
        calibrate_extrinsics(BOARD, made.views, LENS)
    right = Board(square=0.036 * scale, marker=0.027 * scale)
    found = calibrate_extrinsics(right, made.views, LENS)
    assert difference(found.camera, made.camera) < (0.3, 0.02)


def test_too_few_pictures_and_pictures_without_a_robot_are_refused() -> None:
    made = make(5, 0)
    with pytest.raises(UserError, match="at least 6 are needed"):
        calibrate_extrinsics(BOARD, made.views, LENS)
    blind = [dataclasses.replace(made.views[0], hand=None), *made.views[1:]]
    with pytest.raises(UserError, match=r"0\.png: where the robot was is not known"):
        calibrate_extrinsics(BOARD, blind, LENS)
