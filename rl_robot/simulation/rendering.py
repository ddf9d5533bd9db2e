"""Camera images of a MuJoCo model, offscreen and fast on a CPU."""

import os
import weakref
from typing import Any

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError
from rl_robot.robots.description import Camera

Image = NDArray[np.uint8]
Map = NDArray[np.float32]

_COLLISION_GROUP = 0
_MAX_GEOMS = 1000
_NOISE_SPARE = 1 << 16  # how many different noise patterns the table holds


# Each costs a pass over the picture, and there is no sky and no mirror in the scenes.
_NOT_SHOWN = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


class Renderer:
    """Renders a model's cameras with sensor noise. Use it in the thread that made it.

    Noise is cut from one table of normal values at an offset that ``seed`` determines: cheap, and
    different in every picture, so that two identical pictures mean a camera that hangs.

    Raises:
        UserError: no offscreen OpenGL on this machine.
    """

    def __init__(self, model: mujoco.MjModel, *, noise: float, seed: int) -> None:
        width, height = model.vis.global_.offwidth, model.vis.global_.offheight
        self._gl = _open_gl(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        for flag in _NOT_SHOWN:
            self._scene.flags[flag] = False
        self._option = mujoco.MjvOption()
        # A robot without visual geometry is shown by its collision geometry.
        self._option.geomgroup[_COLLISION_GROUP] = not _has_visuals(model)
        self._free = weakref.finalize(self, _free, self._gl, self._context)
        self._free.atexit = False  # the display may be gone by then, and all of it goes with it
        self._lenses: dict[str, tuple[Map, Map]] = {}
        self.reseed(seed)
        table = np.random.default_rng(0).normal(0.0, noise, width * height * 3 + _NOISE_SPARE)
        self._noise = np.clip(np.rint(table), -127, 127).astype(np.int8)

    def render(self, data: mujoco.MjData, camera: Camera) -> Image:
        """Return what the camera sees in ``data``: RGB (H, W, 3) uint8."""
        camera_id = self._model.camera(camera.name).id
        width, height = camera.width, camera.height
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera_id
        self._gl.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, view, everything, self._scene)
        rect = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(rect, self._scene, self._context)
        upside_down = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, rect, self._context)
        return self._with_noise(self._through_lens(cv2.flip(upside_down, 0), camera))

    def reseed(self, seed: int) -> None:
        """Start the noise's sequence again, as ``seed`` says."""
        self._random = np.random.default_rng(seed)

    def close(self) -> None:
        """Free the graphics memory; more than once does nothing."""
        self._free()

    def _through_lens(self, image: Any, camera: Camera) -> Any:
        """Distort a pinhole camera's picture as the camera's lens does."""
        if not any(camera.distortion):
            return image
        if camera.name not in self._lenses:
            self._lenses[camera.name] = _lens(camera)
        columns, rows = self._lenses[camera.name]
        return cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _with_noise(self, image: Any) -> Image:
        offset = int(self._random.integers(_NOISE_SPARE))
        noise = self._noise[offset : offset + image.size].reshape(image.shape)
        return cv2.add(image, noise, dst=image, dtype=cv2.CV_8U)


def _free(gl: Any, context: mujoco.MjrContext) -> None:
    gl.make_current()  # else this would free what belongs to another renderer
    context.free()
    gl.free()


def _lens(camera: Camera) -> tuple[Map, Map]:
    """Return the column and row (H, W) where a pinhole camera sees what each pixel shows."""
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    matrix, distortion = camera.matrix, np.array(camera.distortion)
    ideal = cv2.undistortPoints(pixels, matrix, distortion, P=matrix)
    ideal = ideal.astype(np.float32).reshape(camera.height, camera.width, 2)
    return np.ascontiguousarray(ideal[..., 0]), np.ascontiguousarray(ideal[..., 1])


def _has_visuals(model: mujoco.MjModel) -> bool:
    """Whether the robot has geometry for show only, which is how URDF's visuals arrive."""
    robot = model.geom_bodyid > 0  # the world's own geometry is the scene's
    shown = (model.geom_contype == 0) & (model.geom_conaffinity == 0)
    return bool(np.any(robot & shown))


def _open_gl(width: int, height: int) -> Any:
    backend = os.environ.get("MUJOCO_GL") or "egl"
    try:
        if backend == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco.egl import GLContext
        return GLContext(width, height)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"no offscreen rendering with MUJOCO_GL={backend} ({error}): install "
            "libegl1 libgl1-mesa-dri libgles2, or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error
