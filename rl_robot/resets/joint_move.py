"""Moves the joints to a goal from whatever they are doing, smoothly and period by period."""

import numpy as np
import numpy.typing as npt

from rl_robot.resets.quintic import Quintic
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.safety.constraints import (
    AccelerationLimits,
    JerkLimits,
    PositionLimits,
    VelocityLimits,
)
from rl_robot.safety.filter import SafetyFilter

Array = npt.NDArray[np.float64]

_AT_REST = 1e-3  # rad/s or m/s, commanded
_OFF_PLAN = 0.02  # rad or m between the plan and what was commanded: someone else moved the robot
# A little below the limits, so that nothing but the plan has a say in how it is followed.
_GENTLE_BRAKING = (
    PositionLimits(),
    VelocityLimits(),
    AccelerationLimits(scale=0.9),
    JerkLimits(scale=0.9),
)
_LATENCY = 2  # periods by which what was commanded may trail the plan


class JointMove:
    """Plans to a goal and hands out the plan, one period at a time.

    A joint that still moves is first braked. When the commanded positions turn out to be off the
    plan (an emergency stop, another source in between), it plans anew from where they are.
    """

    def __init__(self, robot: Robot, *, period: float, substeps: int, pace: float) -> None:
        """Move ``robot`` with the part ``pace`` (0, 1] of its joints' limits; ``period`` in s."""
        self._names = robot.joint_names
        self._period = period
        self._times = period * np.arange(1, substeps + 1) / substeps
        self._limits = {
            "velocity": pace * robot.velocity,
            "acceleration": pace * robot.acceleration,
            "jerk": pace * np.array([joint.jerk for joint in robot.joints]),
        }
        self._brake = SafetyFilter(
            robot.joints, period=period, substeps=substeps, limits=_GENTLE_BRAKING
        )
        self._plan: Quintic | None = None
        self._elapsed = 0.0
        self._braking = False

    def begin(self, goal: Array) -> None:
        """Head for ``goal`` (n,)."""
        self._goal = goal.copy()
        self._plan = None

    @property
    def goal(self) -> Array:
        """Positions (n,) at the end."""
        return self._goal

    @property
    def remaining(self) -> float | None:
        """Seconds of the plan still to be commanded; None before there is a plan."""
        return None if self._plan is None else max(self._plan.duration - self._elapsed, 0.0)

    def next(self, reference: Array, velocities: Array) -> Motion:
        """Return the next period of motion; ``reference`` and ``velocities`` (n,) as commanded."""
        if self._plan is None or self._is_off(reference):
            self._plan = None
            if np.abs(velocities).max() > _AT_REST:
                if not self._braking:
                    self._brake.reset(reference, velocities)
                self._braking = True
                return self._brake.step(None).motion
            self._braking = False
            self._plan = Quintic.within(reference, self._goal, **self._limits)
            self._elapsed = 0.0
        positions = self._plan.at(self._elapsed + self._times)
        self._elapsed += self._period
        return Motion(self._names, self._times.copy(), positions)

    def _is_off(self, reference: Array) -> bool:
        assert self._plan is not None
        latest = self._elapsed - self._period * np.linspace(0.0, _LATENCY, 9)
        distance = np.abs(self._plan.at(latest) - reference).max(axis=1).min()
        return bool(distance > _OFF_PLAN)
