"""The drivers of a robot's command interfaces: what they are told, and the set points of it.

The same for every simulator: each only moves joints to set points and says where they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_robot.errors import UserError
from rl_robot.robots.description import CommandInterface, Robot

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

    def timed_out(self, now_ns: int) -> bool:
        return (now_ns - self.commanded_ns) * 1e-9 > self.interface.timeout + 1e-9

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


class Drivers:
    """The drivers of all command interfaces of a robot.

    Args:
        robot: the robot.
        physics_step: s; the period of the joint states must be a multiple of it.

    Raises:
        UserError: joint states cannot be had at the robot's rate.
    """

    def __init__(self, robot: Robot, *, physics_step: float) -> None:
        self._robot = robot
        self.step_ns = round(physics_step * 1e9)
        self.steps_per_sample = round(1.0 / (robot.joint_state_rate * physics_step))
        self.sample_ns = self.steps_per_sample * self.step_ns
        if abs(self.sample_ns * robot.joint_state_rate - 1e9) > robot.joint_state_rate:
            raise UserError(
                f"robot {robot.name}: joint states at {robot.joint_state_rate:g} Hz do not fit "
                f"physics steps of {physics_step:g} s: choose a rate that divides "
                f"{1 / physics_step:g} Hz"
            )
        self._drivers = {
            interface.name: _Driver(
                interface, np.array([robot.joint_names.index(name) for name in interface.joints])
            )
            for interface in robot.interfaces
        }

    def hold(self, now_ns: int, positions: Array) -> None:
        """Hold the joints at ``positions`` (n,), as after a command that asked for them."""
        for driver in self._drivers.values():
            driver.hold(now_ns, positions[driver.columns])

    def command(
        self,
        now_ns: int,
        interface: str,
        times: ArrayLike,
        positions: ArrayLike,
        measured: Callable[[], Array],
    ) -> None:
        """Follow a trajectory from now on: linear from the present set point, then hold.

        Args:
            now_ns: the present time.
            interface: name of one of the robot's command interfaces.
            times: (H,) seconds from now, not negative, rising.
            positions: (H, k) in the order of the interface's joints.
            measured: gives the positions (n,) of all joints, from where a driver that timed out
                goes on.

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
        if driver.timed_out(now_ns):
            start = measured()[driver.columns]
        else:
            start = driver.set_points(np.array([now_ns]))[0]
        driver.follow(now_ns, start, seconds, points)

    def timed_out(self, now_ns: int, interface: str) -> bool:
        """Whether the driver holds because no command came for its timeout.

        Raises:
            UserError: unknown interface.
        """
        return self._driver(interface).timed_out(now_ns)

    def samples_in(self, duration: float) -> int:
        """Return how many joint samples there are in ``duration`` seconds.

        Raises:
            ValueError: ``duration`` is not a positive multiple of the joint states' period.
        """
        count = round(duration * 1e9 / self.sample_ns)
        if count < 1 or abs(duration * 1e9 - count * self.sample_ns) > 1e3:
            period = self.sample_ns * 1e-9
            raise ValueError(f"duration {duration} s is not a positive multiple of {period} s")
        return count

    def set_points(self, now_ns: int, count: int) -> Array:
        """Return the set points (count + 1, n) of the next samples, the present one first."""
        times_ns = now_ns + np.arange(count + 1) * self.sample_ns
        table = np.empty((count + 1, len(self._robot.joint_names)))
        for driver in self._drivers.values():
            table[:, driver.columns] = driver.set_points(times_ns)
        return table

    def _driver(self, interface: str) -> _Driver:
        return self._drivers[self._robot.interface(interface).name]
