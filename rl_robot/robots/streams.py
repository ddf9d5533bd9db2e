"""What controllers without a clock of their own are told, tick by tick, of a motion that goes on.

A forward position or velocity controller, and a Cartesian servo, take what they are to do now.
So they are sent a stream that follows the filtered motion, sample by sample along its straight
lines, to the end of its braking.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.robots.interfaces import POSITION, TWIST, CommandInterface
from rl_robot.robots.kinematics import Kinematics

Array = npt.NDArray[np.float64]

# A velocity driver integrates, and drifts: by this much per second the error is made up for, ...
GAIN = 1.0
# ... but never by more than this part of the planned speed. So what is to stand stands, what is to
# move keeps its direction, and nothing jumps where a motion ends.
CORRECTION = 0.2
# A driver that follows late does not drift: it still comes to the end. Making up for its lag would
# have it overshoot there by speed times lag. So what lies on the way of the last s is no error; the
# doctor measures the lag.
LAG = 0.1
_MOMENTS = LAG * np.linspace(0.0, 1.0, 6)
_REMEMBERED = 4  # courses, for measurements that were captured before the present one began


@dataclass(frozen=True)
class Course:
    """Where the joints ``names`` (n) should be over time.

    ``times`` (K,) are s and begin at 0; ``positions`` (K, n) in rad or m. Straight in between, and
    at rest from the last one on.
    """

    names: tuple[str, ...]
    times: Array
    positions: Array

    @classmethod
    def of(cls, start: Array, motion: Motion) -> "Course":
        """Return the course of a motion that begins at ``start`` (n,)."""
        times = np.concatenate([[0.0], motion.times])
        return cls(motion.names, times, np.vstack([start, motion.positions]))

    @property
    def end(self) -> float:
        """When it comes to rest, s."""
        return float(self.times[-1])

    def at(self, time: float) -> Array:
        """Return the positions (n,) at ``time`` (s)."""
        after = int(np.searchsorted(self.times, time))
        if after == 0 or after == len(self.times):
            return np.array(self.positions[min(after, len(self.times) - 1)])
        begin, end = self.times[after - 1], self.times[after]
        share = (time - begin) / (end - begin)
        return np.array((1.0 - share) * self.positions[after - 1] + share * self.positions[after])


class Progress:
    """How far the robot has come on the course that was sent last. Times are s of one clock.

    A process that was held up has streamed nothing meanwhile, and the robot waits where the stream
    broke off: it goes on from there, and not from where it would be by the clock.
    """

    def __init__(self, patience: float = np.inf) -> None:
        """Streams are held up when they are silent for longer than ``patience`` (s)."""
        self._patience = patience
        self._courses: deque[tuple[float, Course]] = deque(maxlen=_REMEMBERED)
        self._heard = 0.0

    @property
    def course(self) -> Course | None:
        """The present course, once there was one."""
        return self._courses[-1][1] if self._courses else None

    def follow(self, course: Course, now: float) -> None:
        """Begin a course; what was left untold of the one before counts on towards patience."""
        untold = 0.0
        if self._courses:
            self.elapsed(now)
            began, last = self._courses[-1]
            untold = now - self._heard if self._heard - began < last.end else 0.0
        self._courses.append((now, course))
        self._heard = now - untold

    def elapsed(self, now: float) -> float:
        """Return the time on the present course; it is as old as the clock before the first."""
        if not self._courses:
            return now
        began, course = self._courses[-1]
        held_up = now - self._heard - self._patience
        if held_up > 0.0 and self._heard - began < course.end:
            self._courses[-1] = began + held_up, course
            self._heard += held_up
        return now - self._courses[-1][0]

    def tell(self, now: float) -> None:
        """Note that a stream speaks now."""
        self._heard = now

    def error(self, measured: Array, at: float) -> Array:
        """Return how far joints were measured beside their way ``at`` that time, (n,).

        Their way is where they should be now or should have been up to ``LAG`` ago.
        """
        way = [positions for one in at - _MOMENTS if (positions := self._at(one)) is not None]
        if not way:
            return np.zeros(len(measured))
        return np.clip(measured, np.min(way, axis=0), np.max(way, axis=0)) - measured

    def _at(self, time: float) -> Array | None:
        """Return where the joints should be at a time (n,), None before the first course."""
        for began, course in reversed(self._courses):
            if began <= time:
                return course.at(time - began)
        return None


def tracking_error(robot: Robot, progress: Progress, measured: Array, at: float) -> Array:
    """Return how far joints (n,) were from where they should have been ``at`` that time, (n,).

    Those that are known to follow late by their interface's ``lag``, more than is allowed to all,
    are measured by where they should have been then.
    """
    error = np.zeros(len(robot.joints))
    for interface in robot.interfaces:
        columns = [robot.joint_names.index(name) for name in interface.joints]
        error[columns] = progress.error(measured, at - interface.lag)[columns]
    return error


class Stream:
    """The numbers of one interface's messages: positions, velocities or a twist."""

    def __init__(self, interface: CommandInterface, robot: Robot, tick: float) -> None:
        """Tell ``interface`` of ``robot`` something every ``tick`` (s)."""
        self._mode = interface.mode
        self._tick = tick
        self._columns = [robot.joint_names.index(name) for name in interface.joints]
        self._arm = [robot.joint_names.index(name) for name in robot.arm_joints]
        self._most = robot.velocity
        self._in_tool = interface.frame == robot.tool_frame
        self._kinematics = Kinematics(robot) if self._mode == TWIST else None

    def values(self, course: Course, time: float, error: Array) -> Array:
        """Return what to send at ``time`` (s) on a course of all of the robot's joints.

        Velocities are those that lead to where the course is at the next tick, so that they add up
        to it; exactly, but for the correction of ``error`` (n,), see `Progress.error`. All are
        zero from the end of the course on.

        Returns:
            Positions or velocities (k,) in the interface's order of joints; or a twist (6,), m/s
            and rad/s of the tool, linear then angular, in the axes of the interface's frame.
        """
        if self._mode == POSITION:
            return course.at(time)[self._columns]
        velocities = self._velocities(course, time, error)
        if self._kinematics is None:
            return velocities[self._columns]
        half_way = course.at(time + 0.5 * self._tick)[self._arm]
        twist: Array = self._kinematics.jacobian(half_way) @ velocities[self._arm]
        if self._in_tool:
            _, rotation = self._kinematics.tool_pose(half_way)
            twist = np.concatenate([rotation.T @ twist[:3], rotation.T @ twist[3:]])
        return twist

    def _velocities(self, course: Course, time: float, error: Array) -> Array:
        """Return velocities (n,) within limits, if the course is."""
        planned = (course.at(time + self._tick) - course.at(time)) / self._tick
        most = CORRECTION * np.abs(planned)
        return np.clip(planned + np.clip(GAIN * error, -most, most), -self._most, self._most)
