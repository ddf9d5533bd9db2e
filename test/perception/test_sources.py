from pathlib import Path

import cv2
import numpy as np
import pytest

from rl_robot.errors import UserError
from rl_robot.perception import sources
from rl_robot.perception.sources import VideoSource, device_stamp

FRAMES = 5
PERIOD_NS = 100_000_000


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five frames at 10 Hz, red growing from frame to frame, blue falling."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for index in range(FRAMES):
        bgr = np.zeros((48, 64, 3), np.uint8)
        bgr[:] = (200 - 40 * index, 10, 20 + 40 * index)
        writer.write(bgr)
    writer.release()
    return path


def test_file_gives_rgb_frames_at_their_positions_then_ends(video: Path) -> None:
    with VideoSource(video) as source:
        frames = [source.read() for _ in range(FRAMES)]
        assert source.read() is None
        assert source.read() is None
    assert not source.live
    assert source.period == pytest.approx(0.1)
    for index, frame in enumerate(frames):
        assert frame is not None
        stamp_ns, rgb = frame
        assert stamp_ns == pytest.approx(index * PERIOD_NS, abs=1000)
        assert rgb.shape == (48, 64, 3)
        assert rgb.dtype == np.uint8
        assert rgb[24, 32] == pytest.approx((20 + 40 * index, 10, 200 - 40 * index), abs=6)


def test_loop_goes_on_with_advancing_stamps(video: Path) -> None:
    with VideoSource(str(video), loop=True) as source:
        frames = [source.read() for _ in range(2 * FRAMES + 2)]
    stamps = [frame[0] for frame in frames if frame is not None]
    assert len(stamps) == 2 * FRAMES + 2
    assert np.diff(stamps) == pytest.approx(PERIOD_NS, abs=1000)
    first, again = frames[0], frames[FRAMES]
    assert first is not None
    assert again is not None
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize("name", ["63", "/dev/video63", "missing.mp4", "http://127.0.0.1:9/x"])
def test_missing_sources_are_named(name: str) -> None:
    with pytest.raises(UserError, match="no camera") as caught:
        VideoSource(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_device_by_number() -> None:
    with pytest.raises(UserError, match="no camera 63"):
        VideoSource(63)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video " * 50)
    with pytest.raises(UserError, match=r"no camera .*notes\.mp4"):
        VideoSource(path)


def test_file_cut_off_ends_early_and_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    random = np.random.default_rng(0)
    for _ in range(40):
        writer.write(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with VideoSource(path) as source:
        count = 0
        while source.read() is not None:
            count += 1
            assert count < 40
    assert count >= 5


def test_driver_time_becomes_system_time() -> None:
    steady_ns, system_ns = 50_000_000_000, 1_700_000_000_000_000_000
    assert device_stamp(49_970.0, steady_ns, system_ns) == system_ns - 30_000_000


@pytest.mark.parametrize("position_ms", [0.0, -1.0, 50_001.0, float("nan"), float("inf")])
def test_implausible_driver_time_falls_back_to_the_grab(position_ms: float) -> None:
    assert device_stamp(position_ms, 50_000_000_000, 123_000_000_000) == 123_000_000_000


class UnpluggedCamera:
    """Gives two images, then fails as an unplugged camera does."""

    def __init__(self, *_: object) -> None:
        self.left = 2

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, *_: object) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6, 3), (0, 0, 255), np.uint8)

    def release(self) -> None:
        pass


def test_unplugged_camera_is_an_error_not_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", UnpluggedCamera)
    monkeypatch.setattr(sources.Path, "exists", lambda _: True)
    source = VideoSource(0)
    assert source.live
    frames = [source.read(), source.read()]
    assert all(frame is not None and (frame[1] == (255, 0, 0)).all() for frame in frames)
    with pytest.raises(UserError, match="camera 0 gives no more images"):
        source.read()
