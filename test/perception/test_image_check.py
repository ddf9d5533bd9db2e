import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.perception.image_check import ImageCheck
from rl_robot.robots.description import Camera

MS = 1_000_000


def camera(width: int = 6, height: int = 4, rate: float = 10.0) -> Camera:
    return Camera(
        name="camera",
        width=width,
        height=height,
        rate=rate,
        frame_id="camera_optical_frame",
        position=(0.0, 0.0, 1.0),
        quaternion=(1.0, 0.0, 0.0, 0.0),
        fx=5.0,
        fy=5.0,
        cx=2.5,
        cy=1.5,
        distortion=(0.0,) * 5,
    )


def noisy(seed: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def give(check: ImageCheck, stamp_ns: int, rgb: np.ndarray) -> tuple[np.ndarray | None, str | None]:
    height, width = rgb.shape[:2]
    return check.check(
        stamp_ns=stamp_ns,
        width=width,
        height=height,
        encoding="rgb8",
        step=width * 3,
        data=rgb.tobytes(),
    )


def test_sound_images_pass_unchanged() -> None:
    check = ImageCheck(camera())
    for index in range(20):
        rgb = noisy(index)
        image, problem = give(check, index * 100 * MS, rgb)
        assert problem is None
        assert image is not None
        assert np.array_equal(image, rgb)
    assert set(check.counts.values()) == {0}


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
def test_any_buffer_is_taken(wrap: Callable[[bytes], Any]) -> None:
    rgb = noisy(0)
    image, problem = ImageCheck().check(
        stamp_ns=1, width=6, height=4, encoding="rgb8", step=18, data=wrap(rgb.tobytes())
    )
    assert problem is None
    assert image is not None
    assert np.array_equal(image, rgb)


def test_encodings_and_padded_rows() -> None:
    rgb = noisy(3)
    padded = np.zeros((4, 24), np.uint8)
    padded[:, :18] = rgb[:, :, ::-1].reshape(4, 18)
    image, problem = ImageCheck().check(
        stamp_ns=1, width=6, height=4, encoding="bgr8", step=24, data=padded.tobytes()
    )
    assert problem is None
    assert image is not None
    assert np.array_equal(image, rgb)

    grey = rgb[:, :, 0]
    image, problem = ImageCheck().check(
        stamp_ns=1, width=6, height=4, encoding="mono8", step=6, data=grey.tobytes()
    )
    assert problem is None
    assert image is not None
    assert np.array_equal(image, np.repeat(grey[:, :, None], 3, axis=2))


def test_frozen_camera_is_noticed_and_recovers() -> None:
    check = ImageCheck(frozen_after=3)
    still = noisy(1)
    assert give(check, 1, still)[1] is None
    assert give(check, 2, still)[1] is None
    for stamp in (3, 4, 5):
        image, problem = give(check, stamp, still)
        assert image is None
        assert problem is not None
        assert problem.startswith("frozen")
    assert check.counts["frozen"] == 3
    image, problem = give(check, 6, noisy(2))
    assert image is not None
    assert problem is None


def test_buffer_reused_by_the_sender_does_not_look_frozen() -> None:
    check = ImageCheck(frozen_after=2)
    buffer = noisy(1)
    for stamp in range(1, 6):
        buffer[0, 0, 0] = stamp
        image, problem = check.check(
            stamp_ns=stamp, width=6, height=4, encoding="rgb8", step=18, data=buffer
        )
        assert image is not None
        assert problem is None


def test_stamp_must_advance_and_reset_allows_going_back() -> None:
    check = ImageCheck()
    assert give(check, 100, noisy(0))[1] is None
    for stamp in (100, 99, -5):
        image, problem = give(check, stamp, noisy(stamp + 6))
        assert image is None
        assert problem is not None
        assert "not advancing" in problem
    assert check.counts["stamp"] == 3
    check.reset()
    assert give(check, 5, noisy(9))[1] is None


def test_dropped_images_are_counted_and_the_next_is_used() -> None:
    check = ImageCheck(camera())
    give(check, 0, noisy(0))
    assert give(check, 150 * MS, noisy(1))[1] is None
    image, problem = give(check, 450 * MS, noisy(2))
    assert image is not None
    assert problem is not None
    assert problem.startswith("dropped: 2")
    assert check.counts["dropped"] == 2


def test_malformed_image_does_not_move_the_clock() -> None:
    check = ImageCheck()
    give(check, 1, noisy(0))
    bad = check.check(stamp_ns=10**18, width=6, height=4, encoding="rgb8", step=18, data=b"")
    assert bad[0] is None
    assert give(check, 2, noisy(1))[1] is None


def test_size_other_than_the_camera_s_is_refused() -> None:
    image, problem = give(ImageCheck(camera(320, 240)), 1, noisy(0))
    assert image is None
    assert problem is not None
    assert "320x240" in problem


@pytest.mark.parametrize("encoding", ["", "rgb16", "RGB8", "yuyv", "x" * 1000])
def test_unknown_encodings_are_refused_in_short_words(encoding: str) -> None:
    image, problem = ImageCheck().check(
        stamp_ns=1, width=1, height=1, encoding=encoding, step=3, data=bytes(3)
    )
    assert image is None
    assert problem is not None
    assert "encoding" in problem
    assert len(problem) < 120


sizes = st.one_of(st.integers(-2, 12), st.sampled_from([-(2**31), 2**31 - 1, 2**32 - 1, 2**63]))


@settings(deadline=None)
@given(
    width=sizes,
    height=sizes,
    step=sizes,
    length=st.integers(0, 500),
    encoding=st.sampled_from(["rgb8", "bgr8", "mono8", "bayer", ""]),
    stamp_ns=st.integers(-(2**63), 2**63),
)
def test_hostile_sizes_never_raise_and_never_pass(
    width: int, height: int, step: int, length: int, encoding: str, stamp_ns: int
) -> None:
    image, problem = ImageCheck().check(
        stamp_ns=stamp_ns,
        width=width,
        height=height,
        encoding=encoding,
        step=step,
        data=bytes(length),
    )
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}.get(encoding)
    sound = (
        channels is not None
        and width >= 1
        and height >= 1
        and step >= width * channels
        and length == step * height
    )
    assert (image is not None) == sound
    assert (problem is None) == sound
    if image is not None:
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8


@settings(deadline=None)
@given(data=st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(0, 255))))
def test_data_that_is_no_buffer_is_malformed(data: object) -> None:
    image, problem = ImageCheck().check(
        stamp_ns=1, width=1, height=1, encoding="mono8", step=1, data=data
    )
    assert image is None
    assert problem is not None
