"""The last thing between a command and the robot: joint limits on what is sent.

Sent positions are samples, one per sub-step; the driver moves linearly between them. The promise is
about these samples and their first and second differences, from any state that ``reset`` accepts
and for any command whatever: positions stay inside the joint limits (with room left to stop),
velocities and accelerations within theirs, and nothing that is not finite is ever sent.

The method: the set of states from which braking keeps a joint inside its limits (``stopping.py``)
is made invariant. A motion that stays in that set by itself passes unchanged; otherwise the joints
concerned follow it as closely as their limits allow, time-optimally and without overshoot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Joint
from rl_robot.safety.stopping import safe_speed, stopping_distance

Array = npt.NDArray[np.float64]

_KINDS = ("position", "velocity", "acceleration")
# Excess up to which a command counts as within limits: rounding, not motion.
_RELATIVE = 1e-9
_ROUNDING = 1e-12  # rad or m
# Part of the acceleration that is not planned with when braking, so that rounding can be corrected.
_RESERVE = 1e-6
# Targets beyond are cut before any arithmetic, so that nothing overflows (rad or m).
_HUGE = 1e9
# Limits and measurements beyond this are mistakes, and would strain the arithmetic.
_WIDEST = 1e6
_LONGEST = 1e4  # sub-steps from full speed to a stop
_SAME_TIME = 1e-9  # s


@dataclass(frozen=True)
class Intervention:
    """One limit that a command would have broken at one joint.

    Attributes:
        kind: "position" (stopping distance included), "velocity", "acceleration", "non_finite" or
            "malformed" (other joints, shapes or times than ``check_command`` lets through).
        joint: name of the joint.
        amount: by how much the command exceeded the limit (rad or m, per s, per s^2); 1 for
            "non_finite" and "malformed", which name every joint.
    """

    kind: str
    joint: str
    amount: float


@dataclass(frozen=True)
class SafeMotion:
    """What may be sent: one period of motion, what was changed and why, and the room left.

    Attributes:
        motion: positions (substeps, n) at (substeps,) times from the start of the period.
        interventions: empty when the command passed unchanged, or when there was none.
        margins: "position/<joint>", "velocity/<joint>", "acceleration/<joint>" -> smallest distance
            to the limit within the period, SI units; negative only where a joint was measured
            outside its position limits.
    """

    motion: Motion
    interventions: tuple[Intervention, ...]
    margins: dict[str, float]


class State(NamedTuple):
    """What was commanded last: positions (n,) and velocities (n,) over the last sub-step."""

    positions: Array
    velocities: Array


class SafetyFilter:
    """Limits position, velocity and acceleration of what is sent to the joints."""

    def __init__(self, joints: Sequence[Joint], *, period: float = 0.1, substeps: int = 5) -> None:
        """Filter commands to ``joints``, ``substeps`` samples per ``period`` (s).

        Raises:
            ValueError: no joints, limits that are not usable, or sub-steps that are not between
                0.1 ms and 1 s long.
        """
        if not (substeps >= 1 and 1e-4 <= period / substeps <= 1.0):
            raise ValueError(f"a period of {period} s in {substeps} sub-steps is not usable")
        if not joints:
            raise ValueError("a safety filter needs at least one joint")
        for joint in joints:
            _check_limits(joint, period / substeps)
        self.names = tuple(joint.name for joint in joints)
        self._lower = np.array([joint.lower for joint in joints], dtype=np.float64)
        self._upper = np.array([joint.upper for joint in joints], dtype=np.float64)
        self._velocity = np.array([joint.velocity for joint in joints], dtype=np.float64)
        self._acceleration = np.array([joint.acceleration for joint in joints], dtype=np.float64)
        self._interval = period / substeps
        self._step = self._interval * self._acceleration
        self._braking = (1.0 - _RESERVE) * self._acceleration
        self._slack = _RELATIVE * np.array(
            [self._interval * self._step, self._velocity, self._acceleration]
        )
        self._slack[0] += _ROUNDING
        # more room than any permitted speed needs to stop makes no difference
        intervals = self._velocity / self._step + 2.0
        self._far = 2.0 * self._interval * (self._velocity + self._step) * intervals
        # the sent samples, and one more that tells where a longer motion goes on to
        self._sampling_times = self._interval * np.arange(1, substeps + 2, dtype=np.float64)
        self._times = self._sampling_times[:-1].copy()
        self._times.setflags(write=False)
        self._margin_names = tuple(f"{kind}/{name}" for kind in _KINDS for name in self.names)
        self._state: State | None = None
        # states (substeps + 1, n) of the period sent last: positions and velocities
        self._sent: State | None = None

    @property
    def state(self) -> State:
        """What was commanded last, at the end of the last period.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        if self._state is None:
            raise RuntimeError("the safety filter needs reset() with the measured state first")
        return State(self._state.positions.copy(), self._state.velocities.copy())

    @property
    def at_rest(self) -> bool:
        """Whether all joints stand at the end of the last period.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        return not self.state.velocities.any()

    def reset(
        self, positions: Sequence[float] | Array, velocities: Sequence[float] | Array | None = None
    ) -> None:
        """Start from the measured state (n,), at rest where no velocities are given.

        Positions outside the limits are taken as they are: holding stays there, and any command
        leads back inwards. A velocity beyond its limit, or from which the joint could not stop
        before its position limit, is taken as the greatest from which it can.

        Raises:
            ValueError: wrong shape, or a number that is not finite or beyond 1e6.
        """
        measured = self._measured("positions", positions)
        rates = self._measured(
            "velocities", np.zeros(len(self.names)) if velocities is None else velocities
        )
        room = np.minimum([measured - self._lower, self._upper - measured], self._far)
        # braking starts with the next interval, so one step more than its speed is allowed
        below, above = safe_speed(room, self._braking, self._interval) + self._step
        rates = _clip(rates, -below, above)
        self._state = State(measured, _clip(rates, -self._velocity, self._velocity))
        self._sent = None

    def step(self, motion: Motion | None) -> SafeMotion:
        """Return one period of motion within limits that follows ``motion`` as far as it may.

        ``motion`` starts where the last one ended, and its last point is held; None, or a motion
        that is not usable, decelerates every joint to a stop and holds. Numbers of any kind in a
        motion never raise.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        state = self.state
        problem = None if motion is None else self._problem(motion)
        if motion is None or problem is not None:
            interventions = () if problem is None else self._refuse(problem)
            return self._commit(state, self._brake(state), interventions)
        wanted = self._sample(motion, state.positions)
        limited = _clip(wanted, self._lower, self._upper)
        excess = self._excess(wanted[:-1], limited[:-1], state)
        beyond = excess > self._slack
        if not beyond.any():
            return self._commit(state, limited[:-1], ())
        tracked = self._track(limited, state)
        sent = np.where(beyond.any(axis=0), tracked, limited[:-1])
        interventions = tuple(
            Intervention(_KINDS[kind], self.names[joint], float(excess[kind, joint]))
            for kind, joint in np.argwhere(beyond)
        )
        return self._commit(state, sent, interventions)

    def tail(self) -> Motion:
        """Return the motion that brakes to a stop after the period returned last.

        Its times go on after that period; it has no points where all joints are at rest. A driver
        that gets it together with the period, and then nothing more, stops within limits by itself.
        """
        positions, velocities = self.state
        count = int(np.ceil((np.abs(velocities) / self._step).max()))
        intervals = np.arange(1, count + 1, dtype=np.float64)
        speeds = np.maximum(np.abs(velocities) - intervals[:, None] * self._step, 0.0)
        path = positions + self._interval * np.cumsum(np.copysign(speeds, velocities), axis=0)
        path = _clip(path, np.minimum(self._lower, positions), np.maximum(self._upper, positions))
        return Motion(self.names, self._times[-1] + self._interval * intervals, path)

    def interrupt(self, elapsed: float) -> None:
        """Go on from where the driver is ``elapsed`` s after the period returned last began.

        For commands that are sent as they arrive, sooner or later than one period after the last
        one: call it before ``step``, so that the next motion starts where the driver really is. It
        takes it that the driver also got the ``tail``. Without effect after ``reset``, or twice.
        A sub-step that is cut short may differ from the next by up to two steps of velocity instead
        of one; over any longer time the acceleration limit holds.

        Raises:
            ValueError: ``elapsed`` is not finite.
        """
        if not np.isfinite(elapsed):
            raise ValueError(f"elapsed: expected seconds, got {elapsed}")
        if self._sent is None:
            return
        tail = self.tail()
        path = np.concatenate([self._sent.positions, tail.positions])
        later, _ = self._derivatives(self.state, tail.positions)
        speeds = np.concatenate([self._sent.velocities, later])
        at = min(max(elapsed / self._interval, 0.0), len(path) - 1.0)
        before = min(int(at), len(path) - 2)
        part = at - before
        # Halfway through a sub-step, only half of its change of velocity is used up: otherwise
        # commands in quick succession would add up to more acceleration than is allowed.
        self._state = State(
            _between(path[before], path[before + 1], part),
            _between(speeds[before], speeds[before + 1], part),
        )
        self._sent = None

    def _measured(self, what: str, values: Sequence[float] | Array) -> Array:
        array = np.array(values, dtype=np.float64)
        if array.shape != (len(self.names),) or not (np.abs(array) <= _WIDEST).all():
            raise ValueError(f"{what}: expected {len(self.names)} finite numbers, got {values}")
        return array

    def _problem(self, motion: Motion) -> str | None:
        """Return why a motion can't be sampled: "malformed", "non_finite", or None if it can."""
        times, positions = np.asarray(motion.times), np.asarray(motion.positions)
        well_formed = (
            tuple(motion.names) == self.names
            and times.dtype.kind in "fiu"
            and positions.dtype.kind in "fiu"
            and times.ndim == 1
            and len(times) > 0
            and positions.shape == (len(times), len(self.names))
        )
        if not well_formed:
            return "malformed"
        if not (np.isfinite(positions).all() and np.isfinite(times).all()):
            return "non_finite"
        if times[0] < 0 or (times[1:] <= times[:-1]).any():
            return "malformed"
        return None

    def _refuse(self, kind: str) -> tuple[Intervention, ...]:
        return tuple(Intervention(kind, name, 1.0) for name in self.names)

    def _sample(self, motion: Motion, start: Array) -> Array:
        """Return the motion's positions at the sampling times, (substeps + 1, n)."""
        times = np.asarray(motion.times, dtype=np.float64)
        positions = _clip(np.asarray(motion.positions, dtype=np.float64), -_HUGE, _HUGE)
        if len(times) == len(self._times) and np.abs(times - self._times).max() < _SAME_TIME:
            samples = np.concatenate([positions, positions[-1:]])
        else:
            samples = _interpolate(times, positions, start, self._sampling_times)
        if len(self._times) > 1 and times[-1] < self._times[-1] + _SAME_TIME:
            # what follows is unknown: most likely it goes on as it ended
            samples[-1] = 2.0 * samples[-2] - samples[-3]
        return samples

    def _derivatives(self, state: State, samples: Array) -> tuple[Array, Array]:
        """Return velocities and accelerations, each (H, n), of samples (H, n) after ``state``."""
        path = np.concatenate([state.positions[None], samples])
        velocities = (path[1:] - path[:-1]) / self._interval
        changing = np.concatenate([state.velocities[None], velocities])
        return velocities, (changing[1:] - changing[:-1]) / self._interval

    def _excess(self, wanted: Array, limited: Array, state: State) -> Array:
        """Return by how much the wanted samples exceed each limit: one row per kind, (3, n).

        ``limited`` are the same samples, clipped to the position limits. As exceeding these counts
        also what could not be stopped any more before them.
        """
        asked, _ = self._derivatives(state, wanted)
        velocities, accelerations = self._derivatives(state, limited)
        speeds = np.minimum(np.abs(velocities), self._velocity)
        braking = stopping_distance(speeds, self._braking, self._interval)
        room = np.where(velocities > 0.0, self._upper - limited, limited - self._lower)
        overrun = np.where(velocities != 0.0, braking - room, 0.0)
        outside = np.abs(wanted - limited)
        return np.array(
            [
                np.maximum(overrun, outside).max(axis=0),
                np.abs(asked).max(axis=0) - self._velocity,
                np.abs(accelerations).max(axis=0) - self._acceleration,
            ]
        )

    def _track(self, limited: Array, state: State) -> Array:
        """Follow the samples (substeps + 1, n) as fast as limits allow, without overshoot.

        Seen from a target that moves on at its present rate, each joint approaches at the greatest
        speed from which it can still stop at the target.
        """
        rates = (limited[1:] - limited[:-1]) / self._interval
        rates = _clip(rates, -self._velocity, self._velocity)
        sent = []
        for origin, rate in zip(limited[:-1] - self._interval * rates, rates, strict=True):
            state = self._advance(state, rate, origin - state.positions)
            sent.append(state.positions)
        return np.array(sent)

    def _brake(self, state: State) -> Array:
        still = np.zeros(len(self.names))
        sent = []
        for _ in self._times:
            state = self._advance(state, still, still)
            sent.append(state.positions)
        return np.array(sent)

    def _advance(self, state: State, rate: Array, ahead: Array) -> State:
        """Move one sub-step towards targets that move at ``rate`` and are ``ahead`` by so much."""
        room = np.array(
            [state.positions - self._lower, self._upper - state.positions, np.abs(ahead)]
        )
        room = np.minimum(room, self._far)
        below, above, approach = safe_speed(room, self._braking, self._interval)
        velocities = _clip(rate + np.copysign(approach, ahead), -below, above)
        velocities = _clip(velocities, -self._velocity, self._velocity)
        # last, for it can always be kept; by the invariant it doesn't undo the others
        velocities = _clip(velocities, state.velocities - self._step, state.velocities + self._step)
        positions = _clip(
            state.positions + self._interval * velocities,
            np.minimum(self._lower, state.positions),
            np.maximum(self._upper, state.positions),
        )
        return State(positions, (positions - state.positions) / self._interval)

    def _commit(
        self, before: State, sent: Array, interventions: tuple[Intervention, ...]
    ) -> SafeMotion:
        velocities, accelerations = self._derivatives(before, sent)
        self._sent = State(
            np.concatenate([before.positions[None], sent]),
            np.concatenate([before.velocities[None], velocities]),
        )
        self._state = State(sent[-1].copy(), velocities[-1])
        room = np.minimum(sent - self._lower, self._upper - sent).min(axis=0)
        speed_room = self._velocity - np.abs(velocities).max(axis=0)
        change_room = self._acceleration - np.abs(accelerations).max(axis=0)
        margins = np.concatenate([room, speed_room, change_room]).tolist()
        return SafeMotion(
            motion=Motion(self.names, self._times, sent),
            interventions=interventions,
            margins=dict(zip(self._margin_names, margins, strict=True)),
        )


