"""What arms' controllers make of what they are sent, message by message, as the real ones do.

Each turns commands into the reference of its joints' drives. Times are integer nanoseconds of the
driver's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

Array = NDArray[np.float64]

MOST_POINTS = 10_000
AT_REST = float(np.finfo(np.float32).eps)  # rad/s or m/s that a trajectory may end with


class Rejected(Exception):  # noqa: N818  (an outcome, named for what it says)
    """A controller does not execute what it was sent; the text says why."""


@dataclass(frozen=True)
class Trajectory:
    """What a JointTrajectory message holds, unchecked.

    ``times`` (s from the start), one per point; ``positions`` and, where given, ``velocities`` have
    a row per point and a column per name. Stamp 0 means: start now.
    """

    names: Sequence[str]
    stamp_ns: int
    times: Sequence[float]
    positions: Sequence[Sequence[float]]
    velocities: Sequence[Sequence[float]] = field(default=())


class JointTrajectoryController:
    """ros2_controllers' joint_trajectory_controller, with a position command interface.

    Taken from its ``validate_trajectory_msg``, ``update``, ``Trajectory::sample`` and the defaults
    of its parameters, in branch jazzy: a message replaces the trajectory that is being followed; it
    names every joint and no other (``allow_partial_joints_goal`` is false); times rise strictly; a
    stamp that is not 0 with an end that is past is refused; motion that does not end at rest is
    refused where velocities say so (``allow_nonzero_velocity_at_trajectory_end`` is false; in
    Humble it is true). Until its first point is due it goes there from the measured state, from now
    on; a stamp so old that the first point is past has no way there: it jumps. It is linear between
    points, cubic where velocities are given, and after the last point stays there. ``cmd_timeout``
    counts from the last point; then the measured position is held.

    Stricter than it: numbers that are not finite, a name given twice and a first point before the
    start are refused. Not imitated: accelerations, tolerances, ``interpolate_from_desired_state``,
    UR's scaling of speed, and ``allow_trajectory_replacement`` of branch master, by which a new
    trajectory goes on from the one that is being followed.
    """

    def __init__(self, joints: Sequence[str], here: Array, *, cmd_timeout: float = 0.0) -> None:
        """Hold ``here`` (k,); ``cmd_timeout`` 0 s means none."""
        self.joints = tuple(joints)
        self._timeout = cmd_timeout
        self._start_ns = 0
        self._times = np.zeros(1)
        self._points = np.array([here], dtype=float)
        self._spline: CubicHermiteSpline | None = None
        self._holding = True

    def take(
        self, command: Trajectory, now_ns: int, here: Array, speeds: Array | None = None
    ) -> None:
        """Follow a trajectory from the measured positions ``here`` and ``speeds`` (k,).

        Without ``speeds`` the joints are taken to stand, as where no velocities are measured.

        Raises:
            Rejected: the controller would not accept it.
        """
        order = self._order(command.names)
        times, points = self._checked(command)
        if command.stamp_ns and command.stamp_ns + times[-1] * 1e9 < now_ns:
            late = now_ns * 1e-9 - command.stamp_ns * 1e-9 - times[-1]
            raise Rejected(f"its stamp is not 0 and it ended {late:.3f} s ago")
        velocities = np.array(command.velocities, dtype=float)
        if velocities.size and np.any(np.abs(velocities[-1]) > AT_REST):
            raise Rejected("its velocity at the end is not 0")
        self._start_ns = command.stamp_ns or now_ns
        points = points[:, order]
        slopes = velocities[:, order] if velocities.size else None
        begin = (now_ns - self._start_ns) * 1e-9
        if begin < times[0]:
            times = np.concatenate([[begin], times])
            points = np.vstack([here, points])
            if slopes is not None:
                slopes = np.vstack([np.zeros(len(here)) if speeds is None else speeds, slopes])
        self._times, self._points, self._spline = times, points, None
        if slopes is not None and len(times) > 1:
            self._spline = CubicHermiteSpline(times, points, slopes)
        self._holding = False

    def reference(self, now_ns: int, here: Array, step: float) -> Array:
        """Return the reference (k,) now; ``here`` (k,) is measured."""
        now = (now_ns - self._start_ns) * 1e-9
        if not self._holding and 0.0 < self._timeout < now - self._times[-1]:
            self._times, self._points, self._spline = np.zeros(1), np.array([here]), None
            self._holding = True
        now = float(np.clip(now, self._times[0], self._times[-1]))
        if self._spline is not None:
            return np.asarray(self._spline(now))
        after = min(int(np.searchsorted(self._times, now, side="right")), len(self._times) - 1)
        before = max(after - 1, 0)
        span = self._times[after] - self._times[before]
        part = (now - self._times[before]) / span if span else 1.0
        return np.asarray((1.0 - part) * self._points[before] + part * self._points[after])

    def _order(self, names: Sequence[str]) -> list[int]:
        if not len(names):
            raise Rejected("it names no joints")
        unknown = [name for name in names if name not in self.joints]
        if unknown:
            raise Rejected(f"joint {unknown[0]} is not the controller's: {', '.join(self.joints)}")
        if len(set(names)) < len(names):
            raise Rejected("it names a joint twice")
        missing = [name for name in self.joints if name not in names]
        if missing:
            raise Rejected(f"joint {missing[0]} is missing")
        return [list(names).index(name) for name in self.joints]

    def _checked(self, command: Trajectory) -> tuple[Array, Array]:
        if not 0 < len(command.times) <= MOST_POINTS:
            raise Rejected(f"it has {len(command.times)} points, expected 1 to {MOST_POINTS}")
        rows = [*command.positions, *command.velocities]
        if any(len(row) != len(command.names) for row in rows):
            raise Rejected("a point has not one number for each joint")
        if len(command.positions) != len(command.times) or len(command.velocities) not in (
            0,
            len(command.times),
        ):
            raise Rejected("not every point has positions, and all or none velocities")
        times, points = np.array(command.times, dtype=float), np.array(command.positions)
        if not (np.isfinite(times).all() and np.isfinite(np.array(rows, dtype=float)).all()):
            raise Rejected("a number is not finite")
        if times[0] < 0.0 or np.any(np.diff(times) <= 0.0):
            raise Rejected("the times of its points don't rise")
        return times, points


class ForwardController:
    """ros2_controllers' forward_command_controller, for positions or velocities of its joints.

    Taken from its ``on_configure`` and ``update`` in branch jazzy, and controller_manager's
    ``update``: what came last is handed to the drives again and again, whatever its age; a message
    with a number that is not finite is dropped; one of another length than the joints' makes the
    update fail, whereupon the controller is deactivated and hears nothing more (in Humble nothing
    is deactivated: the joints are handed nothing new until a sound message comes, and NaN goes
    through). Deactivated, the joints stand: JointGroupVelocityController sets 0, of others the
    hardware has the say.

    It has no timeout, and neither does hardware notice that a topic fell silent: UR's
    ``robot_receive_timeout`` and franka's realtime loop watch the controller's process. ``timeout``
    (s) stands for a watchdog put in between: velocities become 0, positions are held where they are
    measured.
    """

    def __init__(
        self, joints: Sequence[str], here: Array, *, velocity: bool, timeout: float = np.inf
    ) -> None:
        """Hold ``here`` (k,); take velocities (rad/s or m/s) or else positions."""
        self.joints = tuple(joints)
        self._velocity = velocity
        self._timeout = timeout
        self._values = np.zeros(len(here)) if velocity else np.array(here, dtype=float)
        self._reference = np.array(here, dtype=float)
        self._taken_ns: int | None = None
        self._failed = False

    def take(self, values: Sequence[float], now_ns: int) -> None:
        """Obey ``values`` (k,) from now on.

        Raises:
            Rejected: not one finite number for each joint, or deactivated since such a message.
        """
        if self._failed:
            raise Rejected("the controller was deactivated by a message of another length")
        taken = np.array(values, dtype=float)
        if not np.isfinite(taken).all():
            raise Rejected("a number is not finite")
        if len(taken) != len(self.joints):
            self._failed, self._taken_ns = True, None
            self._values = np.zeros(len(self.joints)) if self._velocity else self._reference.copy()
            raise Rejected(
                f"{len(taken)} numbers, expected {len(self.joints)}: the controller is deactivated"
            )
        self._values, self._taken_ns = taken, now_ns

    def reference(self, now_ns: int, here: Array, step: float) -> Array:
        """Return the reference (k,) now, ``step`` s after it was asked for last."""
        if self._taken_ns is not None and (now_ns - self._taken_ns) * 1e-9 > self._timeout:
            self._values = np.zeros(len(here)) if self._velocity else here.copy()
            self._taken_ns = None
        self._reference = (
            self._reference + self._values * step if self._velocity else self._values.copy()
        )
        return self._reference
