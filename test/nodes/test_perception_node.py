"""The perception and camera nodes: good pictures are used, bad ones named and never used."""

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import image_message, numbers, pose_arrays, stamp_ns
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

ROBOT = load_robot("arm")
CAMERA = ROBOT.cameras[0]
PERIOD_NS = 100_000_000
PLACE = (0.41, 0.03, 0.2)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Pictures of a block at PLACE, and as the last one of a table without any in sight."""
    simulator = Simulator(ROBOT, load_scene("table"))
    simulator.place("block", *PLACE)
    seen = [simulator.render(CAMERA.name) for _ in range(8)]
    hidden = seen[-1].copy()
    hidden[:] = np.random.default_rng(0).integers(90, 110, hidden.shape, dtype=np.uint8)
    simulator.close()
    return [*seen, hidden]


class Rig:
    """Shows pictures to one perception node."""

    def __init__(self, bench: Any, **parameters: object) -> None:
        self.bench = bench
        self.stamp = PERIOD_NS
        self.images = bench.publisher(topics.IMAGE_RAW, camera=CAMERA.name)
        self.ages = bench.collect(topics.PERCEPTION_AGES)
        self.poses = bench.collect(topics.OBJECT_POSE, object="block")
        self.small = bench.collect(topics.PERCEPTION_IMAGE)
        bench.start("perception", **parameters)
        bench.until(lambda: "perception" in bench.health)
        bench.until(lambda: self.images.get_subscription_count() == 1)

    def show(self, picture: np.ndarray, *, answered: bool = True, **changes: Any) -> None:
        message = image_message(picture, self.stamp, CAMERA.frame_id)
        for name, value in changes.items():
            setattr(message, name, value)
        before = len(self.ages)
        self.images.publish(message)
        if answered:
            self.bench.until(lambda: len(self.ages) > before and len(self.small) == len(self.ages))
        else:
            self.bench.spin(0.4)
            assert len(self.ages) == before
        self.stamp += PERIOD_NS


def test_a_picture_becomes_a_pose_a_small_picture_and_a_tick(
    bench: Any, pictures: list[np.ndarray]
) -> None:
    rig = Rig(bench)
    rig.show(pictures[0])
    assert stamp_ns(rig.ages[0]) == stamp_ns(rig.small[0]) == PERIOD_NS
    assert numbers(rig.ages[0]) == {"block": 0.0}
    bench.until(lambda: rig.poses)
    position, _ = pose_arrays(rig.poses[0])
    assert stamp_ns(rig.poses[0]) == PERIOD_NS
    assert rig.poses[0].header.frame_id == ROBOT.base_frame
    np.testing.assert_allclose(position[:2], PLACE[:2], atol=0.006)
    assert (rig.small[0].height, rig.small[0].width) == (64, 64)


def test_while_hidden_the_pose_is_held_and_its_age_grows(
    bench: Any, pictures: list[np.ndarray]
) -> None:
    rig = Rig(bench)
    rig.show(pictures[0])
    empty = pictures[-1]
    for shift in range(3):
        rig.show(np.roll(empty, shift, axis=1))
    bench.until(lambda: len(rig.poses) == 4)
    assert {stamp_ns(pose) for pose in rig.poses} == {PERIOD_NS}
    ages = [numbers(message)["block"] for message in rig.ages]
    np.testing.assert_allclose(ages, [0.0, 0.1, 0.2, 0.3], atol=1e-9)


def test_before_the_first_sight_there_is_a_tick_but_no_pose(
    bench: Any, pictures: list[np.ndarray]
) -> None:
    rig = Rig(bench)
    rig.show(pictures[-1])
    assert numbers(rig.ages[0]) == {}
    assert rig.poses == []


def test_bad_pictures_are_reported_and_never_used(bench: Any, pictures: list[np.ndarray]) -> None:
    rig = Rig(bench)
    rig.show(pictures[0])
    rig.show(pictures[1], answered=False, encoding="bayer_rggb8")
    rig.show(pictures[1], answered=False, data=b"\x00" * 100)
    rig.show(pictures[1], answered=False, step=1)
    rig.show(pictures[1], answered=False, width=640)
    bench.until(lambda: bench.health["perception"]["pictures_refused"] == "4")
    rig.show(pictures[1])  # and a good one is used again


def test_a_frozen_camera_is_noticed(bench: Any, pictures: list[np.ndarray]) -> None:
    rig = Rig(bench)
    same = pictures[0]
    rig.show(same)
    rig.show(same)
    rig.show(same, answered=False)
    rig.show(same, answered=False)
    bench.until(lambda: any("frozen" in problem for problem in bench.problems))
    rig.show(pictures[1])


def test_a_clock_that_was_set_back_is_followed(bench: Any, pictures: list[np.ndarray]) -> None:
    rig = Rig(bench)
    rig.stamp = 50 * PERIOD_NS
    rig.show(pictures[0])
    rig.stamp = PERIOD_NS
    rig.show(pictures[1])
    assert numbers(rig.ages[-1]) == {"block": 0.0}


def test_a_camera_that_falls_silent_is_reported(bench: Any, pictures: list[np.ndarray]) -> None:
    rig = Rig(bench)
    rig.show(pictures[0])
    silence = f"{CAMERA.name}: no picture for"
    bench.until(lambda: any(silence in problem for problem in bench.problems))
    bench.until(lambda: float(bench.health["perception"]["camera_silent_s"]) > 1.0)
    before = rig.ages[-1]
    rig.show(pictures[1])  # and it is used again when it comes back
    assert rig.ages[-1] is not before


def test_a_camera_that_never_speaks_is_reported(bench: Any) -> None:
    bench.start("perception", pace="paced")
    bench.until(lambda: any("no picture for" in problem for problem in bench.problems))
    assert bench.health["perception"]["pictures"] == "0"


def test_a_paced_camera_may_wait_for_the_graph(bench: Any, pictures: list[np.ndarray]) -> None:
    rig = Rig(bench, pace="paced")
    rig.show(pictures[0])
    bench.until(lambda: float(bench.health["perception"]["camera_silent_s"]) > 1.0)
    assert not any("no picture" in problem for problem in bench.problems)


def test_the_camera_node_gives_a_videos_pictures(bench: Any, tmp_path: Path) -> None:
    video = tmp_path / "video.avi"
    size = (CAMERA.width, CAMERA.height)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, size)
    for shade in range(0, 200, 10):
        writer.write(np.full((size[1], size[0], 3), shade, np.uint8))
    writer.release()
    heard = bench.collect(topics.IMAGE_RAW, camera=CAMERA.name)
    infos = bench.collect(topics.CAMERA_INFO, camera=CAMERA.name)
    bench.start("camera", source=video, loop=True)
    bench.until(lambda: len(heard) >= 5 and len(infos) >= 5)
    stamps = [stamp_ns(message) for message in heard]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))
    assert (heard[0].width, heard[0].height, heard[0].encoding) == (*size, "rgb8")
    assert infos[0].k[0] == CAMERA.fx


def test_no_camera_is_one_clear_line(bench: Any) -> None:
    process = bench.start("camera", source="/dev/video97")
    assert process.wait(timeout=60) == 2
    lines = bench.log("camera").strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "/dev/video97" in lines[-1]
    assert "Traceback" not in bench.log("camera")


class NetworkCamera:
    """A motion JPEG stream on a port of this machine, which can be unplugged and plugged in."""

    def __init__(self) -> None:
        camera = self
        self._unplugged = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if camera._unplugged.is_set():
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=picture")
                self.end_headers()
                camera._stream(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/camera.mjpg"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        shades = itertools.cycle(range(0, 250, 5))
        while not self._unplugged.wait(0.05):
            picture = np.full((CAMERA.height, CAMERA.width, 3), next(shades), np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                handler.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:  # nobody looks any more
                return

    def unplug(self) -> None:
        self._unplugged.set()

    def plug_in(self) -> None:
        self._unplugged.clear()

    def close(self) -> None:
        self.unplug()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def network_camera() -> Iterator[NetworkCamera]:
    camera = NetworkCamera()
    yield camera
    camera.close()


def test_a_camera_that_is_unplugged_for_a_while_is_opened_again(
    bench: Any, network_camera: NetworkCamera
) -> None:
    heard = bench.collect(topics.IMAGE_RAW, camera=CAMERA.name)
    process = bench.start("camera", source=network_camera.address)
    bench.until(lambda: len(heard) >= 3)
    network_camera.unplug()
    bench.until(lambda: any("no camera" in problem for problem in bench.problems))
    before = len(heard)
    network_camera.plug_in()
    bench.until(lambda: len(heard) >= before + 3)
    bench.until(lambda: bench.health["camera"]["reopened"] == "1")
    assert process.poll() is None
    stamps = [stamp_ns(message) for message in heard]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


def test_whatever_goes_wrong_in_the_reading_thread_ends_the_node(
    bench: Any, network_camera: NetworkCamera
) -> None:
    """The picture can't be fitted: here because the code that does it is broken."""
    broken = (
        "import sys; from rl_robot.nodes import camera\n"
        "def fail(*_): raise RuntimeError('no memory')\n"
        "camera.CameraNode._fitted = fail\n"
        "sys.exit(camera.main(sys.argv))"
    )
    process = bench.start("camera", code=broken, source=network_camera.address)
    assert process.wait(timeout=60) == 1
    assert "RuntimeError: no memory" in bench.log("camera")
