"""A simulated robot that behaves like a real arm's drivers and cameras."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_robot.errors import UserError
from rl_robot.robots.description import CommandInterface, Robot
from rl_robot.simulation.rendering import Image, Renderer
from rl_robot.simulation.world import Scene, build_model

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointSample:
    """What the encoders say at ``stamp_ns``: (n,) each, in the robot's joint order, SI units."""

    stamp_ns: int
    positions: Array
    velocities: Array
    efforts: Array


class _Driver:
    """The set points of one command interface: linear through the points, then hold."""

    def __init__(self, interface: CommandInterface, columns: NDArray[np.intp]) -> None:
        self.interface = interface
        self.columns = columns  # of this interface's joints in the robot's joint order
        self._times = np.zeros(1)
        self._points = np.zeros((1, len(columns)))

    def follow(self, now_ns: int, start: Array, times: Array, points: Array) -> None:
        self.commanded_ns = now_ns
        if len(times) and times[0] == 0.0:  # a jump: the old set point counts no more
            self._times, self._points = times, points
        else:
            self._times = np.concatenate([[0.0], times])
            self._points = np.vstack([start, points])

    def hold(self, now_ns: int, positions: Array) -> None:
        self.follow(now_ns, positions, np.zeros(0), np.empty((0, len(self.columns))))

    def set_points(self, times_ns: NDArray[np.int64]) -> Array:
        """Set points (len(times_ns), k). Silence for longer than the timeout stops the motion.

        Seconds count from the command, so that they round the same however late it is.
        """
        times = np.minimum((times_ns - self.commanded_ns) * 1e-9, self.interface.timeout)
        last = len(self._times) - 1
        after = np.minimum(np.searchsorted(self._times, times, side="right"), last)
        before = np.maximum(after - 1, 0)
        span = np.where(after > before, self._times[after] - self._times[before], 1.0)
        part = np.clip((times - self._times[before]) / span, 0.0, 1.0)[:, None]
        return (1.0 - part) * self._points[before] + part * self._points[after]


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
        self._step_ns = round(physics_step * 1e9)
        self._steps_per_sample = round(1.0 / (robot.joint_state_rate * physics_step))
        self._sample_ns = self._steps_per_sample * self._step_ns
        if abs(self._sample_ns * robot.joint_state_rate - 1e9) > robot.joint_state_rate:
            raise UserError(
                f"robot {robot.name}: joint states at {robot.joint_state_rate:g} Hz do not fit "
                f"physics steps of {physics_step:g} s: choose a rate that divides "
                f"{1 / physics_step:g} Hz"
            )
        self._model = build_model(robot, scene, physics_step=self._step_ns * 1e-9)
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(name) for name in robot.joint_names]
        self._positions = np.array([joint.qposadr[0] for joint in joints])
        self._velocities = np.array([joint.dofadr[0] for joint in joints])
        self._actuators = np.array([self._model.actuator(n).id for n in robot.joint_names])
        gains = self._model.actuator_gainprm[self._actuators, 0]
        # Added to a position set point, this times its velocity cancels the servo's lag.
        self._lead = -self._model.actuator_biasprm[self._actuators, 2] / gains
        self._drivers = {
            interface.name: _Driver(
                interface, np.array([robot.joint_names.index(name) for name in interface.joints])
            )
            for interface in robot.interfaces
        }
        self._renderer: Renderer | None = None
        self._steps = 0
        self.reset({})

    @property
    def time_ns(self) -> int:
        """Simulated time since the start, ns."""
        return self._steps * self._step_ns

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
        driver = self._driver(interface)
        seconds, points = np.asarray(times, dtype=float), np.asarray(positions, dtype=float)
        joints = len(driver.columns)
        if seconds.ndim != 1 or not len(seconds) or points.shape != (len(seconds), joints):
            raise ValueError(
                f"{interface}: times {seconds.shape} and positions {points.shape} must be "
                f"(H,) and (H, {joints})"
            )
        if not (np.isfinite(seconds).all() and np.isfinite(points).all()):
            raise ValueError(f"{interface}: times and positions must be finite")
        if seconds[0] < 0.0 or np.any(np.diff(seconds) <= 0.0):
            raise ValueError(f"{interface}: times must start at 0 or later and rise")
        now_ns = self.time_ns
        if self.timed_out(interface):
            start = self._data.qpos[self._positions[driver.columns]]
        else:
            start = driver.set_points(np.array([now_ns]))[0]
        driver.follow(now_ns, start, seconds, points)

    def advance(self, duration: float) -> list[JointSample]:
        """Simulate ``duration`` seconds and return the joint samples, the last at the new time.

        Raises:
            ValueError: ``duration`` is not a positive multiple of the joint states' period.
        """
        count = round(duration * 1e9 / self._sample_ns)
        if count < 1 or abs(duration * 1e9 - count * self._sample_ns) > 1e3:
            period = self._sample_ns * 1e-9
            raise ValueError(f"duration {duration} s is not a positive multiple of {period} s")
        set_points = self._set_points(count)
        samples = []
        for before, after in pairwise(set_points):
            velocity = (after - before) / (self._sample_ns * 1e-9)
            self._data.ctrl[self._actuators] = (before + after) / 2.0 + self._lead * velocity
            mujoco.mj_step(self._model, self._data, nstep=self._steps_per_sample)
            self._steps += self._steps_per_sample
            samples.append(self.joint_sample())
        return samples

    def joint_sample(self) -> JointSample:
        """Return what the encoders say now."""
        return JointSample(
            stamp_ns=self.time_ns,
            positions=self._data.qpos[self._positions],
            velocities=self._data.qvel[self._velocities],
            efforts=self._data.actuator_force[self._actuators],
        )

    def timed_out(self, interface: str) -> bool:
        """Whether the driver holds because no command came for its timeout.

        Raises:
            UserError: unknown interface.
        """
        driver = self._driver(interface)
        return (self.time_ns - driver.commanded_ns) * 1e-9 > driver.interface.timeout + 1e-9

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
        self._put(object, x, y, yaw)
        mujoco.mj_forward(self._model, self._data)

    def object_pose(self, object: str) -> tuple[Array, Array]:  # noqa: A002
        """Return the true position (3,) and quaternion (4,) x, y, z, w in the base frame.

        Raises:
            UserError: unknown object.
        """
        pose = self._data.qpos[self._object(object).qposadr[0] :][:7]
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
        places = {name: block.pose for name, block in self._scene.objects.items()} | dict(objects)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[self._positions] = self._robot.home_positions
        self._set_mimics()
        for name, (x, y, yaw) in places.items():
            self._put(name, x, y, yaw)
        for driver in self._drivers.values():
            driver.hold(self.time_ns, self._robot.home_positions[driver.columns])
        self._data.ctrl[self._actuators] = self._robot.home_positions
        mujoco.mj_forward(self._model, self._data)

    def close(self) -> None:
        """Free the renderer, if one was needed."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _driver(self, interface: str) -> _Driver:
        return self._drivers[self._robot.interface(interface).name]

    def _set_points(self, count: int) -> Array:
        """Set points (count + 1, n) of the next samples, the present one first."""
        times_ns = self.time_ns + np.arange(count + 1) * self._sample_ns
        table = np.empty((count + 1, len(self._positions)))
        for driver in self._drivers.values():
            table[:, driver.columns] = driver.set_points(times_ns)
        return table

    def _object(self, name: str) -> Any:
        if name not in self._scene.objects:
            known = ", ".join(self._scene.objects) or "none"
            raise UserError(f"the scene has no object {name!r}; it has {known}")
        return self._model.joint(name)

    def _put(self, name: str, x: float, y: float, yaw: float) -> None:
        joint = self._object(name)
        if not np.isfinite([x, y, yaw]).all():
            raise UserError(f"{name} cannot be placed at ({x}, {y}, {yaw}): not finite")
        table = self._scene.table
        aside = np.abs(np.array([x, y]) - table.centre)
        if np.any(aside > np.array(table.size[:2]) / 2.0):
            raise UserError(f"{name} cannot be placed at ({x:g}, {y:g}) m: outside the table")
        height = self._scene.objects[name].size / 2.0
        quaternion = [np.cos(yaw / 2.0), 0.0, 0.0, np.sin(yaw / 2.0)]
        self._data.qpos[joint.qposadr[0] :][:7] = [x, y, height, *quaternion]
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
