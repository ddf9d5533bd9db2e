"""Plans one joint's motion: as asked for over the next period, then to a stop, all within limits.

Two shapes reach what is asked for. A polynomial of the fifth degree spreads the change over the
whole period, and is taken where it keeps all limits. Otherwise the `ruckig` library gives the
motion that gets there in the shortest time that the limits allow (Berscheid and Kröger,
"Jerk-limited real-time trajectory generation with arbitrary target states", Robotics: Science and
Systems, 2021).
What a plan promises is checked here, not taken from the library.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from numba import types
from ruckig import InputParameter, Result, Ruckig, RuckigError, Trajectory

from rl_robot.safety.compiled import compiled, inlined
from rl_robot.safety.path import JointPath, JointState, Segment, resting, state_at
from rl_robot.safety.stopping import safe_speed

_ROUNDING = 1e-10  # s, rad or m
_RESERVE = 1e-9  # rad or m
_RELATIVE = 1e-9
_AT_REST = 1e-9  # rad/s or m/s
_CHASES = 2
_COMPROMISES = (0.3, 0.6, 1.0)
_number = types.float64
_PLANNED = (Result.Working, Result.Finished)


@dataclass(frozen=True)
class Bounds:
    """What one joint may do: rad or m, per s, per s^2, per s^3."""

    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float


class Goal(NamedTuple):
    """Where one joint should be at the end of the period, how fast, and accelerating how much.

    The acceleration is a wish: it makes smooth motion be followed smoothly.
    """

    position: float
    velocity: float = 0.0
    acceleration: float = 0.0


class JointPlanner:
    """Plans the motion of one joint for periods of ``period`` s."""

    def __init__(self, bounds: Bounds, period: float) -> None:
        self.bounds = bounds
        # Planned a little inside the position limits, so that rounding does not lead beyond.
        room = min(_RESERVE, 0.25 * (bounds.upper - bounds.lower))
        self._lower, self._upper = bounds.lower + room, bounds.upper - room
        self._tolerance = 0.1 * room
        self._period = period
        self._ruckig = Ruckig(1)
        self._trajectory = Trajectory(1)
        self._input = InputParameter(1)
        self._input.max_velocity = [bounds.velocity]
        self._input.max_acceleration = [bounds.acceleration]
        self._input.max_jerk = [bounds.jerk]
        self._stopped: tuple[JointState, JointPath] | None = None  # the last state's stop

    def permitted(self, goal: Goal) -> Goal:
        """Return the goal nearest to the one asked for from which the joint can stop in time."""
        position = min(max(goal.position, self._lower), self._upper)
        velocity = self.stoppable(position, goal.velocity)
        unchanged = position == goal.position and velocity == goal.velocity
        most = self.bounds.acceleration
        change = min(max(goal.acceleration, -most), most) if unchanged else 0.0
        return Goal(position, velocity, change)

    def stoppable(self, position: float, velocity: float) -> float:
        """Return the velocity at ``position`` that can still be stopped within the limits."""
        bounds = self.bounds
        room = self._upper - position if velocity > 0.0 else position - self._lower
        most = min(bounds.velocity, safe_speed(room, bounds.acceleration, bounds.jerk))
        return math.copysign(min(abs(velocity), most), velocity)

    def excess(self, state: JointState, goal: Goal) -> tuple[float, float, float]:
        """Return by how much the smooth motion to ``goal`` exceeds velocity, acceleration, jerk.

        Negative where it keeps the limit.
        """
        _, (velocity, acceleration, jerk) = _smooth(*state, *goal, self._period)
        bounds = self.bounds
        return velocity - bounds.velocity, acceleration - bounds.acceleration, jerk - bounds.jerk

    def reach(self, state: JointState, goal: Goal) -> JointPath | None:
        """Return the path to ``goal``, at the period's end or later, then to a stop.

        It is followed for one period, and stops from there. None if there is none within limits:
        ``brake`` then, or go on as planned before.
        """
        if abs(state.velocity) + abs(state.acceleration) == 0.0 == goal.velocity and (
            goal.position == state.position
        ):
            return JointPath.resting(state.position)
        in_time = self._is_near(state, goal) and (
            self._in_time(state, goal) or self._in_time_at_another_speed(state, goal)
        )
        return (
            in_time
            or self._late(state, goal)
            or (self._late(state, goal._replace(acceleration=0.0)) if goal.acceleration else None)
            or (self._late(state, Goal(goal.position)) if goal.velocity else None)
        )

    def brake(self, state: JointState) -> JointPath | None:
        """Return the path that stops at once; None if it would leave the position limits."""
        path = self._stop_from(state)
        return path if self._is_inside(path, state) else None

    def _is_near(self, state: JointState, goal: Goal) -> bool:
        """Whether the joint could be there in time if the acceleration could jump."""
        coasting = state.position + self._period * state.velocity
        most = 0.5 * self.bounds.acceleration * self._period**2
        return abs(goal.position - coasting) <= most

    def _smoothly(self, state: JointState, goal: Goal) -> JointPath | None:
        if not self.is_permitted(state.position):
            return None  # in again the quickest way, whose turning points are known exactly
        terms, (velocity, acceleration, jerk) = _smooth(*state, *goal, self._period)
        bounds = self.bounds
        if velocity > bounds.velocity or acceleration > bounds.acceleration or jerk > bounds.jerk:
            return None
        fifth = self._period / 5.0
        control = (
            state.position,
            state.position + fifth * state.velocity,
            state.position + 2.0 * fifth * state.velocity + 1.25 * fifth**2 * state.acceleration,
            goal.position - 2.0 * fifth * goal.velocity + 1.25 * fifth**2 * goal.acceleration,
            goal.position - fifth * goal.velocity,
            goal.position,
        )
        lowest, highest = min(control), max(control)
        to_rest = goal.velocity == 0.0 == goal.acceleration
        if to_rest and self._is_detour(state, goal, lowest, highest):
            return None  # no overshooting where the quickest way does not
        return self._complete(state, goal, [(0.0, *terms)], self._period, lowest, highest)

    def _in_time(self, state: JointState, goal: Goal) -> JointPath | None:
        """Return the path to the goal, if it can be there at the end of the period."""
        smooth = self._smoothly(state, goal)
        if smooth is not None:
            return smooth
        if not self._calculate(state, goal, self._period):
            return None
        late = self._trajectory.duration > self._period + _ROUNDING
        return None if late else self._followed(state, goal, goal)

    def _in_time_at_another_speed(self, state: JointState, goal: Goal) -> JointPath | None:
        """Return a path that is there in time, but faster or slower than the goal asks for.

        No further from that than it must be. Where the goal is to rest, that would be beyond it.
        """
        if goal.velocity == 0.0:
            return None
        # the speed at the end of a uniform acceleration: nothing gets there with less
        uniform = 2.0 * (goal.position - state.position) / self._period - state.velocity
        for part in _COMPROMISES:
            aim = Goal(goal.position, goal.velocity + part * (uniform - goal.velocity))
            path = self._in_time(state, aim) if self.permitted(aim) == aim else None
            if path is not None:
                return path
        return None

    def _late(self, state: JointState, goal: Goal) -> JointPath | None:
        """Return the quickest path to where the goal will be."""
        caught = self._catch(state, goal)
        return None if caught is None else self._followed(state, goal, caught)

    def _followed(self, state: JointState, goal: Goal, caught: Goal) -> JointPath | None:
        """Return the path that follows the trajectory just calculated for one period."""
        followed = _segments(self._trajectory, self._period - _ROUNDING)
        if self._trajectory.duration < self._period - _ROUNDING:  # it rests there already
            followed.append(resting(caught.position, self._trajectory.duration))
        extrema = self._trajectory.position_extrema[0]
        if self._is_detour(state, caught, extrema.min, extrema.max):
            return None
        # The library's extrema are not relied on: with next to no jerk it overlooks turning points.
        lowest, highest = self._range(followed, state)
        return self._complete(state, goal, followed, self._trajectory.duration, lowest, highest)

    def _range(self, segments: Sequence[Segment], state: JointState) -> tuple[float, float]:
        """Return between what positions segments are for one period: bounds, where that will do."""
        lowest, highest = _hull(segments, self._period)
        if (
            min(self._lower, state.position)
            <= lowest
            <= highest
            <= max(self._upper, state.position)
        ):
            return lowest, highest
        return _range(segments, self._period)

    def _catch(self, state: JointState, goal: Goal) -> Goal | None:
        """Calculate the quickest motion to a goal that moves on at its speed if reached late.

        Returns where that will be: aiming at where the goal will be no more would never catch up.
        """
        if not self._calculate(state, goal, self._period):
            return None
        aim = goal
        for _ in range(_CHASES):
            late = self._trajectory.duration - self._period
            ahead = goal._replace(position=goal.position + late * goal.velocity)
            if late <= _ROUNDING or not goal.velocity or self.permitted(ahead) != ahead:
                break
            if not self._calculate(state, ahead, self._period + late):
                return goal if self._calculate(state, goal, self._period) else None
            aim = ahead
        return aim

    def _complete(
        self,
        state: JointState,
        goal: Goal,
        followed: list[Segment],
        duration: float,
        lowest: float,
        highest: float,
    ) -> JointPath | None:
        """Return the path with the stop that follows it; None if it leaves what it may not."""
        period = self._period
        arrives = duration <= period + _ROUNDING
        if arrives:
            at_end = JointState(goal.position, goal.velocity, goal.acceleration)
        else:
            at_end = state_at(followed[-1], period)
        # how fast it gets before the acceleration is taken back
        fastest = at_end.velocity + (
            0.5 * at_end.acceleration * abs(at_end.acceleration) / self.bounds.jerk
        )
        if abs(fastest) > (1.0 + _RELATIVE) * self.bounds.velocity:
            return None
        stop = self._stop(at_end, period)
        path = JointPath(
            (*followed, *stop.segments),
            stop.end,
            min(lowest, stop.lowest),
            max(highest, stop.highest),
        )
        return path if self._is_inside(path, state) else None

    def _stop_from(self, state: JointState) -> JointPath:
        """Return `_stop` of the state that plans begin at, which is asked for again and again."""
        if self._stopped is None or self._stopped[0] is not state:
            self._stopped = state, self._stop(state)
        return self._stopped[1]

    def _stop(self, state: JointState, start: float = 0.0) -> JointPath:
        """Return the quickest stop: the deceleration is built up, kept, and taken back.

        It begins at ``start`` (s).
        """
        bounds = self.bounds
        segments, lowest, highest = _quickest_stop(*state, bounds.acceleration, bounds.jerk, start)
        return JointPath(segments, segments[-1][0], lowest, highest)

    def _calculate(self, state: JointState, goal: Goal, shortest: float) -> bool:
        """Calculate the trajectory to ``goal`` that takes ``shortest`` s if it can, or longer."""
        given = self._input
        # Where it is to rest it may do so earlier: taking its time might lead it further astray.
        given.minimum_duration = shortest if goal.velocity or goal.acceleration else None
        given.current_position = [state.position]
        given.current_velocity = [state.velocity]
        given.current_acceleration = [state.acceleration]
        given.target_position = [goal.position]
        given.target_velocity = [goal.velocity]
        given.target_acceleration = [goal.acceleration]
        try:
            return self._ruckig.calculate(given, self._trajectory) in _PLANNED
        except RuckigError:
            return False

    def _is_inside(self, path: JointPath, state: JointState) -> bool:
        """Whether the path stays inside the position limits.

        Or, from outside, goes no further out, and not out again once it came in.
        """
        lower = min(self._lower, state.position) - self._tolerance
        upper = max(self._upper, state.position) + self._tolerance
        if not (path.lowest >= lower and path.highest <= upper):
            return False
        return self.is_permitted(state.position) or self._comes_in(path)

    def is_permitted(self, position: float) -> bool:
        """Whether a position is inside the position limits."""
        return self.bounds.lower <= position <= self.bounds.upper

    def _comes_in(self, path: JointPath) -> bool:
        came_in = False
        for position in _turning_points(path.segments, path.end):
            if came_in and not self.is_permitted(position):
                return False
            came_in = came_in or self.is_permitted(position)
        return True

    def _is_detour(self, state: JointState, goal: Goal, lowest: float, highest: float) -> bool:
        """Whether a way leads beyond its ends, and beyond where braking would lead.

        The quickest way to a goal that is to be passed at some speed may first back up for a run.
        """
        near, far = sorted((state.position, goal.position))
        if lowest >= near - _ROUNDING and highest <= far + _ROUNDING:
            return False
        stop = self._stop_from(state)
        return lowest < min(near, stop.lowest) - _ROUNDING or (
            highest > max(far, stop.highest) + _ROUNDING
        )


@inlined
def _ramp(start, p, v, a, duration, jerk):  # type: ignore[no-untyped-def]
    """Return a stretch of constant jerk as a segment, the state after it, and position bounds."""
    # control points of a Bézier curve: it stays between them
    first = p + duration * v / 3.0
    second = p + duration * (2.0 * v / 3.0 + duration * a / 6.0)
    last = p + duration * (v + duration * (0.5 * a + duration * jerk / 6.0))
    after = last, v + duration * (a + 0.5 * duration * jerk), a + duration * jerk
    bounds = min(p, first, second, last), max(p, first, second, last)
    return (start, p, v, 0.5 * a, jerk / 6.0, 0.0, 0.0), after, bounds


@compiled(
    types.Tuple((types.UniTuple(types.UniTuple(_number, 7), 4), _number, _number))(*[_number] * 6)
)
def _quickest_stop(
    p: float, v: float, a: float, most: float, jerk: float, start: float
) -> tuple[tuple[Segment, ...], float, float]:
    """Return the quickest stop from a state: segments from ``start`` s on, and position bounds.

    The deceleration is built up, kept at ``most`` for a while where need be, and taken back.
    """
    # Where taking back the acceleration alone would lead decides which way to accelerate.
    sign = -1.0 if v + 0.5 * a * abs(a) / jerk > 0.0 else 1.0
    peak, build, hold = 0.0, 0.0, 0.0
    if abs(v) > _AT_REST or a != 0.0:
        peak = math.sqrt(max(0.5 * a * a - sign * v * jerk, 0.0))
        if peak > most:
            hold, peak = (peak * peak / most - most) / jerk, most
        build = max((peak - sign * a) / jerk, 0.0)
    one, (p1, v1, a1), (low1, high1) = _ramp(start, p, v, a, build, sign * jerk)
    two, (p2, v2, a2), (low2, high2) = _ramp(start + build, p1, v1, a1, hold, 0.0)
    back = start + build + hold
    three, (p3, _, _), (low3, high3) = _ramp(back, p2, v2, a2, peak / jerk, -sign * jerk)
    rest = (back + peak / jerk, p3, 0.0, 0.0, 0.0, 0.0, 0.0)
    return (one, two, three, rest), min(low1, low2, low3), max(high1, high2, high3)


def _segments(trajectory: Trajectory, until: float) -> list[Segment]:
    """Return the stretches of constant jerk, from 0 ``until`` s, of one joint's trajectory."""
    profile = trajectory.profiles[0][0]
    segments: list[Segment] = []
    start = 0.0
    # What brings a state that is beyond the limits back comes first, where there is need for it.
    for parts in (profile.brake, profile) if profile.brake.duration > 0.0 else (profile,):
        positions, velocities, accelerations, jerks = parts.p, parts.v, parts.a, parts.j
        for i, duration in enumerate(parts.t):
            if duration > 0.0:
                half, sixth = 0.5 * accelerations[i], jerks[i] / 6.0
                segments.append((start, positions[i], velocities[i], half, sixth, 0.0, 0.0))
                start += duration
                if start >= until:
                    return segments
    return segments


