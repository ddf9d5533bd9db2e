"""Drivers' set points, where objects may be put, and what lens and noise do, for any simulator."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.robots.description import load_robot
from rl_robot.simulation.drivers import Drivers
from rl_robot.simulation.imaging import Imaging
from rl_robot.simulation.placing import check_object, resting_pose, resting_poses
from rl_robot.simulation.world import load_scene

ROBOT, SCENE = load_robot("arm"), load_scene("table")
HOME = ROBOT.home_positions
ARM = HOME[:6]


@pytest.fixture
def drivers() -> Drivers:
    made = Drivers(ROBOT, physics_step=0.002)
    made.hold(0, HOME)
    return made


def nowhere() -> np.ndarray:
    raise AssertionError("nobody timed out")


def test_set_points_are_linear_and_then_hold(drivers: Drivers) -> None:
    drivers.command(0, "arm_controller", [0.1, 0.2], [ARM + 0.1, ARM + 0.4], nowhere)
    table = drivers.set_points(0, 25)
    assert table.shape == (26, 7)
    np.testing.assert_allclose(table[[0, 5, 10, 15, 20], 0], HOME[0] + [0, 0.05, 0.1, 0.25, 0.4])
    np.testing.assert_allclose(table[20:, :6], np.tile(ARM + 0.4, (6, 1)))
    np.testing.assert_allclose(table[:, 6], HOME[6])


def test_silence_stops_the_motion_and_the_next_command_goes_on_from_there(drivers: Drivers) -> None:
    drivers.command(0, "arm_controller", [1.0], [ARM + 1.0], nowhere)
    late = 400_000_000
    assert not drivers.timed_out(250_000_000, "arm_controller")
    assert drivers.timed_out(late, "arm_controller")
    np.testing.assert_allclose(drivers.set_points(late, 1)[0, :6], ARM + 0.25)
    measured = HOME + 0.2
    drivers.command(late, "arm_controller", [0.1], [ARM], lambda: measured)
    np.testing.assert_allclose(drivers.set_points(late, 1)[0, :6], ARM + 0.2)


@pytest.mark.parametrize(
    ("times", "positions"),
    [
        ([], np.empty((0, 6))),
        ([0.1], [ARM[:5]]),
        ([0.1, 0.1], [ARM, ARM]),
        ([-0.1], [ARM]),
        ([np.inf], [ARM]),
        ([0.1], [ARM * np.nan]),
    ],
)
def test_what_cannot_be_followed_is_refused(
    drivers: Drivers, times: list[float], positions: object
) -> None:
    with pytest.raises(ValueError, match="arm_controller"):
        drivers.command(0, "arm_controller", times, positions, nowhere)
    np.testing.assert_array_equal(drivers.set_points(0, 3), np.tile(HOME, (4, 1)))


def test_unknown_interfaces_and_odd_rates_are_refused(drivers: Drivers) -> None:
    with pytest.raises(UserError, match="no interface legs"):
        drivers.command(0, "legs", [0.1], [[0.0]], nowhere)
    with pytest.raises(UserError, match="divides 500 Hz"):
        Drivers(replace(ROBOT, joint_state_rate=30.0), physics_step=0.002)


@given(st.integers(1, 10_000))
def test_durations_are_whole_samples(count: int) -> None:
    drivers = Drivers(ROBOT, physics_step=0.002)
    assert drivers.samples_in(count * 0.01) == count
    for odd in (count * 0.01 + 0.004, -count * 0.01):
        with pytest.raises(ValueError, match="multiple"):
            drivers.samples_in(odd)


@given(x=st.floats(-0.39, 0.89), y=st.floats(-0.64, 0.64), yaw=st.floats(-7.0, 7.0))
def test_objects_rest_on_the_table(x: float, y: float, yaw: float) -> None:
    pose = resting_pose(SCENE, "block", x, y, yaw)
    np.testing.assert_allclose(pose[:3], [x, y, 0.02])
    np.testing.assert_allclose(np.linalg.norm(pose[3:]), 1.0)
    np.testing.assert_array_equal(pose[3:5], 0.0)


def test_objects_that_nobody_places_are_where_the_scene_says() -> None:
    np.testing.assert_array_equal(
        resting_poses(SCENE, {})["block"], resting_pose(SCENE, "block", 0.4, 0.0, 0.0)
    )


def test_places_off_the_table_are_refused() -> None:
    for name, x in (("cup", 0.4), ("block", 2.0), ("block", np.inf)):
        with pytest.raises(UserError):
            resting_pose(SCENE, name, x, 0.0, 0.0)
    with pytest.raises(UserError, match="it has block"):
        check_object(SCENE, "cup")


def test_noise_repeats_with_its_seed_and_differs_from_picture_to_picture() -> None:
    camera = ROBOT.camera("camera")
    grey = np.full((camera.height, camera.width, 3), 128, np.uint8)
    imaging = Imaging(noise=2.0, seed=3, values=grey.size)
    first, second = imaging.picture(grey.copy(), camera), imaging.picture(grey.copy(), camera)
    assert (first != second).any()
    assert 1.5 < first.std() < 2.5
    imaging.reseed(3)
    np.testing.assert_array_equal(imaging.picture(grey.copy(), camera), first)


def test_a_lens_bends_what_is_away_from_the_middle() -> None:
    camera = replace(ROBOT.camera("camera"), distortion=(-0.3, 0.0, 0.0, 0.0, 0.0))
    columns = np.arange(camera.width, dtype=np.uint8)[None, :, None] // 2
    ramp = np.broadcast_to(columns, (camera.height, camera.width, 3)).copy()
    bent = Imaging(noise=0.0, seed=0, values=ramp.size).picture(ramp.copy(), camera)
    middle = camera.height // 2, camera.width // 2
    assert abs(int(bent[middle][0]) - int(ramp[middle][0])) <= 1
    assert (bent[0] != ramp[0]).any()
