"""Decides whether an image message may be used, before anything looks at its content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rl_robot.robots.description import Camera

Image = NDArray[np.uint8]

_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


class ImageCheck:
    """Checks one camera's images in the order they arrive.

    ``counts`` holds how many images had each problem: "malformed", "stamp", "frozen" (none of
    these is used) and "dropped" (how many images are missing; the ones that did come are used).
    """

    def __init__(self, camera: Camera | None = None, *, frozen_after: int = 3) -> None:
        """Set what is right.

        Args:
            camera: gives the size that its calibration is for, and the rate; without it any size
                is taken and missing images aren't noticed.
            frozen_after: so many images in a row with equal content are one too many: sensor
                noise makes every real image differ. The ones before are used.
        """
        if frozen_after < 2:
            raise ValueError(f"frozen_after must be at least 2, not {frozen_after}")
        self._size = None if camera is None else (camera.width, camera.height)
        self._period_ns = None if camera is None else round(1e9 / camera.rate)
        self._frozen_after = frozen_after
        self.counts = {"malformed": 0, "stamp": 0, "frozen": 0, "dropped": 0}
        self.reset()

    def reset(self) -> None:
        """Forget the images seen, as when the clock was set back; the counts stay."""
        self._stamp_ns: int | None = None
        self._content: Image | None = None
        self._equal = 1

    def check(
        self, *, stamp_ns: int, width: int, height: int, encoding: str, step: int, data: Any
    ) -> tuple[Image | None, str | None]:
        """Return the image and what is wrong with it, in words.

        ``(image, None)`` is sound; ``(None, problem)`` must not be used; ``(image, problem)`` is
        sound but images before it are missing.

        Args:
            stamp_ns: when it was captured.
            width, height, encoding, step, data: as in sensor_msgs/Image; data is anything with
                a buffer (bytes, array.array, numpy array). rgb8, bgr8 and mono8 are understood.

        Returns:
            The image is (height, width, 3) uint8 RGB; it may share memory with ``data``.
        """
        pixels, problem = _decode(width, height, encoding, step, data)
        if problem is None:
            problem = self._wrong_size(width, height)
        if pixels is None or problem is not None:
            self.counts["malformed"] += 1
            return None, problem
        previous = self._stamp_ns
        if previous is not None and stamp_ns <= previous:
            self.counts["stamp"] += 1
            return None, f"stamp not advancing: {stamp_ns} ns after {previous} ns"
        self._stamp_ns = stamp_ns
        if self._frozen(pixels):
            self.counts["frozen"] += 1
            return None, f"frozen: {self._equal} images in a row are the same"
        return _to_rgb(pixels, encoding), self._dropped(previous, stamp_ns)

    def _wrong_size(self, width: int, height: int) -> str | None:
        if self._size is None or (width, height) == self._size:
            return None
        return f"malformed: {width}x{height}, the camera is {self._size[0]}x{self._size[1]}"

    def _frozen(self, pixels: Image) -> bool:
        same = (
            self._content is not None
            and self._content.shape == pixels.shape
            and np.array_equal(self._content, pixels)
        )
        self._equal = self._equal + 1 if same else 1
        if not same:
            self._content = pixels.copy()
        return self._equal >= self._frozen_after

    def _dropped(self, previous: int | None, stamp_ns: int) -> str | None:
        if previous is None or self._period_ns is None:
            return None
        gap = stamp_ns - previous
        if 2 * gap <= 3 * self._period_ns:
            return None
        missing = max(1, round(gap / self._period_ns) - 1)
        self.counts["dropped"] += missing
        return f"dropped: {missing} missing in the {gap / 1e9:.3f} s before this one"


def _decode(
    width: int, height: int, encoding: str, step: int, data: Any
) -> tuple[Image | None, str | None]:
    """Return a view (height, width, channels) on the data, or what is malformed."""
    channels = _CHANNELS.get(encoding)
    if channels is None:
        known = ", ".join(_CHANNELS)
        return None, f"malformed: encoding {str(encoding)[:32]!r} is none of {known}"
    if width < 1 or height < 1:
        return None, f"malformed: size {width}x{height}"
    if step < width * channels:
        return None, f"malformed: rows of {step} bytes are too short for {width} {encoding} pixels"
    try:
        flat = np.frombuffer(data, dtype=np.uint8)
    except (TypeError, ValueError, BufferError):
        # An empty buffer is refused by numpy; so is what has no contiguous buffer at all.
        flat = np.empty(0, dtype=np.uint8)
    if len(flat) != step * height:
        return None, f"malformed: {len(flat)} bytes instead of {step * height}"
    rows = flat.reshape(height, step)[:, : width * channels]
    return rows.reshape(height, width, channels), None


def _to_rgb(pixels: Image, encoding: str) -> Image:
    if encoding == "rgb8":
        return pixels
    code = cv2.COLOR_BGR2RGB if encoding == "bgr8" else cv2.COLOR_GRAY2RGB
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), dtype=np.uint8)
