"""Camera pictures as PNG or JPEG, by image_transport's conventions, and back.

A picture on ``<camera>/image_raw`` is stored as a ``sensor_msgs/CompressedImage`` on
``<camera>/image_raw/compressed``, whose ``format`` says what it was and what it is: "rgb8; png
compressed bgr8", or "mono8; png compressed " (a grey picture has no colours to name). PNG loses
nothing; JPEG, of quality 95, is for eyes.
"""

import struct
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from rl_robot.bags.messages import typestore
from rl_robot.errors import UserError

Kind = Literal["png", "jpeg"]
KINDS: tuple[Kind, ...] = ("png", "jpeg")
RAW = "raw"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

_CAMERA_TOPIC = "/image_raw"
_SUFFIX = "/compressed"
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
# Of a picture with a camera's noise deflate finds no repeated texts: run lengths alone take 4.0 ms
# and leave 105 KiB of 225 (320x240), its default 4.8 ms and 125 KiB at level 1, 8.7 and 122 at 3.
_OPTIONS: dict[Kind, tuple[int, ...]] = {
    "png": (
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ),
    "jpeg": (cv2.IMWRITE_JPEG_QUALITY, 95),
}
_FLAGS = {
    "rgb8": cv2.IMREAD_COLOR,
    "bgr8": cv2.IMREAD_COLOR,
    "mono8": cv2.IMREAD_GRAYSCALE,
    "": cv2.IMREAD_UNCHANGED,
}
_MOST_PIXELS = 64 * 1024 * 1024  # a picture that claims more is refused before it is decoded
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"


def find_kind(name: str) -> Kind | None:
    """The kind of this name; None for pictures stored as they come.

    Raises:
        UserError: there is no such kind.
    """
    if name == RAW:
        return None
    for kind in KINDS:
        if kind == name:
            return kind
    raise UserError(f"pictures '{name}': expected one of {', '.join((RAW, *KINDS))}")


def is_camera_topic(topic: str) -> bool:
    """Whether full-size pictures of a camera travel on this topic (relative to the namespace)."""
    return topic.endswith(_CAMERA_TOPIC)


def compressed_topic(topic: str) -> str:
    """Where the compressed pictures of a camera's topic are."""
    return topic + _SUFFIX


def picture_topic(topic: str) -> str:
    """The inverse of `compressed_topic`; other names stay as they are."""
    return topic.removesuffix(_SUFFIX)


def raw_topic(topic: str) -> str | None:
    """Like `picture_topic`; None for a topic of no camera's compressed pictures."""
    name = picture_topic(topic)
    return name if name != topic and is_camera_topic(name) else None


def compress(raw: bytes, kind: Kind) -> bytes:
    """A serialized CompressedImage of a serialized Image, of the same stamp and frame.

    Raises:
        ValueError: it is no Image of encoding rgb8, bgr8 or mono8, or it is damaged.
    """
    image = _decoded(raw, IMAGE)
    pixels, encoding = image_pixels(image), image.encoding
    blue_first = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if encoding == "rgb8" else pixels
    good, data = cv2.imencode(".png" if kind == "png" else ".jpg", blue_first, _OPTIONS[kind])
    if not good:
        raise ValueError(f"a picture of {image.width}x{image.height} can't be made a {kind}")
    target = "" if encoding == "mono8" else "bgr8"
    made = _make(
        COMPRESSED_IMAGE,
        header=image.header,
        format=f"{encoding}; {kind} compressed {target}",
        data=data.reshape(-1),
    )
    return bytes(typestore().serialize_cdr(made, COMPRESSED_IMAGE))


def decompress(raw: bytes) -> bytes:
    """The serialized Image that a serialized CompressedImage is of, without padding of its rows.

    Takes what `compress` and image_transport write, and formats of only "png", "jpeg" or "jpg",
    whose colour pictures become bgr8.

    Raises:
        ValueError: it is something else, damaged, or of more than 64 million pixels.
    """
    message = _decoded(raw, COMPRESSED_IMAGE)
    encoding = _encoding(message.format)
    pixels = decode_picture(bytes(message.data), _FLAGS[encoding])
    height, width = pixels.shape[:2]
    if not encoding:
        encoding = "mono8" if pixels.ndim == 2 else "bgr8"
    elif encoding == "rgb8":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    image = _make(
        IMAGE,
        header=message.header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * _CHANNELS[encoding],
        data=np.ascontiguousarray(pixels).reshape(-1),
    )
    return bytes(typestore().serialize_cdr(image, IMAGE))


def image_pixels(image: Any) -> npt.NDArray[np.uint8]:
    """Pixels (H, W) or (H, W, 3) of a decoded Image, in its own order of colours.

    Raises:
        ValueError: its encoding is none of rgb8, bgr8 and mono8, or its data are too short.
    """
    channels = _CHANNELS.get(image.encoding)
    if channels is None:
        raise ValueError(f"encoding {image.encoding!r}: expected {', '.join(_CHANNELS)}")
    size, row = image.height * image.step, image.width * channels
    if not size or not row or image.step < row or image.data.size < size:
        raise ValueError(
            f"{image.data.size} bytes for {image.width}x{image.height} pixels, {image.step} a row"
        )
    rows = image.data[:size].reshape(image.height, image.step)[:, :row]
    shape = (image.height, image.width, 3) if channels == 3 else (image.height, image.width)
    pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(rows).reshape(shape)
    return pixels


def _decoded(raw: bytes, message_type: str) -> Any:
    try:
        return typestore().deserialize_cdr(raw, message_type)
    except Exception as error:  # the decoder raises whatever damaged bytes lead it to
        raise ValueError(f"no serialized {message_type}: {error!r}") from None


def _make(message_type: str, **fields: Any) -> Any:
    return typestore().types[message_type](**fields)


def decode_picture(data: bytes, flags: int) -> Any:
    """Pixels (H, W) or (H, W, 3), uint8, blue first, of a PNG or JPEG; ``flags`` are OpenCV's.

    Its size is known before it is decoded, so a small file can't ask for gigabytes.

    Raises:
        ValueError: the data are no PNG or JPEG of such pixels, damaged, or too many pixels.
    """
    size = _size(data)
    if not 0 < size[0] * size[1] <= _MOST_PIXELS:
        raise ValueError(f"a picture of {size[1]}x{size[0]} is not read")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape not in (size, (*size, 3)):
        raise ValueError("a compressed picture can't be read: it is damaged, or of other pixels")
    return pixels


def _encoding(said: str) -> str:
    """The encoding of the picture before; "" where the format leaves that to the file.

    Raises:
        ValueError: an encoding that is not known.
    """
    encoding, separator, _ = said.partition(";")
    if not separator and encoding.strip().lower() in ("png", "jpeg", "jpg"):
        return ""
    if encoding not in _CHANNELS:
        raise ValueError(f"format {said!r}: expected an encoding of {', '.join(_CHANNELS)}")
    return encoding


def _size(data: bytes) -> tuple[int, int]:
    """Height and width that a PNG or JPEG claims, read without decoding it.

    Raises:
        ValueError: it is neither.
    """
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if data.startswith(_JPEG):
            return _jpeg_size(data)
    except struct.error:
        pass
    raise ValueError("a compressed picture is no PNG or JPEG")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """The size in the first frame header; segments lie one after the other before it."""
    at = len(_JPEG)
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker >> 8 != 0xFF:
            raise ValueError("a JPEG is damaged")
        # Frame headers are 0xFFC0 to 0xFFCF but for tables (C4), reserved (C8), arithmetic (CC).
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + length
