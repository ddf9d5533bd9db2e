"""Images with capture stamps from a camera, a video file or a network stream, through OpenCV."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError

_OPEN_TIMEOUT_MS = 5000
_MAX_DRIVER_AGE_NS = 1_000_000_000


class VideoSource:
    """One source of images; ``read`` gives them one after the other.

    Stamps are when an image was captured, in nanoseconds:

    - device: the driver's own capture time where it gives one (V4L2, steady clock), else the
      moment the image was grabbed; on the system clock, as other sensors stamp.
    - stream: the moment the image was grabbed, on the system clock: what the network and the
      sender took before that isn't known here.
    - file: the position in the video, from 0; looping goes on counting.
    """

    def __init__(
        self,
        source: int | str | Path,
        *,
        loop: bool = False,
        width: int | None = None,
        height: int | None = None,
        rate: float | None = None,
    ) -> None:
        """Open the source.

        Args:
            source: device number or path (0, "0", "/dev/video0"), video file, or stream URL.
            loop: start a file again when it ends.
            width, height, rate: asked of a device (px, Hz), which may give something else.

        Raises:
            UserError: no such camera, or nothing that can be read as video.
        """
        self._name = str(source)
        self._loop = loop
        self._device = _device_number(self._name)
        self._live = self._device is not None or "://" in self._name
        self._capture = self._open()
        if self._device is not None:
            self._configure(width, height, rate)
        elif self._live and self._capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
            self._live = False  # the URL of a recording, which may end
        rate_of_file = self._capture.get(cv2.CAP_PROP_FPS)
        known = math.isfinite(rate_of_file) and rate_of_file > 0
        self._period_ns = round(1e9 / (rate_of_file if known else 30.0))
        self._base_ns = 0
        self._stamp_ns: int | None = None

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def live(self) -> bool:
        """Whether images come at their own pace (device, stream) instead of as fast as read."""
        return self._live

    @property
    def period(self) -> float:
        """The time from one image to the next as the source declares it (s)."""
        return self._period_ns / 1e9

    def close(self) -> None:
        """Let the device or file go."""
        self._capture.release()

    def read(self) -> tuple[int, NDArray[np.uint8]] | None:
        """Return the next image as (stamp_ns, (H, W, 3) uint8 RGB), None at the end of a file.

        Blocks until a live source has one.

        Raises:
            UserError: a live source gives no more images.
        """
        image = self._next()
        if image is None and self._live:
            raise UserError(f"camera {self._name} gives no more images: check that it is connected")
        if image is None and self._loop and self._stamp_ns is not None:
            self._capture.release()
            self._capture = self._open()
            self._base_ns = self._stamp_ns + self._period_ns
            image = self._next()
        if image is None:
            return None
        self._stamp_ns = image[0]
        return image

    def _next(self) -> tuple[int, NDArray[np.uint8]] | None:
        if not self._capture.grab():
            return None
        steady_ns, system_ns = time.monotonic_ns(), time.time_ns()
        read, bgr = self._capture.retrieve()
        if not read or bgr is None or bgr.size == 0:
            return None
        position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if self._device is not None:
            stamp_ns = device_stamp(position_ms, steady_ns, system_ns)
        elif self._live:
            stamp_ns = system_ns
        else:
            stamp_ns = self._file_stamp(position_ms)
        code = cv2.COLOR_GRAY2RGB if bgr.ndim == 2 else cv2.COLOR_BGR2RGB
        return stamp_ns, np.asarray(cv2.cvtColor(bgr, code), dtype=np.uint8)

    def _file_stamp(self, position_ms: float) -> int:
        """Return the position, or one period on where the file doesn't say (it must advance)."""
        position = round(position_ms * 1e6) if math.isfinite(position_ms) else 0
        stamp_ns = self._base_ns + position
        if self._stamp_ns is not None and stamp_ns <= self._stamp_ns:
            return self._stamp_ns + self._period_ns
        return stamp_ns

    def _open(self) -> cv2.VideoCapture:
        # What FFmpeg and OpenCV print about a source that can't be opened is said once, below.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            if self._device is not None:
                capture = self._open_device(self._device)
            else:
                capture = self._open_video()
        finally:
            cv2.utils.logging.setLogLevel(level)
        return capture

    def _open_device(self, number: int) -> cv2.VideoCapture:
        linux = sys.platform.startswith("linux")
        if linux and not Path(f"/dev/video{number}").exists():
            raise UserError(
                f"no camera {self._name}: there is no /dev/video{number}; connect a camera, or "
                "give a video file or a stream URL"
            )
        capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
        if not capture.isOpened():
            raise UserError(
                f"no camera {self._name}: it can't be opened; check that nothing else uses it and "
                "that you may read it"
            )
        return capture

    def _open_video(self) -> cv2.VideoCapture:
        if "://" not in self._name and not Path(self._name).is_file():
            raise UserError(
                f"no camera {self._name}: it is no device number, video file or stream URL"
            )
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
        capture = cv2.VideoCapture(self._name, cv2.CAP_FFMPEG, timeouts)
        if not capture.isOpened():
            kind = "stream that answers" if "://" in self._name else "video that can be read"
            raise UserError(f"no camera {self._name}: it is no {kind}")
        return capture

    def _configure(self, width: int | None, height: int | None, rate: float | None) -> None:
        # One buffered image, so that a slow reader gets the newest and not a queue of old ones.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        asked = (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, rate),
        )
        for key, value in asked:
            if value is not None:
                self._capture.set(key, value)


def device_stamp(position_ms: float, steady_ns: int, system_ns: int) -> int:
    """Return a device image's capture time on the system clock (ns).

    position_ms is what the driver says: with V4L2 the capture time on the steady clock. What lies
    in the future or over a second back is no such time, and the moment of the grab is taken.

    Args:
        position_ms: OpenCV's CAP_PROP_POS_MSEC.
        steady_ns, system_ns: both clocks at the grab.
    """
    if not math.isfinite(position_ms):
        return system_ns
    age = steady_ns - round(position_ms * 1e6)
    return system_ns - age if 0 <= age <= _MAX_DRIVER_AGE_NS else system_ns


def _device_number(name: str) -> int | None:
    digits = name.removeprefix("/dev/video")
    return int(digits) if digits.isascii() and digits.isdigit() else None