def _hull(segments: Sequence[Segment], end: float) -> tuple[float, float]:
    """Return bounds of the positions on cubic segments up to ``end`` (s), quicker than `_range`."""
    lowest, highest = math.inf, -math.inf
    for index, (start, p, v, half, sixth, *_) in enumerate(segments):
        duration = (segments[index + 1][0] if index + 1 < len(segments) else end) - start
        # control points of a Bézier curve: it stays between them
        first = p + duration * v / 3.0
        second = p + duration * (2.0 * v + duration * half) / 3.0
        last = p + duration * (v + duration * (half + duration * sixth))
        lowest = min(lowest, p, first, second, last)
        highest = max(highest, p, first, second, last)
    return lowest, highest


def _range(segments: Sequence[Segment], end: float) -> tuple[float, float]:
    """Return the lowest and the highest position on cubic segments up to ``end`` (s)."""
    positions = _turning_points(segments, end)
    return min(positions), max(positions)


def _turning_points(segments: Sequence[Segment], end: float) -> list[float]:
    """Return the positions where cubic segments up to ``end`` (s) begin, turn and end, in order."""
    positions = []
    for index, (start, p, v, half, sixth, *_) in enumerate(segments):
        duration = (segments[index + 1][0] if index + 1 < len(segments) else end) - start
        turns = sorted(t for t in _roots(3.0 * sixth, 2.0 * half, v) if 0.0 < t < duration)
        positions += [((sixth * t + half) * t + v) * t + p for t in (0.0, *turns, duration)]
    return positions


