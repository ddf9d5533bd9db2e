"""The last thing between a command and the robot: limits on what is sent.

What is sent are samples, one per sub-step, of a path that is twice differentiable in every joint
(`path.py`). The promise is about that path, from any state that ``reset`` accepts and for any
command whatever: position, velocity, acceleration and jerk of each joint stay within their limits
at every instant; distances hold along the straight lines between samples, the other constraints of
the whole robot at samples and half-way; and nothing that is not finite is ever sent.

The method: nothing is sent that was not checked together with the stop that follows it. So there is
always a safe way on, whatever comes next: the stop of the motion sent last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Joint
from rl_robot.safety.constraints import (
    UNBOUNDED,
    AccelerationLimits,
    Finding,
    GripperForce,
    JerkLimits,
    JointConstraint,
    Measured,
    PositionLimits,
    SweepConstraint,
    VelocityLimits,
)
from rl_robot.safety.geometry import Geometry
from rl_robot.safety.path import JointPath, JointState, Path
from rl_robot.safety.planner import Bounds, Goal, JointPlanner
from rl_robot.safety.stopping import stopping_distance
from rl_robot.safety.sweep import Sweep

Array = npt.NDArray[np.float64]

JOINT_LIMITS = (PositionLimits(), VelocityLimits(), AccelerationLimits(), JerkLimits())

# Parts of a motion that are tried where all of it would break a constraint of the whole robot,
# before the robot is stopped. Period by period, it gets slower towards what it must not touch; the
# small part is for motion so close to it that only slow motion is known to be clear.
_SLOWED = (0.4, 0.06)
# A goal that is missed by less was reached, rad or m.
_REACHED = 1e-8
_RELATIVE = 1e-9
# Targets beyond are cut before any arithmetic, so that nothing overflows (rad or m).
_HUGE = 1e6
# Limits and measurements beyond this are mistakes, and would strain the arithmetic.
_WIDEST = 1e6
_LONGEST = 100.0  # s from full speed to a stop
_SAME_TIME = 1e-9  # s


@dataclass(frozen=True)
class Intervention:
    """One constraint that a command would have broken.

    Attributes:
        kind: name of the constraint, or "non_finite" or "malformed" (other joints, shapes or times
            than ``check_command`` lets through).
        where: name of the joint, or what in the whole robot is concerned.
        amount: by how much the command exceeded the limit, in SI units; 1 for "non_finite" and
            "malformed", which name every joint.
    """

    kind: str
    where: str
    amount: float


@dataclass(frozen=True)
class SafeMotion:
    """What may be sent: one period of motion, what was changed and why, and the room left.

    Attributes:
        motion: positions (substeps, n) at (substeps,) times from the start of the period.
        interventions: empty when the command was followed, or when there was none.
        margins: "<constraint>/<joint>" for the limits of joints, otherwise "<constraint>" ->
            smallest distance to the limit within the period, and for the whole robot until it
            could have stopped. SI units; negative only where the robot was measured beyond a limit.
            Of distances what is known: there may be more, where nothing had to be known better.
    """

    motion: Motion
    interventions: tuple[Intervention, ...]
    margins: dict[str, float]


class State(NamedTuple):
    """Commanded positions, velocities and accelerations, (n,) each."""

    positions: Array
    velocities: Array
    accelerations: Array


class _Samples(NamedTuple):
    """Positions and velocities (K, n) on a path, as sent, from the present until it rests."""

    positions: Array
    velocities: Array


class _Plan(NamedTuple):
    """A path that keeps all constraints, its samples, and what was found.

    ``quickest``: whether it stops as quickly as it can after its first period.
    """

    path: Path
    samples: _Samples
    findings: dict[str, Finding]
    quickest: bool = True


class SafetyFilter:
    """Limits what is sent to the joints."""

    def __init__(
        self,
        joints: Sequence[Joint],
        *,
        period: float = 0.1,
        substeps: int = 5,
        limits: Iterable[JointConstraint] = JOINT_LIMITS,
        constraints: Iterable[SweepConstraint] = (),
        geometry: Geometry | None = None,
        gripper_force: GripperForce | None = None,
    ) -> None:
        """Filter commands to ``joints``, ``substeps`` samples per ``period`` (s).

        Args:
            joints: the robot's.
            period: s.
            substeps: samples per period.
            limits: of single joints.
            constraints: of the whole robot; they need its ``geometry``.
            geometry: of the robot.
            gripper_force: limit of the gripper's force, if it has one.

        Raises:
            ValueError: no joints, limits that are not usable, sub-steps that are not between
                0.1 ms and 1 s long, or constraints without geometry.
        """
        if not (substeps >= 1 and 1e-4 <= period / substeps <= 1.0):
            raise ValueError(f"a period of {period} s in {substeps} sub-steps is not usable")
        if not joints:
            raise ValueError("a safety filter needs at least one joint")
        self._constraints = tuple(constraints)
        if self._constraints and geometry is None:
            raise ValueError("constraints of the whole robot need its geometry")
        self._geometry = geometry
        self._gripper_force = gripper_force
        self.names = tuple(joint.name for joint in joints)
        limits = tuple(limits)
        for joint in joints:
            _check_limits(joint)
        self.limits = [_narrowed(joint, limits) for joint in joints]
        self._planners = [JointPlanner(bounds, period) for bounds in self.limits]
        self._lower = np.array([bounds.lower for bounds in self.limits])
        self._upper = np.array([bounds.upper for bounds in self.limits])
        self._most = np.array([[b.velocity, b.acceleration, b.jerk] for b in self.limits]).T
        self.period = period
        self.interval = period / substeps
        self._substeps = substeps
        self._times = self.interval * np.arange(1, substeps + 1, dtype=np.float64)
        self._times[-1] = period
        self._times.setflags(write=False)
        longest = max(
            b.velocity / b.acceleration + 4.0 * b.acceleration / b.jerk for b in self.limits
        )
        self._grid = self.interval * np.arange(np.ceil((period + longest) / self.interval) + 2.0)
        # where the jerk jumps at the end of the period, what comes before it counts
        self._changing = np.array([0.0, *self._times[:-1], (1.0 - 1e-9) * period])
        self._margin_names = tuple(
            f"{kind}/{name}"
            for kind in ("position", "velocity", "acceleration", "jerk")
            for name in self.names
        )
        self._measured = Measured(*np.full((2, len(joints)), np.nan))
        self._plan: _Plan | None = None
        self._before: _Plan | None = None  # what the last step replaced
        self._at = 0.0  # time on the plan's path at which the next period begins
        self._sent = False

    @property
    def state(self) -> State:
        """What is commanded at the beginning of the next period.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        return State(*np.array(self._states()).T)

    @property
    def at_rest(self) -> bool:
        """Whether all joints stand at the end of the last period.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        return self._going().path.end <= self._at + _SAME_TIME

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
        where = self._checked("positions", positions)
        rates = self._checked(
            "velocities", np.zeros(len(self.names)) if velocities is None else velocities
        )
        paths = []
        for planner, position, rate in zip(self._planners, where, rates, strict=True):
            outward = planner.stoppable(float(position), float(rate))
            paths.append(
                planner.brake(JointState(float(position), outward, 0.0))
                or JointPath.resting(float(position))
            )
        path = Path.of(paths)
        self._plan, self._before = _Plan(path, self._samples(path, path.end), {}), None
        self._at, self._sent = 0.0, False

    def measure(self, positions: Array, efforts: Array) -> None:
        """Take what the joints' sensors say: (n,) each, SI units; efforts NaN where unknown."""
        self._measured = Measured(positions, efforts)

    def step(self, motion: Motion | None) -> SafeMotion:
        """Return one period of motion within limits that follows ``motion`` as far as it may.

        What counts is where ``motion``, which starts where the last one ended, is at the end of the
        period, and how fast: the way there is chosen smooth. Its last point is held if it comes
        before that. None, or a motion that is not usable, decelerates every joint to a stop and
        holds. Numbers of any kind in a motion never raise.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        plan, interventions = self._decide(motion)
        self._before = self._plan
        self._plan, self._at, self._sent = plan, self.period, True
        return self._answer(plan, interventions)

    def withdraw(self) -> None:
        """Take back the last ``step``, whose motion was not sent: the one before is going on.

        `interrupt` then tells how far that has come.

        Raises:
            RuntimeError: there was no step since the last ``reset``.
        """
        if self._before is None:
            raise RuntimeError("there is no motion to withdraw")
        self._plan, self._before = self._before, None
        self._at, self._sent = self.period, True

    def preview(self, motion: Motion | None) -> SafeMotion:
        """Return what ``step`` would return, and change nothing.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        return self._answer(*self._decide(motion))

    def tail(self) -> Motion:
        """Return the motion that brakes to a stop after the period returned last.

        Its times go on after that period; it has no points where all joints are at rest. A driver
        that gets it together with the period, and then nothing more, stops within limits by itself.
        """
        path, samples = self._going()[:2]
        count = max(int(np.ceil((path.end - self._at) / self.interval - 1e-6)), 0)
        ahead = self.interval * np.arange(1, count + 1, dtype=np.float64)
        if self._at == self.period:
            positions = samples.positions[self._substeps + 1 :][:count]
        else:
            positions, _ = path.sample(self._at + ahead)
        return Motion(self.names, self.period + ahead, positions)

    def interrupt(self, elapsed: float) -> None:
        """Go on from where the driver is ``elapsed`` s after the period returned last began.

        For commands that are sent as they arrive, sooner or later than one period after the last
        one: call it before ``step``, so that the next motion starts where the driver really is. It
        takes it that the driver also got the ``tail``. Without effect after ``reset``, or twice.

        Raises:
            ValueError: ``elapsed`` is not finite.
        """
        if not np.isfinite(elapsed):
            raise ValueError(f"elapsed: expected seconds, got {elapsed}")
        if self._sent:
            self._at = min(max(elapsed, 0.0), max(self._going().path.end, self.period))
            self._sent = False

    # --- deciding --------------------------------------------------------------------------

    def _going(self) -> _Plan:
        if self._plan is None:
            raise RuntimeError("the safety filter needs reset() with the measured state first")
        return self._plan

    def _left(self) -> Path:
        """Return what is left of the motion that is going on."""
        return self._going().path.after(self._at)

    def _states(self) -> list[JointState]:
        return self._going().path.states(self._at)

    def _decide(self, motion: Motion | None) -> tuple[_Plan, tuple[Intervention, ...]]:
        """Return the motion to send, and what had to be changed about the one asked for."""
        states = self._states()
        problem = None if motion is None else self._problem(motion)
        if motion is None or problem is not None:
            refused = () if problem is None else self._refuse(problem)
            return self._halt(states), refused
        goals, interventions = self._permitted(self._asked(motion, states), states)
        path = Path.of(self._paths(states, goals))
        samples = self._samples(path, max(path.end, self._going().path.end - self._at))
        interventions += self._missed(states, goals, samples.positions[self._substeps])
        findings, broken = self._look(samples)
        if broken is None:
            return _Plan(path, samples, findings), tuple(interventions)
        interventions.append(broken)
        return self._slowed(path, samples), tuple(interventions)

    def _slowed(self, path: Path, samples: _Samples) -> _Plan:
        """Return a motion between ``path``, with its samples, and the stop that was planned.

        Or that stop, where this would break something as well, or might lead out of limits again
        that a joint came from outside of.
        """
        present = zip(self._planners, samples.positions[0].tolist(), strict=True)
        if not all(planner.is_permitted(position) for planner, position in present):
            return self._as_planned()
        stop = self._left()
        stopping = self._samples(stop, self.interval * (len(samples.positions) - 1))
        for share in _SLOWED:
            slowed = _Samples(
                *(
                    share * there + (1.0 - share) * here
                    for there, here in zip(samples, stopping, strict=True)
                )
            )
            findings, broken = self._look(slowed)
            if broken is None:
                return _Plan(path.blend(stop, share), slowed, findings, quickest=False)
        return self._as_planned()

    def _asked(self, motion: Motion, states: Sequence[JointState]) -> list[Goal]:
        """Return where the motion is at the end of the period, how fast, and how accelerating."""
        times = np.asarray(motion.times, dtype=np.float64)
        positions = np.clip(np.asarray(motion.positions, dtype=np.float64), -_HUGE, _HUGE)
        if len(times) == len(self._times) > 3 and np.abs(times - self._times).max() < _SAME_TIME:
            # Derivatives at the last point: of the cubic through the last four where that keeps
            # the jerk limit, otherwise, at a bend, of the line through the last two.
            a, b, c, d = positions[-4:]
            third = np.abs(d - 3.0 * c + 3.0 * b - a) / self.interval**3
            smooth = third <= 1.001 * self._most[2]
            cubic = (11.0 * d - 18.0 * c + 9.0 * b - 2.0 * a) / (6.0 * self.interval)
            rates = np.where(smooth, cubic, (d - c) / self.interval)
            changes = smooth * (2.0 * d - 5.0 * c + 4.0 * b - a) / self.interval**2
            return [Goal(*goal) for goal in np.column_stack([d, rates, changes]).tolist()]
        if times[0] > 0.0:
            times = np.concatenate([[0.0], times])
            positions = np.concatenate([[[state.position for state in states]], positions])
        if times[-1] < self.period - _SAME_TIME or len(times) == 1:  # reached before: held there
            return [Goal(position) for position in positions[-1].tolist()]
        after = min(int(np.searchsorted(times, self.period - _SAME_TIME)), len(times) - 1)
        after = max(after, 1)
        with np.errstate(over="ignore"):  # times may be as close as floats get
            rates = (positions[after] - positions[after - 1]) / (times[after] - times[after - 1])
        rates = np.clip(rates, -_HUGE, _HUGE)
        wanted = positions[after] + (self.period - times[after]) * rates
        return [Goal(*goal) for goal in np.column_stack([wanted, rates]).tolist()]

    def _permitted(
        self, asked: Sequence[Goal], states: Sequence[JointState]
    ) -> tuple[list[Goal], list[Intervention]]:
        """Return the goals as far as each joint's limits permit them, and what was changed."""
        goals, interventions = [], []
        for name, planner, goal in zip(self.names, self._planners, asked, strict=True):
            permitted = planner.permitted(goal)
            interventions += _cut(name, planner, goal, permitted)
            goals.append(permitted)
        force = self._gripper_force
        if force is not None and force.reached(self._measured):
            index = force.joint
            goal, state = goals[index], states[index]
            if force.presses(goal, state.position, self._measured):
                beyond = -force.room(self._measured)
                interventions.append(Intervention(force.name, self.names[index], beyond))
                goals[index] = Goal(*self._stop(index, state).at(self.period))
            else:
                goals[index] = Goal(goal.position)  # with no run-up towards what is pressed on
        return goals, interventions

    def _paths(self, states: Sequence[JointState], goals: Sequence[Goal]) -> list[JointPath]:
        """Return the joints' paths to the goals; where there is none, to a stop."""
        return [
            planner.reach(state, goal) or self._stop(index, state)
            for index, (planner, state, goal) in enumerate(
                zip(self._planners, states, goals, strict=True)
            )
        ]

    def _stop(self, index: int, state: JointState) -> JointPath:
        """Return the path of a joint that stops at once, or as it was to stop anyway."""
        brake = self._planners[index].brake(state)
        return brake or self._left().joint(index)

    def _halt(self, states: Sequence[JointState]) -> _Plan:
        """Return the stop at once or, should that break something, the one planned before."""
        going = self._going()
        if self._at >= self.period - _SAME_TIME and going.findings and going.quickest:
            return self._as_planned()  # by now that is the stop at once
        path = Path.of([self._stop(index, state) for index, state in enumerate(states)])
        samples = self._samples(path, path.end)
        findings, broken = self._look(samples)
        return _Plan(path, samples, findings) if broken is None else self._as_planned()

    def _as_planned(self) -> _Plan:
        """Return what is left of the motion sent last, its stop: that was checked with it."""
        path, going = self._left(), self._going()
        return _Plan(path, self._samples(path, path.end), going.findings, going.quickest)

    def _samples(self, path: Path, end: float) -> _Samples:
        """Return the samples of a path up to ``end`` (s), or of one period at least."""
        count = max(self._substeps, int(np.ceil(end / self.interval - 1e-6)))
        return _Samples(*path.sample(self._grid[: count + 1]))

    def _look(self, samples: _Samples) -> tuple[dict[str, Finding], Intervention | None]:
        """Return what the constraints say of a motion, up to the first that it breaks."""
        findings: dict[str, Finding] = {}
        if self._geometry is None:
            return findings, None
        sweep = Sweep(self._geometry, samples.positions, self.interval)
        for constraint in self._constraints:
            finding = constraint.look(sweep)
            findings[constraint.name] = finding
            if finding.broken:
                return findings, Intervention(constraint.name, finding.where, -finding.room)
        return findings, None

    def _missed(
        self, states: Sequence[JointState], goals: Sequence[Goal], arrived: Array
    ) -> list[Intervention]:
        """Return the limits that prevent joints from being where they should be in time."""
        return [
            _prevented(name, planner, state, goal)
            for name, planner, state, goal, position in zip(
                self.names, self._planners, states, goals, arrived.tolist(), strict=True
            )
            if abs(position - goal.position) > _REACHED
        ]

    # --- answering -------------------------------------------------------------------------

    def _answer(self, plan: _Plan, interventions: tuple[Intervention, ...]) -> SafeMotion:
        positions, velocities = (samples[: self._substeps + 1] for samples in plan.samples)
        room = np.minimum(positions - self._lower, self._upper - positions).min(axis=0)
        derivatives = velocities, *plan.path.changes(self._changing)
        peaks = np.array([np.abs(samples).max(axis=0) for samples in derivatives])
        values = np.concatenate([room, (self._most - peaks).ravel()]).tolist()
        margins = dict(zip(self._margin_names, values, strict=True))
        margins |= {name: finding.room for name, finding in plan.findings.items()}
        if self._gripper_force is not None:
            margins[self._gripper_force.name] = self._gripper_force.room(self._measured)
        return SafeMotion(Motion(self.names, self._times, positions[1:]), interventions, margins)

    # --- what comes in ---------------------------------------------------------------------

    def _checked(self, what: str, values: Sequence[float] | Array) -> Array:
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
        with np.errstate(over="ignore"):  # of wider floats
            numbers = positions.astype(np.float64), times.astype(np.float64)
        if not all(np.isfinite(values).all() for values in numbers):
            return "non_finite"
        if times[0] < 0 or (times[1:] <= times[:-1]).any():
            return "malformed"
        return None

    def _refuse(self, kind: str) -> tuple[Intervention, ...]:
        return tuple(Intervention(kind, name, 1.0) for name in self.names)


