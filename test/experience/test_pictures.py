"""Pictures of bags: each encoding gives the colours that were seen; what is none is refused."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stock import stock

from rl_robot.bags.pictures import COMPRESSED_IMAGE, IMAGE
from rl_robot.experience.pictures import read_pictures

Pixels = npt.NDArray[np.uint8]

GREY = ("mono8", "8UC1")
CHANNELS = {  # of the encodings that keep colours, which of R, G, B (and a fourth) is where
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "8UC3": (2, 1, 0),
    "rgba8": (0, 1, 2, 3),
    "bgra8": (2, 1, 0, 3),
}
MOSAICS = {  # colour of the pixels of the first two columns in the first two rows
    "bayer_rggb8": "RGGB",
    "bayer_bggr8": "BGGR",
    "bayer_gbrg8": "GBRG",
    "bayer_grbg8": "GRBG",
}


def scene(height: int = 6, width: int = 8, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def image(pixels: Pixels, encoding: str, *, padding: int = 0, **changes: Any) -> bytes:
    """Serialize rows of pixels as they are, with bytes behind each row."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    rows = np.hstack([rows, np.full((height, padding), 77, np.uint8)])
    values = {
        "height": height,
        "width": width,
        "encoding": encoding,
        "step": rows.shape[1],
        "data": rows.reshape(-1),
    }
    return stock(IMAGE, values | changes)


def packed(suffix: str, pixels: Pixels, kind: str = "") -> bytes:
    _, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return stock(COMPRESSED_IMAGE, {"format": kind or suffix[1:], "data": data})


def own_size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


# --- raw -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize("encoding", CHANNELS)
def test_colours_come_back_exactly(encoding: str, padding: int) -> None:
    pictures = [scene(seed=seed) for seed in range(3)]
    fourth = np.full((6, 8, 1), 9, np.uint8)
    raws = [
        image(np.dstack([p, fourth])[:, :, CHANNELS[encoding]], encoding, padding=padding)
        for p in pictures
    ]
    found = read_pictures(IMAGE, raws, (8, 6))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pictures)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", GREY)
def test_grey_is_grey_in_all_channels(encoding: str, padding: int) -> None:
    grey = scene()[:, :, :1]
    [found] = read_pictures(IMAGE, [image(grey, encoding, padding=padding)], (8, 6))
    np.testing.assert_array_equal(found, np.repeat(grey, 3, axis=2))


@pytest.mark.parametrize("encoding", MOSAICS)
def test_a_mosaic_gives_the_colour_that_was_seen(encoding: str) -> None:
    seen = {"R": 200, "G": 100, "B": 30}
    tile = np.array([seen[colour] for colour in MOSAICS[encoding]], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (4, 5))[:, :, None]
    [found] = read_pictures(IMAGE, [image(mosaic, encoding, padding=2)], (10, 8))
    np.testing.assert_array_equal(found, np.broadcast_to([200, 100, 30], (8, 10, 3)))


@settings(max_examples=30)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
    paddings=st.lists(st.integers(0, 4), min_size=5, max_size=5),
)
def test_pictures_of_any_shapes_keep_their_places(
    sizes: list[tuple[int, int]], paddings: list[int]
) -> None:
    """Some share a number of bytes with another shape, and so a layout."""
    pictures = [scene(*size, seed=i) for i, size in enumerate(sizes)]
    raws = [image(p, "rgb8", padding=paddings[i]) for i, p in enumerate(pictures)]
    found = read_pictures(IMAGE, raws, (4, 4))
    for got, picture in zip(found, pictures, strict=True):
        if picture.shape[:2] != (4, 4):
            picture = cv2.resize(picture, (4, 4), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(got, picture)


def test_different_encodings_in_one_topic() -> None:
    picture = scene()
    raws = [
        image(picture, "rgb8"),
        image(picture[:, :, ::-1], "bgr8", padding=1),
        image(picture, "rgb8"),
    ]
    np.testing.assert_array_equal(read_pictures(IMAGE, raws, (8, 6)), [picture] * 3)


def test_smaller_is_the_average_of_what_was_there() -> None:
    board = np.zeros((8, 8, 3), np.uint8)
    board[::2, ::2] = 200  # one pixel in four
    [found] = read_pictures(IMAGE, [image(board, "rgb8")], (4, 2))
    np.testing.assert_array_equal(found, np.full((2, 4, 3), 50))


def test_width_comes_before_height_in_a_size() -> None:
    assert read_pictures(IMAGE, [image(scene(), "rgb8")], (5, 3)).shape == (1, 3, 5, 3)
    assert read_pictures(IMAGE, [], (5, 3)).shape == (0, 3, 5, 3)


REFUSED = {
    "16UC1": ({}, "encoding '16UC1' is not one of rgb8, 8UC3"),
    "yuv422": ({}, "encoding 'yuv422' is not one of"),
    "": ({}, "encoding '' is not one of"),
    "rgb8": ({"step": 23}, "144 bytes are not 8 x 6 pixels of 3 bytes"),
    "bgr8": ({"width": 9}, "144 bytes are not 9 x 6 pixels of 3 bytes"),
    "mono8": ({"height": 5}, "144 bytes are not 8 x 5 pixels of 1 bytes"),
    "rgba8": ({"width": 0}, "are not 0 x 6 pixels"),
    "bgra8": ({"height": 0, "data": []}, "0 bytes are not 8 x 0 pixels"),
    "8UC3": ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "144 bytes are not"),
    "8UC1": ({"data": [1, 2, 3]}, "3 bytes are not 8 x 6 pixels"),
    "bayer_rggb8": ({"height": 0, "width": 0, "step": 0, "data": []}, "0 bytes are not"),
}


