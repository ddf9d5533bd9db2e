"""Pictures to and from the videos of a data set, through PyAV."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from rl_robot.errors import UserError

# A frame is found from the key frame before it: every second is one, as LeRobot has it.
_KEY_FRAME_EVERY = "2"
_PIXEL_CHANNELS = 3


class VideoWriter:
    """Writes one MP4 of RGB pictures of one size at a constant rate.

    H.264 where this PyAV brings x264, otherwise AV1: LeRobot's readers decode both.
    """

    def __init__(self, path: Path, *, fps: float, height: int, width: int, crf: int) -> None:
        """Open the file, which must not exist; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = 0
        self.bytes = 0  # of what the encoder has given out so far
        self._size = (height, width)
        self._container = av.open(str(path), "w")
        codec, options = ("libx264", {"bf": "0"})
        if codec not in av.codecs_available:
            codec, options = ("libsvtav1", {"preset": "10"})
        rate = Fraction(fps).limit_denominator(1000)
        stream = self._container.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height = width, height
        # Colours at half the resolution need an even size.
        self._stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        self._stream.options = {"crf": str(crf), "g": _KEY_FRAME_EVERY, **options}

    def info(self) -> dict[str, object]:
        """What ``info.json`` says of the video."""
        height, width = self._size
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self._stream.codec.canonical_name,
            "video.pix_fmt": self._stream.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": int(self._stream.codec_context.framerate or 0),
            "video.channels": _PIXEL_CHANNELS,
            "has_audio": False,
        }

    def write(self, pictures: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Add (H, W, 3) pictures."""
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = self.frames
            self._mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        """Write what is buffered, and the index."""
        self._mux(self._stream.encode())
        self._container.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self._container.close()

    def _mux(self, packets: "list[av.Packet]") -> None:
        self.bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)


def read_frames(
    path: Path, times: Iterable[float], *, height: int, width: int, tolerance: float
) -> Iterator[npt.NDArray[np.uint8]]:
    """The (H, W, 3) pictures at these times (s, ascending), one at a time.

    Raises:
        UserError: there is no such video, it is damaged, its pictures have another size, or it has
            none within ``tolerance`` (s) of a time.
    """
    if not path.is_file():
        raise UserError(f"there is no video {path}")
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or getattr(stream, "codec_context", None) is None:
                raise UserError(f"{path} holds no video that can be decoded")
            _check_size(path, stream.height, stream.width, (height, width))
            yield from _frames(path, container, stream, times, (height, width), tolerance)
    except av.error.FFmpegError as error:
        raise UserError(f"{path} is damaged ({error})") from None


def _frames(
    path: Path,
    container: "av.container.InputContainer",
    stream: VideoStream,
    times: Iterable[float],
    size: tuple[int, int],
    tolerance: float,
) -> Iterator[npt.NDArray[np.uint8]]:
    decoded: Iterator[av.VideoFrame] | None = None
    for time in times:
        if decoded is None:
            if time > 0 and stream.time_base:
                container.seek(max(0, int((time - tolerance) / stream.time_base)), stream=stream)
            decoded = container.decode(stream)
        frame = next((f for f in decoded if f.time is None or f.time >= time - tolerance), None)
        if frame is None or frame.time is None or frame.time > time + tolerance:
            raise UserError(f"{path} has no picture at {time:.3f} s")
        # The file may say one size and hold another.
        _check_size(path, frame.height, frame.width, size)
        yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _check_size(path: Path, height: int, width: int, expected: tuple[int, int]) -> None:
    if (height, width) != expected:
        raise UserError(
            f"{path}: its pictures have {width}x{height} pixels, "
            f"info.json says {expected[1]}x{expected[0]}"
        )
