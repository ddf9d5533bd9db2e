"""Takes over where the robot can't get on by itself, brings it back, and hands it back at rest.

Exploration stalls where a robot gets stuck: at a joint's limit, before an obstacle, against
something that is in the way. A policy that got there seldom knows the way out; the robot does: it
is the way it came. So recovery retraces what was commanded, gently, until there is room again.
Where there is no such way, it looks for one that gains room. All of it goes through the same
filter. Ibarz et al., How to Train Your Robot with Deep Reinforcement Learning (IJRR 2021), 3.9.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.safety.filter import Intervention, SafeMotion, SafetyFilter
from rl_robot.safety.unsafe import Contact, Room, Slip, Stuck, Unsafe

Array = npt.NDArray[np.float64]

_TRAIL = 200  # points of the way that the robot came
_APART = 1e-3  # rad or m between two of them
_STALLED = 5  # periods without motion after which another way is looked for
_PROBE = 1e-3  # rad or m by which joints are moved to see what it gains

_FLAT = 1e-12
_SMALL = 0.2  # part of a period's motion that is tried too: near the goal, the whole is too far
_ENOUGH = 0.5  # part of the clearance that may lack where no way gains more


@dataclass(frozen=True)
class Gentleness:
    """How recovery moves the robot.

    Attributes:
        speed: part (0, 1] of the joints' velocity limits.
        patience: s after which it gives up.
        back: how far it goes back at least from what is in the way, rad or m of some joint.
    """

    speed: float
    patience: float
    back: float


class Recovery:
    """Stands between a source and the filter, and takes the source's place where it must."""

    def __init__(
        self,
        robot: Robot,
        safety_filter: SafetyFilter,
        room: Room,
        gentleness: Gentleness,
        *,
        stuck: Stuck | None = None,
        contact: Contact | None = None,
        slip: Slip | None = None,
    ) -> None:
        """Recover ``robot`` through ``safety_filter``, which nobody else may step.

        Args:
            robot: the robot.
            safety_filter: what all motion passes.
            room: what to restore.
            gentleness: how to move.
            stuck: recognizes being held back.
            contact: recognizes something in the way.
            slip: recognizes a grip that slips.
        """
        self._filter = safety_filter
        self._room = room
        self._stuck, self._contact, self._slip = stuck, contact, slip
        self._arm = len(robot.arm_joints)
        self._home = robot.home_positions[: self._arm]
        self._gripper = robot.gripper
        period = safety_filter.period
        self._period = np.array([period])
        self._most = gentleness.speed * period * robot.velocity
        self._patience = max(round(gentleness.patience / period), 1)
        self._gentleness = gentleness
        #: how often each kind of unsafe state was recovered from, "lost" for what was dropped
        self.counts: Counter[str] = Counter()
        self._failure = ""
        self.restart()

    @property
    def active(self) -> Unsafe | None:
        """What the robot is being recovered from; None while the source moves it."""
        return self._unsafe

    @property
    def failure(self) -> str:
        """Why recovery gave up, in words; empty if it did not. It holds until ``restart``."""
        return self._failure

    @property
    def room(self) -> Room:
        """What recovery restores."""
        return self._room

    def restart(self) -> None:
        """Begin anew: the robot was moved by others, or somebody said that it may go on."""
        self._unsafe: Unsafe | None = None
        self._failure = ""
        self._trail: deque[Array] = deque(maxlen=_TRAIL)
        self._path: Array | None = None
        self._measured: Array | None = None
        for recognizer in (self._stuck, self._contact, self._slip):
            if recognizer is not None:
                recognizer.restart()

    def measure(self, positions: Array) -> None:
        """Take measured positions (n,)."""
        self._measured = positions

    def step(self, motion: Motion | None, *, overseen: bool = True) -> SafeMotion:
        """Return one period of motion: the source's, or recovery's while it is ``active``.

        Whether it is shows afterwards: it takes over on the very period in which it recognizes an
        unsafe state, and hands back on the first in which it has nothing more to do, at rest. It
        never takes the place of a motion that is not ``overseen``, and ends for one.
        """
        self._see()
        if not overseen:
            self._unsafe = None
            return self._sent(self._filter.step(motion))
        if self._unsafe is None:
            self._begin(self._recognize())
        elif self._is_over():
            self._unsafe = None
        if self._unsafe is not None:
            self._periods += 1
            if self._periods > self._patience:
                self._failure, self._unsafe = self._words(), None
        if self._failure:
            motion = None
        return self._sent(self._filter.step(motion if self._unsafe is None else self._way_back()))

    # --- recognizing -----------------------------------------------------------------------

    def _see(self) -> None:
        positions = self._filter.state.positions
        if self._unsafe is None and (
            not self._trail or np.abs(positions - self._trail[-1]).max() > _APART
        ):
            self._trail.append(positions)
        if self._path is not None and self._measured is not None:
            for recognizer in (self._contact, self._slip):
                if recognizer is not None:
                    recognizer.see(self._path, self._measured)

    def _recognize(self) -> Unsafe | None:
        positions = self._filter.state.positions if self._measured is None else self._measured
        return (
            (self._stuck.look(positions) if self._stuck else None)
            or (self._contact.look() if self._contact else None)
            or (self._slip.look() if self._slip else None)
        )

    def _begin(self, unsafe: Unsafe | None) -> None:
        if unsafe is None or self._failure:
            return
        self._unsafe = unsafe
        self.counts[unsafe.kind] += 1
        self._periods = self._standing = 0
        self._started = self._filter.state.positions
        if self._slip is not None and unsafe.kind == "slip":
            self._slip.grip_again()

    def _is_over(self) -> bool:
        """Whether the robot rests where it may be handed back."""
        assert self._unsafe is not None
        if self._unsafe.kind != "slip":
            return self._filter.at_rest and (self._is_clear() or self._is_best())
        assert self._slip is not None
        if self._slip.dropped:
            self.counts["lost"] += 1
            self._slip.restart()
            return True
        return self._slip.holds

    def _is_clear(self) -> bool:
        positions = self._filter.state.positions
        if self._contact is not None and not self._contact.follows:
            return False
        if self._unsafe is not None and self._unsafe.kind == "contact" and self._trail:
            # Commanded no further than to what is in the way, the joints still touch it.
            way = np.abs(positions - self._started)[: self._arm]
            if float(way.max()) < self._gentleness.back:
                return False
        return not self._room.lacking(positions)

    def _is_best(self) -> bool:
        """Whether no way gains more room, and most of it is there."""
        lacking = self._room.lacking(self._filter.state.positions).values()
        follows = self._contact is None or self._contact.follows
        stands = self._standing >= _STALLED and not self._trail
        return stands and follows and max(lacking, default=0.0) < _ENOUGH

    def _words(self) -> str:
        assert self._unsafe is not None
        what = {
            "limit": f"{self._unsafe.where} did not get away from its limit",
            "collision": f"{self._unsafe.where}: no way was found that keeps more distance",
            "contact": f"something is in the way of {self._unsafe.where}",
            "slip": f"{self._unsafe.where}: what it holds slips",
        }[self._unsafe.kind]
        return f"recovery, which gave up after {self._gentleness.patience:g} s: {what}"

    # --- the way back ----------------------------------------------------------------------

    def _way_back(self) -> Motion | None:
        """Return the next period of the way back; None to brake."""
        assert self._unsafe is not None
        state = self._filter.state.positions
        if self._unsafe.kind == "slip":
            return self._grip(state)
        if self._is_clear():
            return None
        moved = self._path is None or np.abs(self._path[-1] - self._path[0]).max() > _APART
        self._standing = 0 if moved else self._standing + 1
        if self._standing >= _STALLED:
            self._trail.clear()  # the way that it came is barred by now
        if self._trail:
            return self._retrace(state)
        return self._escape(state)

    def _motion(self, goal: Array) -> Motion:
        return Motion(self._filter.names, self._period, goal[None])

    def _grip(self, state: Array) -> Motion:
        """Return a period in which the arm holds still and the gripper closes."""
        assert self._gripper is not None
        index = self._filter.names.index(self._gripper.joint)
        goal = state.copy()
        goal[index] = max(goal[index] - self._most[index], self._gripper.closed)
        return self._motion(goal)

    def _retrace(self, state: Array) -> Motion:
        """Return a period of the way that the robot came; the gripper stays as it is."""
        arm, budget = state[: self._arm], 1.0
        while self._trail and budget > 0.0:
            way = self._trail[-1][: self._arm] - arm
            need = float((np.abs(way) / self._most[: self._arm]).max())
            reached = need <= budget
            arm = self._trail.pop()[: self._arm] if reached else arm + way * (budget / need)
            budget -= need
        return self._motion(np.concatenate([arm, state[self._arm :]]))

    def _escape(self, state: Array) -> Motion | None:
        """Return the period that gains most room, of some that the filter lets pass."""
        rest = np.zeros(len(state) - self._arm)
        goals = [state + np.concatenate([way, rest]) for way in self._ways(state)]
        for goal in sorted(goals, key=self._room.penalty):
            motion = self._motion(goal)
            end = self._filter.preview(motion).motion.positions[-1]
            if self._room.penalty(end) < self._room.penalty(state):
                return motion
        return None

    def _ways(self, state: Array) -> Iterator[Array]:
        """Yield ways (n_arm,) to try: where room is gained most, home, and each joint alone."""
        most = self._most[: self._arm]
        probes = _PROBE * np.eye(len(state))[: self._arm]
        gains = np.array(
            [self._room.penalty(state - by) - self._room.penalty(state + by) for by in probes]
        )
        gains /= max(float((np.abs(gains) / most).max()), _FLAT)
        yield from (gains, _SMALL * gains)
        home = self._home - state[: self._arm]
        yield home / max(float((np.abs(home) / most).max()), 1.0)
        for joint, by in enumerate(most):
            for sign in (-1.0, 1.0):
                yield sign * by * np.eye(self._arm)[joint]

    def _sent(self, safe: SafeMotion) -> SafeMotion:
        """Note what is sent, and among its interventions what the robot is recovered from."""
        self._path = safe.motion.positions
        unsafe = self._unsafe
        if self._stuck is not None:
            # what holds recovery back is not the source's doing
            self._stuck.see(safe.interventions if unsafe is None else ())
        if unsafe is None:
            return safe
        taken_over = Intervention("recovery", f"{unsafe.kind} {unsafe.where}", 1.0)
        return replace(safe, interventions=(*safe.interventions, taken_over))
