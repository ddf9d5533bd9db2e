"""A simulated robot that behaves like a real arm's drivers and cameras."""

from collections.abc import Mapping
from itertools import pairwise

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from rl_robot.robots.description import Robot
from rl_robot.simulation.drivers import Array, Drivers, JointSample
from rl_robot.simulation.imaging import Image
from rl_robot.simulation.placing import check_object, resting_pose, resting_poses
from rl_robot.simulation.rendering import Renderer
from rl_robot.simulation.world import Scene, build_model


class Simulator:
    """A robot in a scene. The same seed and calls give the same samples and images.

    Args:
        robot: the robot.
        scene: what stands around it.
        seed: of the cameras' noise.
        physics_step: s; the period of the joint states must be a multiple of it.

    Raises:
        UserError: the robot cannot be simulated as described.
    """

    def __init__(
        self, robot: Robot, scene: Scene, *, seed: int = 0, physics_step: float = 0.005
    ) -> None:
        self._robot = robot
        self._scene = scene
        self._seed = seed
        self._drivers = Drivers(robot, physics_step=physics_step)
        self._model = build_model(robot, scene, physics_step=self._drivers.step_ns * 1e-9)
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(name) for name in robot.joint_names]
        self._positions = np.array([joint.qposadr[0] for joint in joints])
        self._velocities = np.array([joint.dofadr[0] for joint in joints])
        self._actuators = np.array([self._model.actuator(n).id for n in robot.joint_names])
        gains = self._model.actuator_gainprm[self._actuators, 0]
        # Added to a position set point, this times its velocity cancels the servo's lag.
        self._lead = -self._model.actuator_biasprm[self._actuators, 2] / gains
        self._renderer: Renderer | None = None
        self._steps = 0
        self.reset({})

    @property
    def time_ns(self) -> int:
        """Simulated time since the start, ns."""
        return self._steps * self._drivers.step_ns

    def command(self, interface: str, times: ArrayLike, positions: ArrayLike) -> None:
        """Follow a trajectory from now on: linear from the present set point, then hold.

        Args:
            interface: name of one of the robot's command interfaces.
            times: (H,) seconds from now, not negative, rising.
            positions: (H, k) in the order of the interface's joints.

        Raises:
            UserError: unknown interface.
            ValueError: wrong shapes, times that don't rise, or a value that is not finite.
        """
        self._drivers.command(self.time_ns, interface, times, positions, self._measured)

    def advance(self, duration: float) -> list[JointSample]:
        """Simulate ``duration`` seconds and return the joint samples, the last at the new time.

        Raises:
            ValueError: ``duration`` is not a positive multiple of the joint states' period.
        """
        set_points = self._drivers.set_points(self.time_ns, self._drivers.samples_in(duration))
        samples = []
        for before, after in pairwise(set_points):
            velocity = (after - before) / (self._drivers.sample_ns * 1e-9)
            self._data.ctrl[self._actuators] = (before + after) / 2.0 + self._lead * velocity
            mujoco.mj_step(self._model, self._data, nstep=self._drivers.steps_per_sample)
            self._steps += self._drivers.steps_per_sample
            samples.append(self.joint_sample())
        return samples

    def joint_sample(self) -> JointSample:
        """Return what the encoders say now."""
        return JointSample(
            stamp_ns=self.time_ns,
            positions=self._measured(),
            velocities=self._data.qvel[self._velocities],
            efforts=self._data.actuator_force[self._actuators],
        )

    def timed_out(self, interface: str) -> bool:
        """Whether the driver holds because no command came for its timeout.

        Raises:
            UserError: unknown interface.
        """
        return self._drivers.timed_out(self.time_ns, interface)

    def render(self, camera: str) -> Image:
        """Return what the camera sees now: RGB (H, W, 3) uint8, with sensor noise.

        Raises:
            UserError: unknown camera, or no offscreen rendering on this machine.
        """
        description = self._robot.camera(camera)
        if self._renderer is None:
            noise = self._scene.camera_noise
            self._renderer = Renderer(self._model, noise=noise, seed=self._seed)
        return self._renderer.render(self._data, description)

    def place(self, object: str, x: float, y: float, yaw: float) -> None:  # noqa: A002
        """Put an object at rest on the table, its centre at (x, y) m, turned by yaw rad.

        Raises:
            UserError: unknown object, values that are not finite, or a place beside the table.
        """
        self._put(object, resting_pose(self._scene, object, x, y, yaw))
        mujoco.mj_forward(self._model, self._data)

    def object_pose(self, object: str) -> tuple[Array, Array]:  # noqa: A002
        """Return the true position (3,) and quaternion (4,) x, y, z, w in the base frame.

        Raises:
            UserError: unknown object.
        """
        check_object(self._scene, object)
        pose = self._data.qpos[self._model.joint(object).qposadr[0] :][:7]
        return pose[:3].copy(), pose[[4, 5, 6, 3]]

    def reset(
        self, objects: Mapping[str, tuple[float, float, float]], *, seed: int | None = None
    ) -> None:
        """Put the robot at home, at rest, and objects at (x, y, yaw); others where the scene says.

        Time goes on. The physics that follow depend on nothing that was before; with a ``seed``,
        nor does the cameras' noise.

        Raises:
            UserError: as ``place`` does.
        """
        if seed is not None:
            self._seed = seed
            if self._renderer is not None:
                self._renderer.reseed(seed)
        poses = resting_poses(self._scene, objects)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[self._positions] = self._robot.home_positions
        self._set_mimics()
        for name, pose in poses.items():
            self._put(name, pose)
        self._drivers.hold(self.time_ns, self._robot.home_positions)
        self._data.ctrl[self._actuators] = self._robot.home_positions
        mujoco.mj_forward(self._model, self._data)

    def check_alive(self) -> None:
        """Do nothing: the simulation is in this process."""

    def close(self) -> None:
        """Free the renderer, if one was needed."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _measured(self) -> Array:
        return self._data.qpos[self._positions]

    def _put(self, name: str, pose: Array) -> None:
        joint = self._model.joint(name)
        self._data.qpos[joint.qposadr[0] :][:7] = pose[[0, 1, 2, 6, 3, 4, 5]]
        self._data.qvel[joint.dofadr[0] :][:6] = 0.0

    def _set_mimics(self) -> None:
        """Put the joints that mimic others where those have them."""
        model = self._model
        for kind, follower, leader, data in zip(
            model.eq_type, model.eq_obj1id, model.eq_obj2id, model.eq_data, strict=True
        ):
            if kind == mujoco.mjtEq.mjEQ_JOINT and leader >= 0:
                value = self._data.qpos[model.jnt_qposadr[leader]]
                self._data.qpos[model.jnt_qposadr[follower]] = data[0] + data[1] * value