def _cut(name: str, planner: JointPlanner, asked: Goal, permitted: Goal) -> list[Intervention]:
    """Say what of a joint's goal was not permitted."""
    bounds = planner.bounds
    cut = []
    outside = abs(asked.position - permitted.position)
    if outside > _REACHED:
        cut.append(Intervention("position", name, outside))
    speed = abs(asked.velocity)
    if speed > (1.0 + _RELATIVE) * bounds.velocity:
        cut.append(Intervention("velocity", name, speed - bounds.velocity))
    elif outside <= _REACHED:
        upwards = asked.velocity > 0.0
        room = bounds.upper - permitted.position if upwards else permitted.position - bounds.lower
        overrun = stopping_distance(speed, bounds.acceleration, bounds.jerk) - room
        if speed > 0.0 and overrun > _REACHED:
            cut.append(Intervention("position", name, overrun))
    return cut


def _prevented(name: str, planner: JointPlanner, state: JointState, goal: Goal) -> Intervention:
    """Say which limit prevents most that a joint reaches its goal in time."""
    bounds, (velocity, acceleration, jerk) = planner.bounds, planner.excess(state, goal)
    _, kind, amount = max(
        (velocity / bounds.velocity, "velocity", velocity),
        (acceleration / bounds.acceleration, "acceleration", acceleration),
        (jerk / bounds.jerk, "jerk", jerk),
    )
    return Intervention(kind, name, amount)


def _narrowed(joint: Joint, limits: Iterable[JointConstraint]) -> Bounds:
    """Return what all limits together allow a joint."""
    bounds = UNBOUNDED
    for limit in limits:
        bounds = limit.narrow(joint, bounds)
    return bounds


def _check_limits(joint: Joint) -> None:
    usable = (
        -_WIDEST <= joint.lower <= joint.upper <= _WIDEST
        and 1.0 / _WIDEST <= joint.velocity <= _WIDEST
        and 1.0 / _WIDEST <= joint.acceleration <= _WIDEST
        and 1.0 / _WIDEST <= joint.jerk <= _WIDEST**2
        and joint.velocity / joint.acceleration + joint.acceleration / joint.jerk <= _LONGEST
    )
    if not usable:
        raise ValueError(
            f"limits of {joint.name} are not usable: position {joint.lower} to {joint.upper}, "
            f"velocity {joint.velocity}, acceleration {joint.acceleration}, jerk {joint.jerk}"
        )
