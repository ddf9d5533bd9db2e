"""camera: pictures of a device, a video file or a stream, stamped with their capture time.

A device or stream that is lost after it gave pictures is opened again until it is back.
"""

import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np

from rl_robot.bags.cdr import image_bytes
from rl_robot.errors import UserError
from rl_robot.perception.sources import VideoSource
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import camera_info_message
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters

REOPEN_PERIOD = 1.0  # s between two tries to open a camera that was lost


@dataclass(frozen=True)
class Parameters:
    """Parameters of the camera node."""

    robot: str = "arm"
    camera: str = ""  # which camera of the robot's YAML; empty: the first
    source: str = "0"  # device number, video file or stream address
    loop: bool = False  # begin a file again at its end


class CameraNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("camera")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        if not robot.cameras:
            raise UserError(f"robot '{robot.name}' has no camera: list one in its YAML")
        name = given.camera or robot.cameras[0].name
        self._camera = robot.camera(name)
        self._given = given
        self._source = self._open()
        self._image = self.publisher(topics.IMAGE_RAW, camera=name)
        self._info = self.publisher(topics.CAMERA_INFO, camera=name)
        self._count = 0
        self._reopened = 0
        self._closing = threading.Event()
        self._lost = ""  # why there are no pictures at present
        self._failure: Exception | None = None
        # A camera is read by waiting for it: in its own thread, so that health is still reported.
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()
        self.every(0.2, self._watch_reader)

    def _open(self) -> VideoSource:
        return VideoSource(
            self._given.source,
            loop=self._given.loop,
            width=self._camera.width,
            height=self._camera.height,
            rate=self._camera.rate,
        )

    def _read(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._read_source()
                except UserError as error:
                    # Never a picture: a wrong source, which trying again would not mend.
                    if not (self._source.live and self._count):
                        raise
                    self._reopen(str(error))
        except Exception as error:  # ends the node, not only this thread, which nobody would notice
            self._failure = error

    def _read_source(self) -> None:
        """Publish the source's pictures until it is lost or the node closes.

        Raises:
            UserError: a live source gives no more pictures, or a file has ended.
        """
        # A file's stamps count from 0: as capture times they begin when it is first read.
        offset = 0 if self._source.live else self.get_clock().now().nanoseconds
        began = time.monotonic()
        while not self._closing.is_set():
            picture = self._source.read()
            if picture is None:
                raise UserError(f"the video {self._given.source} has ended")
            stamp, rgb = picture
            if not self._source.live:
                self._closing.wait(max(0.0, began + stamp * 1e-9 - time.monotonic()))
            self._publish(stamp + offset, self._fitted(rgb))

    def _reopen(self, why: str) -> None:
        """Try once a second to open the source again, saying why, until it opens."""
        self._lost = why
        self._source.close()
        while not self._closing.wait(REOPEN_PERIOD):
            try:
                self._source = self._open()
            except UserError as error:
                self._lost = str(error)
            else:
                self._lost = ""
                self._reopened += 1
                return

    def _fitted(self, rgb: np.ndarray) -> np.ndarray:
        """Return the picture in the size that the calibration is for."""
        size = (self._camera.width, self._camera.height)
        if (rgb.shape[1], rgb.shape[0]) == size:
            return rgb
        if rgb.shape[1] * size[1] != rgb.shape[0] * size[0]:
            self.problem(
                f"pictures of {rgb.shape[1]}x{rgb.shape[0]} don't fit the calibration for "
                f"{size[0]}x{size[1]}: set the camera to that shape or calibrate it again"
            )
        return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)

    def _publish(self, stamp: int, rgb: np.ndarray) -> None:
        self._image.publish(image_bytes(rgb, stamp, self._camera.frame_id))
        self._info.publish(camera_info_message(self._camera, stamp))
        self._count += 1

    def _watch_reader(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._lost:
            self.problem(self._lost)
        self.health["pictures"] = str(self._count)
        self.health["reopened"] = str(self._reopened)

    def close(self) -> None:
        """Let the device go."""
        self._closing.set()
        self._reader.join(timeout=1.0)
        self._source.close()


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(CameraNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
