"""The whole way in rendered pictures: lens, noise, detection, calibration, against the truth."""

from collections import Counter

import numpy as np
import pytest
from known_views import BOARD, LENS, SIZE, difference
from rehearsals import Rehearsed

from rl_robot.calibration.gathering import Gathered
from rl_robot.calibration.session import Calibration, calibrate
from rl_robot.calibration.views import Lens, View, inverse, moved


@pytest.fixture(scope="module")
def gathered(rehearsed: Rehearsed) -> Gathered:
    views = []
    for i, (joints, picture) in enumerate(zip(rehearsed.joints, rehearsed.pictures, strict=True)):
        corners = BOARD.find(picture)
        assert corners is not None
        views.append(View(f"{i}.png", corners, rehearsed.rehearsal.hand(joints)))
    return Gathered(views, SIZE, Counter(), [])


def test_the_board_is_seen_where_the_truth_puts_it(
    rehearsed: Rehearsed, gathered: Gathered
) -> None:
    """Which ties the renderer, the lens and the pixel convention to what calibration takes."""
    offsets = []
    for view in gathered.views:
        pose = inverse(rehearsed.camera.pose) @ view.hand @ rehearsed.rehearsal.held
        expected = LENS.project(moved(pose, BOARD.corners[view.corners.ids]))
        offsets.append(view.corners.pixels - expected)
    everything = np.concatenate(offsets)
    assert np.abs(everything.mean(axis=0)).max() < 0.03
    assert np.sqrt(np.mean(everything**2)) < 0.15


def test_all_comes_out_within_a_millimetre_a_tenth_degree_and_three_per_mille(
    rehearsed: Rehearsed, gathered: Gathered
) -> None:
    found = calibrate("all", BOARD, gathered, None)
    assert found.extrinsics is not None
    np.testing.assert_allclose(found.lens.values[:2], LENS.values[:2], rtol=0.003)
    millimetres, degrees = difference(found.extrinsics.camera, rehearsed.camera.pose)
    assert millimetres < 1.0
    assert degrees < 0.1
    assert difference(found.extrinsics.board, rehearsed.rehearsal.held)[0] < 0.2
    assert found.left_out == []
    assert found.advice == []


def test_extrinsics_with_the_known_lens_are_closer_still(
    rehearsed: Rehearsed, gathered: Gathered
) -> None:
    found: Calibration = calibrate("extrinsics", BOARD, gathered, rehearsed.camera)
    assert found.extrinsics is not None
    assert found.lens == LENS == Lens.of(rehearsed.camera)
    millimetres, degrees = difference(found.extrinsics.camera, rehearsed.camera.pose)
    assert millimetres < 0.2
    assert degrees < 0.02
    assert set(found.values) == {"position", "quaternion"}
