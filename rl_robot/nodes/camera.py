"""camera: pictures of a device, a video file or a stream, stamped with their capture time."""

import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np

from rl_robot.errors import UserError
from rl_robot.perception.sources import VideoSource
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import camera_info_message, image_message
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters


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
        self._name = given.source
        self._source = VideoSource(
            given.source,
            loop=given.loop,
            width=self._camera.width,
            height=self._camera.height,
            rate=self._camera.rate,
        )
        self._image = self.publisher(topics.IMAGE_RAW, camera=name)
        self._info = self.publisher(topics.CAMERA_INFO, camera=name)
        self._count = 0
        self._closing = threading.Event()
        self._failure = ""  # of a live source, which may come back
        self._ended = False
        # A camera is read by waiting for it: in its own thread, so that health is still reported.
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()
        self.every(0.2, self._watch_reader)

    def _read(self) -> None:
        # A file's stamps count from 0: as capture times they begin when it is first read.
        offset = 0 if self._source.live else self.get_clock().now().nanoseconds
        began = time.monotonic()
        while not self._closing.is_set():
            try:
                picture = self._source.read()
            except UserError as error:
                self._failure = str(error)
                return
            if picture is None:
                self._ended = True
                return
            stamp, rgb = picture
            if not self._source.live:
                self._closing.wait(max(0.0, began + stamp * 1e-9 - time.monotonic()))
            self._publish(stamp + offset, self._fitted(rgb))

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
        self._image.publish(image_message(rgb, stamp, self._camera.frame_id))
        self._info.publish(camera_info_message(self._camera, stamp))
        self._count += 1
        self.health["pictures"] = str(self._count)

    def _watch_reader(self) -> None:
        if self._ended:
            raise UserError(f"the video {self._name} has ended")
        if self._failure:
            self.get_logger().error(self._failure)
            self.exit_code = 1

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
