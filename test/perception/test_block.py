"""Pictures are drawn here with OpenCV: no renderer is needed to test perception."""

import math
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rl_robot.perception.block import BlockDetector, ColourRange, Detection
from rl_robot.perception.camera import CameraModel
from rl_robot.robots.description import Camera, load_robot

SIZE = 0.04
TABLE = (190, 188, 180)
_SHADES = np.zeros((3, 3, 3))  # by the axis and the sign (1 or -1) of a face's normal
_SHADES[:, 1] = [(170, 18, 18), (150, 14, 14), (214, 24, 22)]
_SHADES[:, -1] = [(100, 10, 10), (120, 12, 12), (80, 8, 8)]
_REACH = 32  # px around its centre in which a cube is drawn


@cache
def camera(distortion: tuple[float, ...] = (0.0,) * 5) -> Camera:
    return replace(load_robot("arm").cameras[0], distortion=distortion)


def draw(
    view: Camera,
    x: float,
    y: float,
    yaw: float,
    *,
    height: float = SIZE / 2,
    noise: float = 2.0,
    seed: int = 0,
    rays: int = 3,
) -> NDArray[np.uint8]:
    """Return the picture (240, 320, 3) of a cube whose centre is at (x, y, height).

    rays: how many along each side of a pixel: 1 gives edges as hard as a renderer's without
    antialiasing, more give edges as soft as a lens's.
    """
    model = CameraModel(view)
    centre = np.array([x, y, height])
    left, top = np.round(model.project(centre)[0]).astype(int) - _REACH
    offsets = (np.arange(2 * _REACH * rays) + 0.5) / rays - 0.5
    u, v = np.meshgrid(left + offsets, top + offsets)
    origin, lines = model.ray(np.column_stack((u.ravel(), v.ravel())))
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    eye, lines = (origin - centre) @ turn, lines @ turn
    # A ray is in the cube from where it has entered all slabs until it leaves the first one.
    enter = (-np.sign(lines) * SIZE / 2 - eye) / lines
    leave = (np.sign(lines) * SIZE / 2 - eye) / lines
    hit = enter.max(axis=1) < leave.min(axis=1)
    axis = enter.argmax(axis=1)
    sign = -np.sign(lines[np.arange(len(lines)), axis]).astype(int)
    fine = np.where(hit[:, None], _SHADES[axis, sign], TABLE)
    window = fine.reshape(2 * _REACH, rays, 2 * _REACH, rays, 3).mean(axis=(1, 3))

    picture = np.empty((view.height, view.width, 3))
    picture[:] = TABLE
    rows, columns = np.mgrid[top : top + 2 * _REACH, left : left + 2 * _REACH]
    within = (rows >= 0) & (rows < view.height) & (columns >= 0) & (columns < view.width)
    picture[rows[within], columns[within]] = window[within]
    picture += np.random.default_rng(seed).normal(0, noise, picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


DETECTOR = BlockDetector(camera())
GRIPPER = (40, 40, 44)
WRONG = 0.008  # m: beyond this a pose that is said with confidence would spoil a grasp

places = st.tuples(st.floats(0.30, 0.50), st.floats(-0.10, 0.10), st.floats(-math.pi, math.pi))


def errors(found: Detection, x: float, y: float, yaw: float) -> tuple[float, float]:
    """Distance (m) and angle modulo a quarter turn (rad) from the truth."""
    turn = (found.yaw - yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
    return float(np.linalg.norm(found.position - (x, y, 0.02))), abs(turn)


@settings(max_examples=40, deadline=None)
@given(place=places, seed=st.integers(0, 1000))
def test_an_unoccluded_block_is_found_where_it_is(
    place: tuple[float, float, float], seed: int
) -> None:
    found = DETECTOR.detect(draw(camera(), *place, seed=seed))
    assert found is not None
    distance, turn = errors(found, *place)
    assert distance < 0.001
    assert turn < math.radians(2)
    assert -math.pi / 4 < found.yaw <= math.pi / 4
    assert found.visible_fraction > 0.95


@settings(max_examples=40, deadline=None)
@given(place=places)
def test_hard_edges_along_the_pixel_grid_are_no_reason_to_miss_a_block(
    place: tuple[float, float, float],
) -> None:
    found = DETECTOR.detect(draw(camera(), *place, rays=1))
    assert found is not None
    assert errors(found, *place)[0] < 0.002


@pytest.mark.parametrize("change", ["blur", "dark", "bright", "noise", "warm"])
def test_other_light_and_a_worse_camera_change_little(change: str) -> None:
    place = (0.37, 0.04, 0.35)
    picture = draw(camera(), *place).astype(float)
    if change == "blur":
        picture = cv2.GaussianBlur(picture, (0, 0), 1.0)
    elif change == "noise":
        picture += np.random.default_rng(1).normal(0, 6, picture.shape)
    else:
        picture *= {"dark": (0.6,) * 3, "bright": (1.3,) * 3, "warm": (1.1, 1.0, 0.85)}[change]
    found = DETECTOR.detect(np.clip(picture, 0, 255).astype(np.uint8))
    assert found is not None
    distance, turn = errors(found, *place)
    assert distance < 0.0015
    assert turn < math.radians(2)


def test_a_lens_s_distortion_is_undone() -> None:
    view = camera((-0.25, 0.08, 0.001, -0.001, 0.0))
    detector = BlockDetector(view)
    for place in [(0.31, 0.09, 0.2), (0.48, -0.09, 0.6), (0.40, 0.0, -0.3)]:
        found = detector.detect(draw(view, *place))
        assert found is not None
        assert errors(found, *place)[0] < 0.001


def test_a_table_at_another_height() -> None:
    found = BlockDetector(camera(), table_height=0.05).detect(
        draw(camera(), 0.40, 0.02, 0.3, height=0.07)
    )
    assert found is not None
    assert found.position == pytest.approx((0.40, 0.02, 0.07), abs=0.001)


def test_a_block_of_another_colour() -> None:
    swapped = np.ascontiguousarray(draw(camera(), 0.4, 0.0, 0.3)[:, :, ::-1])
    assert DETECTOR.detect(swapped) is None
    found = BlockDetector(camera(), colour=ColourRange(hue=240)).detect(swapped)
    assert found is not None
    assert errors(found, 0.4, 0.0, 0.3)[0] < 0.001


def test_nothing_there() -> None:
    empty = np.empty((240, 320, 3), np.uint8)
    empty[:] = TABLE
    assert DETECTOR.detect(empty) is None


@pytest.mark.parametrize("height", [0.04, 0.06, 0.10, 0.20])
@pytest.mark.parametrize("yaw", [-0.6, 0.0, 0.4])
def test_a_lifted_block_is_not_said_to_lie_somewhere(height: float, yaw: float) -> None:
    assert DETECTOR.detect(draw(camera(), 0.4, 0.0, yaw, height=height)) is None


@pytest.mark.parametrize("size", [0.03, 0.05])
def test_a_block_of_the_wrong_size_is_refused(size: float) -> None:
    detector = BlockDetector(camera(), size=size)
    assert detector.detect(draw(camera(), 0.4, 0.0, 0.3)) is None


def test_a_block_half_out_of_the_picture_is_refused_or_right() -> None:
    for x in np.arange(0.5, 0.7, 0.01):
        found = DETECTOR.detect(draw(camera(), float(x), -0.1, 0.3))
        assert found is None or errors(found, float(x), -0.1, 0.3)[0] < WRONG


@settings(max_examples=80, deadline=None)
@given(
    place=places,
    across=st.floats(-25, 25),
    down=st.floats(-25, 25),
    turn=st.floats(0, 180),
    width=st.floats(2, 60),
    length=st.floats(5, 80),
)
def test_what_hides_a_part_never_moves_the_block(
    place: tuple[float, float, float],
    across: float,
    down: float,
    turn: float,
    width: float,
    length: float,
) -> None:
    image = draw(camera(), *place)
    middle = DETECTOR.camera.project((*place[:2], 0.02))[0] + (across, down)
    box = cv2.boxPoints(((float(middle[0]), float(middle[1])), (width, length), turn))
    cv2.fillConvexPoly(image, np.round(box).astype(np.int32), GRIPPER)
    found = DETECTOR.detect(image)
    if found is not None:
        distance, angle = errors(found, *place)
        assert distance < WRONG
        assert angle < math.radians(10)


def hide(image: np.ndarray, across: float, colour: tuple[int, int, int]) -> None:
    """Cover everything to the left of a line so many pixels beside the cube's middle."""
    middle = DETECTOR.camera.project((0.4, 0.0, 0.02))[0]
    image[:, : round(middle[0] + across)] = colour


@pytest.mark.parametrize("yaw", [-0.5, -0.1, 0.3, 0.7])
def test_a_partly_hidden_block_is_found_from_the_rest(yaw: float) -> None:
    image = draw(camera(), 0.4, 0.0, yaw)
    hide(image, -8, GRIPPER)
    found = DETECTOR.detect(image)
    assert found is not None
    distance, turn = errors(found, 0.4, 0.0, yaw)
    assert distance < 0.002
    assert turn < math.radians(4)
    assert found.visible_fraction < 0.9


def test_a_block_seen_too_little_is_not_guessed() -> None:
    image = draw(camera(), 0.4, 0.0, 0.3)
    hide(image, 12, GRIPPER)
    assert DETECTOR.detect(image) is None


def test_without_knowing_tools_by_their_darkness_only_a_whole_block_is_trusted() -> None:
    detector = BlockDetector(camera(), table_brightness=0.0)
    image = draw(camera(), 0.4, 0.0, 0.3)
    assert detector.detect(image) is not None
    hide(image, -8, GRIPPER)
    assert detector.detect(image) is None


def test_equal_pictures_give_equal_answers() -> None:
    image = draw(camera(), 0.35, 0.05, 0.5)
    first, second = DETECTOR.detect(image), DETECTOR.detect(image.copy())
    assert first is not None
    assert second is not None
    assert np.array_equal(first.position, second.position)
    assert first.yaw == second.yaw


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), blobs=st.integers(0, 40), red=st.booleans())
def test_any_picture_is_survived(seed: int, blobs: int, red: bool) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    if red:
        image[:] = (200, 20, 20)
    for _ in range(blobs):
        corners = random.integers(-20, 340, (int(random.integers(1, 6)), 2), dtype=np.int32)
        cv2.fillPoly(image, [corners], random.integers(0, 256, 3).tolist())
    found = DETECTOR.detect(image)
    assert found is None or np.isfinite([*found.position, found.yaw]).all()


@pytest.mark.parametrize("shape", [(240, 320), (240, 320, 4), (240, 319, 3), (0, 0, 3)])
def test_a_picture_of_the_wrong_shape_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a uint8 image"):
        DETECTOR.detect(np.zeros(shape, np.uint8))
