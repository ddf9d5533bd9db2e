"""Camera images of a MuJoCo model, offscreen and fast on a CPU."""

import os
import weakref
from typing import Any

import cv2
import mujoco
import numpy as np

from rl_robot.errors import UserError
from rl_robot.robots.description import Camera
from rl_robot.simulation.imaging import Image, Imaging

_COLLISION_GROUP = 0
_MAX_GEOMS = 1000


# Each costs a pass over the picture, and there is no sky and no mirror in the scenes.
_NOT_SHOWN = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


class Renderer:
    """Renders a model's cameras with sensor noise. Use it in the thread that made it.

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
        self._imaging = Imaging(noise=noise, seed=seed, values=width * height * 3)

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
        return self._imaging.picture(cv2.flip(upside_down, 0), camera)

    def reseed(self, seed: int) -> None:
        """Start the noise's sequence again, as ``seed`` says."""
        self._imaging.reseed(seed)

    def close(self) -> None:
        """Free the graphics memory; more than once does nothing."""
        self._free()


def _free(gl: Any, context: mujoco.MjrContext) -> None:
    gl.make_current()  # else this would free what belongs to another renderer
    context.free()
    gl.free()


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