@pytest.mark.parametrize("encoding", REFUSED)
def test_what_does_not_fit_is_refused(encoding: str) -> None:
    changes, words = REFUSED[encoding]
    with pytest.raises(ValueError, match=words):
        read_pictures(IMAGE, [image(scene(), encoding, **changes)], (8, 6))


@pytest.mark.parametrize("encoding", MOSAICS)
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2)])
def test_the_smallest_mosaics_are_read_or_refused(encoding: str, size: tuple[int, int]) -> None:
    """OpenCV has errors of its own for what is too small."""
    try:
        found = read_pictures(IMAGE, [image(scene(*size)[:, :, :1], encoding)], (2, 2))
    except ValueError:
        return
    assert found.shape == (1, 2, 2, 3)


def test_a_message_of_another_type_is_named() -> None:
    whole = image(scene(), "rgb8")
    for bad in (whole[:-1], b"", whole + bytes(9)):
        with pytest.raises(ValueError, match="message 1 is not a sensor_msgs/msg/Image"):
            read_pictures(IMAGE, [whole, bad], (8, 6))


# --- compressed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "rgb8; png compressed bgr8"])
def test_png_comes_back_exactly(kind: str) -> None:
    pictures = [scene(seed=seed) for seed in range(3)]
    raws = [packed(".png", picture, kind) for picture in pictures]
    np.testing.assert_array_equal(read_pictures(COMPRESSED_IMAGE, raws, (8, 6)), pictures)


def test_jpeg_comes_back_nearly() -> None:
    smooth = np.zeros((32, 48, 3), np.uint8)
    smooth[:, :, 0] = np.linspace(0, 250, 48)
    smooth[:, :, 2] = np.linspace(0, 250, 32)[:, None]
    [found] = read_pictures(COMPRESSED_IMAGE, [packed(".jpg", smooth)], own_size(smooth))
    assert np.abs(found.astype(int) - smooth).mean() < 4
    [small] = read_pictures(COMPRESSED_IMAGE, [packed(".jpg", smooth)], (12, 8))
    assert small.shape == (8, 12, 3)


def test_grey_and_deep_files_become_colours_of_a_byte() -> None:
    grey = scene()[:, :, 0]
    for depth in (grey, grey.astype(np.uint16) * 257):
        _, data = cv2.imencode(".png", depth)
        raw = stock(COMPRESSED_IMAGE, {"format": "png", "data": data})
        [found] = read_pictures(COMPRESSED_IMAGE, [raw], (8, 6))
        np.testing.assert_array_equal(found, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_data_that_is_no_picture_is_refused(data: bytes) -> None:
    raw = stock(COMPRESSED_IMAGE, {"format": "png", "data": np.frombuffer(data, np.uint8)})
    with pytest.raises(ValueError, match="a compressed picture is no PNG or JPEG"):
        read_pictures(COMPRESSED_IMAGE, [packed(".png", scene()), raw], (8, 6))


@settings(max_examples=40)
@given(data=st.data(), suffix=st.sampled_from([".png", ".jpg"]))
def test_damaged_files_are_read_or_refused(data: st.DataObject, suffix: str) -> None:
    """JPEG has no checksums, so some damage shows in the picture alone."""
    _, whole = cv2.imencode(suffix, scene())
    broken = whole.reshape(-1).copy()
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    # Not the sizes: a picture of thousands of pixels takes its time.
    broken[: len(broken) // 4] = whole.reshape(-1)[: len(broken) // 4]
    raw = stock(COMPRESSED_IMAGE, {"format": suffix[1:], "data": broken})
    try:
        found = read_pictures(COMPRESSED_IMAGE, [raw], (8, 6))
    except ValueError:
        return
    assert found.shape == (1, 6, 8, 3)


def test_a_file_that_says_it_is_larger_than_any_is_refused() -> None:
    _, whole = cv2.imencode(".png", scene())
    data = bytearray(whole.tobytes())
    data[16:24] = b"\x7f\xff\xff\xff" * 2  # width and height
    raw = stock(COMPRESSED_IMAGE, {"format": "png", "data": np.frombuffer(bytes(data), np.uint8)})
    with pytest.raises(ValueError, match=r"a picture of 2147483647x2147483647 is not read"):
        read_pictures(COMPRESSED_IMAGE, [raw], (8, 6))
