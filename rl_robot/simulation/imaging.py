"""What a camera adds to the picture that a renderer drew: its lens and its noise."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rl_robot.robots.description import Camera

Image = NDArray[np.uint8]
_Map = NDArray[np.float32]

_NOISE_SPARE = 1 << 16  # how many different noise patterns the table holds


class Imaging:
    """Lens and noise of a robot's cameras.

    Noise is cut from one table of normal values at an offset that ``seed`` determines: cheap, and
    different in every picture, so that two identical pictures mean a camera that hangs.

    Args:
        noise: standard deviation in grey levels.
        seed: of the noise's sequence.
        values: numbers in the largest picture, height times width times 3.
    """

    def __init__(self, *, noise: float, seed: int, values: int) -> None:
        self._lenses: dict[str, tuple[_Map, _Map]] = {}
        self.reseed(seed)
        table = np.random.default_rng(0).normal(0.0, noise, values + _NOISE_SPARE)
        self._noise = np.clip(np.rint(table), -127, 127).astype(np.int8)

    def reseed(self, seed: int) -> None:
        """Start the noise's sequence again, as ``seed`` says."""
        self._random = np.random.default_rng(seed)

    def picture(self, drawn: Any, camera: Camera) -> Image:
        """Return what ``camera`` makes of a pinhole camera's picture, RGB (H, W, 3) uint8.

        ``drawn`` may be written to.
        """
        image: Any = self._through_lens(drawn, camera)
        offset = int(self._random.integers(_NOISE_SPARE))
        noise = self._noise[offset : offset + image.size].reshape(image.shape)
        cv2.add(image, noise, dst=image, dtype=cv2.CV_8U)
        return image

    def _through_lens(self, image: Any, camera: Camera) -> Any:
        """Distort a pinhole camera's picture as the camera's lens does."""
        if not any(camera.distortion):
            return image
        if camera.name not in self._lenses:
            self._lenses[camera.name] = _lens(camera)
        columns, rows = self._lenses[camera.name]
        return cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _lens(camera: Camera) -> tuple[_Map, _Map]:
    """Return the column and row (H, W) where a pinhole camera sees what each pixel shows."""
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    matrix, distortion = camera.matrix, np.array(camera.distortion)
    ideal = cv2.undistortPoints(pixels, matrix, distortion, P=matrix)
    ideal = ideal.astype(np.float32).reshape(camera.height, camera.width, 2)
    return np.ascontiguousarray(ideal[..., 0]), np.ascontiguousarray(ideal[..., 1])