def _roots(a: float, b: float, c: float) -> list[float]:
    """Return the real roots of a t^2 + b t + c, computed so that none is lost to cancellation."""
    square = b * b - 4.0 * a * c
    if square < 0.0:
        return []
    q = -0.5 * (b + math.copysign(math.sqrt(square), b))
    return [top / bottom for top, bottom in ((q, a), (c, q)) if bottom != 0.0]


@compiled(types.Tuple((types.UniTuple(_number, 6), types.UniTuple(_number, 3)))(*[_number] * 7))
def _smooth(
    p: float, v: float, a: float, to: float, speed: float, change: float, t: float
) -> tuple[tuple[float, float, float, float, float, float], tuple[float, float, float]]:
    """Return the polynomial from one state to another in ``t`` s, and bounds of what it asks for.

    These are of its absolute velocity, acceleration and jerk: the greatest of the derivatives'
    Bernstein coefficients, never less than the true peaks, and little more.
    """
    way = to - (p + v * t + 0.5 * a * t**2)
    faster = (speed - (v + a * t)) * t
    bend = (change - a) * t**2
    c2 = 0.5 * a
    c3 = (10.0 * way - 4.0 * faster + 0.5 * bend) / t**3
    c4 = (-15.0 * way + 7.0 * faster - bend) / t**4
    c5 = (6.0 * way - 3.0 * faster + 0.5 * bend) / t**5
    v0, v1, v2, v3, v4 = v, 2.0 * c2 * t, 3.0 * c3 * t**2, 4.0 * c4 * t**3, 5.0 * c5 * t**4
    velocity = max(
        abs(v0),
        abs(v0 + v1 / 4.0),
        abs(v0 + v1 / 2.0 + v2 / 6.0),
        abs(v0 + 0.75 * v1 + v2 / 2.0 + v3 / 4.0),
        abs(v0 + v1 + v2 + v3 + v4),
    )
    a0, a1, a2, a3 = 2.0 * c2, 6.0 * c3 * t, 12.0 * c4 * t**2, 20.0 * c5 * t**3
    acceleration = max(
        abs(a0),
        abs(a0 + a1 / 3.0),
        abs(a0 + (2.0 * a1 + a2) / 3.0),
        abs(a0 + a1 + a2 + a3),
    )
    j0, j1, j2 = 6.0 * c3, 24.0 * c4 * t, 60.0 * c5 * t**2
    jerk = max(abs(j0), abs(j0 + 0.5 * j1), abs(j0 + j1 + j2))
    return (p, v, c2, c3, c4, c5), (velocity, acceleration, jerk)
