"""A calibration of a simulated robot: pictures of a board in its hand, whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rl_robot.calibration.board import Board
from rl_robot.calibration.gathering import hand_of
from rl_robot.calibration.views import Lens, inverse, moved, transform
from rl_robot.errors import UserError
from rl_robot.robots.description import Camera, Robot
from rl_robot.simulation.rendering import Renderer
from rl_robot.simulation.world import Scene, build_model

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_FINER = 3  # times the camera's pixels, then averaged as a sensor does
_PIXELS_PER_SQUARE = 96
_HALF_THICKNESS = 0.001  # m
_MARGIN = 0.006  # m of white paper around the squares
_GROUP = 1  # what cameras see
_TRIES = 200_000
_STEEPEST = np.cos(np.radians(60.0))  # of the board to the line of sight


class Rehearsal:
    """A robot that holds a board before its camera.

    The camera's pictures are drawn finer than its pixels and averaged, so that edges are as smooth
    as a sensor sees them; then come the lens' distortion and the sensor's noise.
    """

    def __init__(
        self, robot: Robot, scene: Scene, board: Board, camera: Camera, *, seed: int = 0
    ) -> None:
        """Build the model.

        Args:
            robot: whose hand holds the board.
            scene: what else is to be seen, and the light.
            board: which hangs from the tool, in the plane of its x axis, beyond the fingers.
            camera: where it really is, and what its lens really does.
            seed: of the poses and the sensor's noise.

        Raises:
            UserError: the robot cannot be simulated or no pictures can be drawn here.
        """
        self.board = board
        self.camera = camera
        self.held = _held(board)
        self._robot = robot
        self._hand = hand_of(robot)
        self._random = np.random.default_rng(seed)
        self._fine = _finer(camera)
        noiseless = replace(scene, objects={}, camera_noise=0.0)
        self._noise = scene.camera_noise
        self._model = build_model(
            replace(robot, cameras=(self._fine,)), noiseless, add=self._add_board
        )
        self._data = mujoco.MjData(self._model)
        self._renderer = Renderer(self._model, noise=0.0, seed=0)
        self._places = [int(self._model.joint(name).qposadr[0]) for name in robot.joint_names]

    def close(self) -> None:
        """Free the graphics memory."""
        self._renderer.close()

    def hand(self, joints: Array) -> Array:
        """Return the true pose (4, 4) of the hand."""
        return self._hand(joints)

    def poses(self, count: int) -> list[Array]:
        """Return joint positions (n_arm,) at which the board is before the camera, at random.

        Raises:
            UserError: there are hardly any.
        """
        found: list[Array] = []
        arm = len(self._robot.arm_joints)
        lower, upper = self._robot.lower[:arm], self._robot.upper[:arm]
        for _ in range(_TRIES):
            joints = self._random.uniform(lower, upper)
            if self._in_view(joints) and self.board.find(self.picture(joints)) is not None:
                found.append(joints)
                if len(found) == count:
                    return found
        raise UserError(f"{self._robot.name} hardly ever holds the board before its camera")

    def picture(self, joints: Array) -> Image:
        """Return what the camera sees with the arm there: (H, W, 3) RGB."""
        positions = self._robot.home_positions.copy()
        positions[: len(joints)] = joints
        self._data.qpos[self._places] = positions
        mujoco.mj_forward(self._model, self._data)
        fine = self._renderer.render(self._data, self._fine)
        size = (self.camera.width, self.camera.height)
        picture = cv2.resize(fine, size, interpolation=cv2.INTER_AREA).astype(np.float64)
        picture += self._random.normal(0.0, self._noise, picture.shape)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8)

    def _in_view(self, joints: Array) -> bool:
        pose = inverse(self.camera.pose) @ self._hand(joints) @ self.held
        centre = moved(pose, self.board.corners.mean(axis=0)[None])[0]
        if centre[2] < 0.2 or pose[:3, 2] @ centre < _STEEPEST * np.linalg.norm(centre):
            return False
        above = moved(self._hand(joints) @ self.held, self.board.corners)[:, 2]
        if above.min() < 2.0 * self.board.square:
            return False  # it would stand in the table
        lens = Lens.of(self.camera)
        pixels = lens.project(moved(pose, self.board.corners))
        inside = (pixels > 0).all(axis=1) & (pixels < (lens.width, lens.height)).all(axis=1)
        return bool(inside.mean() > 0.6)

    def _add_board(self, spec: mujoco.MjSpec) -> None:
        drawn = self.board.drawn(_PIXELS_PER_SQUARE)
        frame = round(_MARGIN / self.board.square * _PIXELS_PER_SQUARE)
        paper = np.pad(drawn, frame, constant_values=255)
        pixel = self.board.square / _PIXELS_PER_SQUARE
        height, width = paper.shape
        texture = spec.add_texture(
            name="charuco", type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height
        )
        texture.nchannel = 3
        texture.data = np.repeat(np.flipud(paper)[..., None], 3, axis=2).tobytes()
        material = spec.add_material(name="charuco", specular=0.0, shininess=0.0)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "charuco"
        middle = np.array([*self.board.size, 2.0 * _HALF_THICKNESS]) / 2.0  # of the paper
        turned = Rotation.from_matrix(self.held[:3, :3]).as_quat()[[3, 0, 1, 2]]
        body = spec.body(self._robot.tool_frame).add_body(
            name="charuco", pos=moved(self.held, middle[None])[0], quat=turned
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[width * pixel / 2.0, height * pixel / 2.0, _HALF_THICKNESS],
            material="charuco",
            group=_GROUP,
            contype=0,
            conaffinity=0,
            mass=0.05,
        )


def _held(board: Board) -> Array:
    """Return the board's pose (4, 4) in the hand: upright on the finger tips, facing along -y."""
    width, height = board.size
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    # A little off the hand's axes, as a board that somebody mounted is.
    rotation = rotation @ Rotation.from_rotvec([0.05, -0.03, 0.04]).as_matrix()
    return transform(rotation, np.array([-width / 2.0, 0.004, height + 0.03]))


def _finer(camera: Camera) -> Camera:
    """Return the camera with smaller pixels; a pixel's centre lies half of one from its edge."""
    return replace(
        camera,
        width=_FINER * camera.width,
        height=_FINER * camera.height,
        fx=_FINER * camera.fx,
        fy=_FINER * camera.fy,
        cx=_FINER * (camera.cx + 0.5) - 0.5,
        cy=_FINER * (camera.cy + 0.5) - 0.5,
    )
