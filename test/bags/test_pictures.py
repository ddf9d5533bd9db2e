"""Pictures as PNG and JPEG: what comes back, and what is refused."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.bags import typestore
from rl_robot.bags.pictures import (
    COMPRESSED_IMAGE,
    IMAGE,
    compress,
    compressed_topic,
    decompress,
    is_camera_topic,
    raw_topic,
)

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def make(message_type: str, **fields: Any) -> Any:
    return typestore().types[message_type](**fields)


def header(stamp_ns: int = 1_500_000_000, frame: str = "camera_optical_frame") -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image_bytes(pixels: np.ndarray, encoding: str, *, padding: int = 0, **header_of: Any) -> bytes:
    """A serialized Image of (H, W, channels) pixels, with bytes of padding after each row."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, width * channels + padding), np.uint8)
    rows[:, : width * channels] = pixels.reshape(height, -1)
    message = make(
        IMAGE,
        header=header(**header_of),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * channels + padding,
        data=rows.reshape(-1),
    )
    return bytes(typestore().serialize_cdr(message, IMAGE))


def read(raw: bytes, message_type: str) -> Any:
    return typestore().deserialize_cdr(raw, message_type)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    encoding = draw(st.sampled_from(sorted(CHANNELS)))
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)), CHANNELS[encoding])
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random.integers(0, 256, shape, dtype=np.uint8), encoding


@settings(max_examples=100, deadline=None)
@given(
    picture=pictures(),
    padding=st.integers(0, 7),
    stamp_ns=st.integers(0, 2**31 * 10**9 - 1),
    frame=st.text(max_size=9).filter(lambda text: "\0" not in text),
)
def test_png_gives_back_every_pixel(
    picture: tuple[np.ndarray, str], padding: int, stamp_ns: int, frame: str
) -> None:
    pixels, encoding = picture
    raw = image_bytes(pixels, encoding, padding=padding, stamp_ns=stamp_ns, frame=frame)
    back = decompress(compress(raw, "png"))
    assert back == image_bytes(pixels, encoding, stamp_ns=stamp_ns, frame=frame)


@pytest.mark.parametrize("encoding", sorted(CHANNELS))
def test_jpeg_gives_back_about_every_pixel(encoding: str) -> None:
    rows = np.linspace(0, 255, 48, dtype=np.uint8)[:, None, None]
    pixels = np.broadcast_to(rows, (48, 64, CHANNELS[encoding])).copy()
    pixels[..., 0] //= 2  # so that an exchange of red and blue would be seen
    image = read(decompress(compress(image_bytes(pixels, encoding), "jpeg")), IMAGE)
    assert (image.encoding, image.height, image.width) == (encoding, 48, 64)
    difference = image.data.astype(int) - pixels.reshape(-1)
    assert np.abs(difference).max() <= 6


@pytest.mark.parametrize(
    ("encoding", "kind", "said"),
    [
        ("rgb8", "png", "rgb8; png compressed bgr8"),
        ("bgr8", "jpeg", "bgr8; jpeg compressed bgr8"),
        ("mono8", "png", "mono8; png compressed "),
    ],
)
def test_what_is_stored_is_what_image_transport_would_publish(
    encoding: str, kind: Any, said: str
) -> None:
    pixels = np.zeros((4, 6, CHANNELS[encoding]), np.uint8)
    pixels[..., 0] = 200  # red of rgb8, blue of bgr8
    message = read(compress(image_bytes(pixels, encoding), kind), COMPRESSED_IMAGE)
    assert message.format == said
    assert (message.header.stamp.sec, message.header.frame_id) == (1, "camera_optical_frame")
    stored = cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED)  # OpenCV's order: blue first
    if encoding != "mono8":
        assert stored[0, 0].argmax() == (2 if encoding == "rgb8" else 0)


def compressed(said: str, data: bytes) -> bytes:
    message = make(
        COMPRESSED_IMAGE, header=header(), format=said, data=np.frombuffer(data, np.uint8)
    )
    return bytes(typestore().serialize_cdr(message, COMPRESSED_IMAGE))


@pytest.mark.parametrize(("shape", "encoding"), [((5, 7, 3), "bgr8"), ((5, 7), "mono8")])
def test_a_format_of_one_word_is_read_too(shape: tuple[int, ...], encoding: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = read(decompress(compressed("png", cv2.imencode(".png", pixels)[1].tobytes())), IMAGE)
    assert image.encoding == encoding
    np.testing.assert_array_equal(image.data, pixels.reshape(-1))


def test_what_is_no_picture_is_refused() -> None:
    good = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    huge = good[:16] + b"\0\0\xff\xff\0\0\xff\xff" + good[24:]
    for said, data, wrong in [
        ("png", b"", "no PNG or JPEG"),
        ("png", good[:20], "no PNG or JPEG"),
        ("png", good[:40], "can't be read"),
        ("png", huge, "65535x65535 is not read"),
        ("jpeg", b"\xff\xd8\xff\xe0\x00", "no PNG or JPEG"),
        ("rgb16; png compressed bgr16", good, "expected an encoding of"),
    ]:
        with pytest.raises(ValueError, match=wrong):
            decompress(compressed(said, data))
    with pytest.raises(ValueError, match="no serialized"):
        decompress(b"\0\1\0\0")


def test_what_can_not_be_stored_as_a_picture_is_refused() -> None:
    pixels = np.zeros((4, 6, 1), np.uint8)
    for raw in (image_bytes(pixels, "mono16"), image_bytes(pixels, "rgb8"), b"\0\1\0\0\0"):
        with pytest.raises(ValueError, match=r"encoding|bytes for|no serialized"):
            compress(raw, "png")


def test_names_of_topics() -> None:
    assert is_camera_topic("wrist/image_raw")
    assert not is_camera_topic("perception/image")
    assert raw_topic(compressed_topic("wrist/image_raw")) == "wrist/image_raw"
    assert raw_topic("wrist/image_raw") is None
    assert raw_topic("other/compressed") is None
