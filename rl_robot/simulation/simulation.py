"""What every simulator of a robot in a scene can do."""

from collections.abc import Mapping
from typing import Protocol

from numpy.typing import ArrayLike

from rl_robot.simulation.drivers import Array, JointSample
from rl_robot.simulation.imaging import Image


class Simulation(Protocol):
    """A robot in a scene, behind drivers and cameras. The same seed and calls give the same data.

    Poses are in the robot's base frame. A simulator whose engine is another process raises a
    ``LostProgramError`` from any method once that has ended.
    """

    @property
    def time_ns(self) -> int:
        """Simulated time since the start, ns."""

    def command(self, interface: str, times: ArrayLike, positions: ArrayLike) -> None:
        """Follow a trajectory from now on; see ``Drivers.command``."""

    def advance(self, duration: float) -> list[JointSample]:
        """Simulate ``duration`` seconds and return the joint samples, the last at the new time.

        Raises:
            ValueError: ``duration`` is not a positive multiple of the joint states' period.
        """

    def joint_sample(self) -> JointSample:
        """Return what the encoders say now."""

    def timed_out(self, interface: str) -> bool:
        """Whether the driver holds because no command came for its timeout.

        Raises:
            UserError: unknown interface.
        """

    def render(self, camera: str) -> Image:
        """Return the camera's picture of the present time: RGB (H, W, 3) uint8, with noise.

        Raises:
            UserError: unknown camera, or no picture can be had.
        """

    def place(self, object: str, x: float, y: float, yaw: float) -> None:  # noqa: A002
        """Put an object at rest on the table, its centre at (x, y) m, turned by yaw rad.

        Raises:
            UserError: unknown object, values that are not finite, or a place beside the table.
        """

    def object_pose(self, object: str) -> tuple[Array, Array]:  # noqa: A002
        """Return the true position (3,) and quaternion (4,) x, y, z, w.

        Raises:
            UserError: unknown object.
        """

    def reset(
        self, objects: Mapping[str, tuple[float, float, float]], *, seed: int | None = None
    ) -> None:
        """Put the robot at home, at rest, and objects at (x, y, yaw); others where the scene says.

        Time goes on. The physics that follow depend on nothing that was before; with a ``seed``,
        nor does the cameras' noise.

        Raises:
            UserError: as ``place`` does.
        """

    def check_alive(self) -> None:
        """Raise a ``LostProgramError`` if a program that simulates has ended."""

    def close(self) -> None:
        """Free what was taken, and end what was started; more than once does nothing."""
