"""Messages to numpy and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.ros import messages

STAMPS = st.integers(0, 2**31 * 10**9 - 1)
FINITE = st.floats(-1e6, 1e6)


@given(STAMPS)
def test_stamps_keep_every_nanosecond(stamp: int) -> None:
    assert messages.to_ns(messages.to_time(stamp)) == stamp


@given(st.dictionaries(st.text(min_size=1), FINITE), STAMPS)
def test_named_numbers_come_back(values: dict[str, float], stamp: int) -> None:
    message = messages.numbers_message(values, stamp)
    assert messages.numbers(message) == values
    assert messages.stamp_ns(message) == stamp


@given(st.integers(1, 6), st.integers(1, 5), st.randoms(use_true_random=False))
def test_motions_come_back(points: int, joints: int, random: object) -> None:
    generator = np.random.default_rng(getattr(random, "randint")(0, 1000))  # noqa: B009
    names = tuple(f"joint_{index}" for index in range(joints))
    times = np.cumsum(generator.uniform(0.001, 0.5, points))
    motion = Motion(names, times, generator.normal(size=(points, joints)))
    back = messages.motion(messages.trajectory_message(motion, 5, "policy"))
    assert back.names == names
    np.testing.assert_allclose(back.times, times, atol=1e-9)
    np.testing.assert_array_equal(back.positions, motion.positions)


def test_pictures_keep_their_pixels_and_shape() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = messages.image_message(rgb, 3, "camera")
    assert (message.height, message.width, message.step, message.encoding) == (5, 7, 21, "rgb8")
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(5, 7, 3), rgb)


def test_the_calibration_is_the_cameras() -> None:
    camera = load_robot("arm").cameras[0]
    message = messages.camera_info_message(camera, 1)
    np.testing.assert_allclose(np.reshape(message.k, (3, 3)), camera.matrix)
    assert (message.width, message.height) == (camera.width, camera.height)


@given(st.floats(-3.1, 3.1))
def test_a_yaw_survives_its_quaternion(yaw: float) -> None:
    message = messages.pose_message(1, "base", (1, 2, 3), messages.yaw_quaternion(yaw))
    position, (x, y, z, w) = messages.pose_arrays(message)
    np.testing.assert_array_equal(position, [1, 2, 3])
    assert (x, y) == (0.0, 0.0)
    np.testing.assert_allclose(2 * np.arctan2(z, w), yaw, atol=1e-9)


def test_a_status_keeps_its_values() -> None:
    message = messages.status_message(7, "node", "ok", {"a": "1", "b": ""})
    assert messages.status_values(message.status[0]) == {"a": "1", "b": ""}