def _clip(values: Array, lowest: Array | float, highest: Array | float) -> Array:
    # several times faster than np.clip on a few numbers
    clipped: Array = np.maximum(np.minimum(values, highest), lowest)
    return clipped


def _between(first: Array, second: Array, part: float) -> Array:
    # clipped, for rounding could put it just outside the two, and a limit may be one of them
    mixed = (1.0 - part) * first + part * second
    return _clip(mixed, np.minimum(first, second), np.maximum(first, second))


def _interpolate(times: Array, positions: Array, start: Array, at: Array) -> Array:
    """Return the positions at times ``at``: from ``start`` at 0 linearly through the points."""
    if times[0] > 0.0:
        times, first = np.concatenate([[0.0], times]), start
    else:
        times, first = np.concatenate([[-1.0], times]), positions[0]
    positions = np.concatenate([first[None], positions])
    at = np.minimum(at, times[-1])
    before = np.searchsorted(times, at) - 1
    weight = ((at - times[before]) / (times[before + 1] - times[before]))[:, None]
    samples: Array = (1.0 - weight) * positions[before] + weight * positions[before + 1]
    return samples


def _check_limits(joint: Joint, interval: float) -> None:
    usable = (
        -_WIDEST <= joint.lower <= joint.upper <= _WIDEST
        and 1.0 / _WIDEST <= joint.velocity <= _WIDEST
        and 1.0 / _WIDEST <= joint.acceleration <= _WIDEST
        and joint.velocity <= _LONGEST * interval * joint.acceleration
    )
    if not usable:
        raise ValueError(
            f"limits of {joint.name} are not usable: position {joint.lower} to {joint.upper}, "
            f"velocity {joint.velocity}, acceleration {joint.acceleration}"
        )
