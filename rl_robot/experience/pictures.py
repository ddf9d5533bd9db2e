"""Pictures of bags as arrays: raw or compressed, in the encodings that cameras give."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rl_robot.bags.columns import Columns, columns
from rl_robot.bags.pictures import COMPRESSED_IMAGE, IMAGE, decode_picture

PICTURES = (IMAGE, COMPRESSED_IMAGE)

_AT_ONCE = 128  # messages; more would only need memory that is not at hand yet

Pictures = npt.NDArray[np.uint8]

# Channels of a pixel, a byte each, and OpenCV's conversion to RGB.
_ENCODINGS = {
    "rgb8": (3, None),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    # OpenCV names Bayer patterns by the second row, ROS by the first.
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}


def read_pictures(message_type: str, raws: Sequence[bytes], size: tuple[int, int]) -> Pictures:
    """Return the pictures (n, H, W, 3) RGB of serialized messages, averaged to ``size`` (W, H).

    Raises:
        ValueError: one can't be read; the message says why.
    """
    width, height = size
    pictures = np.empty((len(raws), height, width, 3), np.uint8)
    try:
        for start in range(0, len(raws), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            _read(message_type, raws[part], pictures[part], start)
    except cv2.error as error:
        raise ValueError(f"a picture can't be read: {' '.join(str(error).split())}") from None
    return pictures


def _read(message_type: str, raws: Sequence[bytes], pictures: Pictures, first: int) -> None:
    """Read pictures, of which the ``first`` has this number, into an array (n, H, W, 3)."""
    groups, misfits = columns(message_type, raws)
    if misfits:
        raise ValueError(f"message {first + misfits[0]} is not a {message_type}")
    read = _read_raw if message_type == IMAGE else _read_compressed
    _, height, width, _ = pictures.shape
    for group in groups:
        found = read(group)
        if isinstance(found, np.ndarray) and found.shape[1:] == pictures.shape[1:]:
            pictures[group.rows] = found
            continue
        for row, picture in zip(group.rows, found, strict=True):
            if picture.shape[:2] != (height, width):
                picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            pictures[row] = picture


def _read_raw(group: Columns) -> Any:
    encoding = group.layout.texts["encoding"][0]
    if encoding not in _ENCODINGS:
        raise ValueError(f"encoding {encoding!r} is not one of {', '.join(_ENCODINGS)}")
    channels, conversion = _ENCODINGS[encoding]
    shapes = np.hstack([group.numbers(name) for name in ("height", "width", "step")])
    at, _, size = group.layout.places["data"]
    pixels = group.data[:, at : at + size]
    if (shapes == shapes[0]).all():
        raw = _pixels(pixels, shapes[0], channels)
    else:
        raw = [
            _pixels(row[None], own, channels)[0] for row, own in zip(pixels, shapes, strict=True)
        ]
    return raw if conversion is None else [cv2.cvtColor(one, conversion) for one in raw]


def _pixels(rows: Pictures, shape: Any, channels: int) -> Any:
    """Return the bytes of n pictures of one shape as (n, H, W, channels)."""
    height, width, step = (int(number) for number in shape)
    count, size = rows.shape
    if not width or not height or size != height * step or step < width * channels:
        raise ValueError(f"{size} bytes are not {width} x {height} pixels of {channels} bytes")
    lines = rows.reshape(count, height, step)[:, :, : width * channels]
    return lines.reshape(count, height, width, channels)


def _read_compressed(group: Columns) -> list[Any]:
    return [
        cv2.cvtColor(decode_picture(data.tobytes(), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        for data in group.numbers("data")
    ]
