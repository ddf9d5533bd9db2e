"""Recognizes that the robot got where it can't get on by itself, or is about to lose what it holds.

One condition, one small class, each looked at once per control period: held back at a limit or by a
constraint period after period, something in the way, a grip that slips.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_robot.robots.description import Gripper
from rl_robot.safety.constraints import SweepConstraint
from rl_robot.safety.filter import Intervention
from rl_robot.safety.geometry import Geometry
from rl_robot.safety.sweep import Sweep

Array = npt.NDArray[np.float64]

_GAP = 0.002  # m that the fingers are kept from where they are told to be: they hold something
_STILL = 0.0005  # m per period: fingers that move less stand
_OPENING = 1e-4  # m per period


@dataclass(frozen=True)
class Unsafe:
    """What was recognized.

    Attributes:
        kind: "limit", "collision", "contact" or "slip".
        where: the joint, or what of the whole robot is concerned.
    """

    kind: str
    where: str


class Clearance(NamedTuple):
    """How far from limits a robot has room: rad or m of a joint, m of the whole robot."""

    joint: float
    distance: float


class Room:
    """How much of some clearance a posture lacks, towards joint limits and the constraints."""

    def __init__(
        self,
        names: Sequence[str],
        lower: Array,
        upper: Array,
        clear: Clearance,
        *,
        geometry: Geometry | None = None,
        constraints: Sequence[SweepConstraint] = (),
    ) -> None:
        """Keep the joints called ``names`` clear of ``lower`` and ``upper``, (n,) each.

        Args:
            names: of the joints; further joints of a posture don't count.
            lower: position limits, rad or m.
            upper: likewise.
            clear: from which on nothing is lacking; a quarter of a joint's range is enough.
            geometry: of the robot; the constraints need it.
            constraints: of the whole robot, wider than those that are kept by the clearance.
        """
        self._names = tuple(names)
        self._lower, self._upper = lower, upper
        self._clear = np.minimum(clear.joint, 0.25 * (upper - lower))
        self._distance = clear.distance
        self._geometry = geometry
        self._constraints = tuple(constraints)

    def lacking(self, positions: Array) -> dict[str, float]:
        """Return what joints at ``positions`` lack, as a part of the clearance.

        By joint, or by constraint; above 1 beyond the limit itself. Empty where they are clear.
        """
        joints = positions[: len(self._names)]
        room = np.minimum(joints - self._lower, self._upper - joints)
        parts = (self._clear - room) / self._clear
        lacking = {name: part for name, part in zip(self._names, parts, strict=True) if part > 0.0}
        if self._geometry is not None:
            sweep = Sweep(self._geometry, positions[None], 1.0)
            for constraint in self._constraints:
                short = -constraint.look(sweep).room
                if short > 0.0:
                    lacking[constraint.name] = short / self._distance
        return lacking

    def penalty(self, positions: Array) -> float:
        """Return the sum of what is lacking, squared: 0 where joints at ``positions`` are clear."""
        return sum((part * part for part in self.lacking(positions).values()), start=0.0)


class Stuck:
    """Held back at the same place for ``periods`` control periods, and close to it."""

    def __init__(self, room: Room, periods: int) -> None:
        self._room = room
        self._periods = periods
        self._held: Counter[tuple[str, str]] = Counter()

    def restart(self) -> None:
        """Forget what was seen."""
        self._held.clear()

    def see(self, interventions: Sequence[Intervention]) -> None:
        """Take what the filter changed in a period."""
        # In the whole robot, which pair is closest may change.
        now = {
            (item.kind, item.where if item.kind == "position" else ""): item
            for item in interventions
        }
        self._held = Counter({place: self._held[place] + 1 for place in now})

    def look(self, positions: Array) -> Unsafe | None:
        """Return what the joints, commanded or measured at ``positions``, are stuck at."""
        due = [place for place, count in self._held.items() if count >= self._periods]
        if not due:
            return None
        lacking = self._room.lacking(positions)
        for kind, joint in due:
            if (joint or kind) in lacking:
                return Unsafe("limit", joint) if joint else Unsafe("collision", kind)
        return None


class Contact:
    """Joints that don't follow: measured further than ``deviation`` from what was commanded.

    Of what was commanded in the last two periods, for ``periods`` of them: drives have a lag.
    """

    def __init__(self, names: Sequence[str], deviation: float, periods: int) -> None:
        self._names = tuple(names)
        self._deviation = deviation
        self._periods = periods
        self.restart()

    def restart(self) -> None:
        """Forget what was commanded."""
        self._commanded: deque[Array] = deque(maxlen=2)
        self._count = 0

    def see(self, path: Array, measured: Array) -> None:
        """Take the samples (K, n) commanded in a period, and the positions (n,) at its end."""
        self._commanded.append(path[:, : len(self._names)])
        rows = np.vstack(self._commanded)
        joints = measured[: len(self._names)]
        self._off = np.maximum(rows.min(axis=0) - joints, joints - rows.max(axis=0))
        far = len(self._commanded) == 2 and float(self._off.max()) > self._deviation
        self._count = self._count + 1 if far else 0

    def look(self) -> Unsafe | None:
        """Return the joint that follows worst, if something is in the way."""
        if self._count < self._periods:
            return None
        return Unsafe("contact", self._names[int(np.argmax(self._off))])

    @property
    def follows(self) -> bool:
        """Whether the joints are within half the deviation again."""
        return not len(self._commanded) or float(self._off.max()) < 0.5 * self._deviation


class Slip:
    """A grip that closes further than ``distance`` (m) without what it held being let go.

    It holds something when the fingers stood for ``periods`` short of where they are told to be.
    """

    def __init__(self, gripper: Gripper, index: int, distance: float, periods: int) -> None:
        self._gripper = gripper
        self._index = index
        self._distance = distance
        self._periods = periods
        self.restart()

    def restart(self) -> None:
        """Forget what is held."""
        self._held: float | None = None
        self._standing = 0
        self._before: tuple[float, float] | None = None

    @property
    def holds(self) -> bool:
        """Whether the gripper holds something."""
        return self._held is not None

    def see(self, path: Array, measured: Array) -> None:
        """Take the samples (K, n) commanded in a period, and the positions (n,) at its end."""
        told, finger = float(path[-1, self._index]), float(measured[self._index])
        before, self._before = self._before, (told, finger)
        if before is None or told > before[0] + _OPENING or told > finger + _GAP:
            self._held, self._standing = None, 0
            return
        stands = abs(finger - before[1]) < _STILL and told < finger - _GAP
        self._standing = self._standing + 1 if stands else 0
        if self._held is None and self._standing >= self._periods:
            self._held = finger

    def look(self) -> Unsafe | None:
        """Return that the grip slips, if it does."""
        if self._held is None or self._before is None:
            return None
        slipped = self._held - self._before[1]
        return Unsafe("slip", self._gripper.joint) if slipped > self._distance else None

    @property
    def dropped(self) -> bool:
        """Whether nothing is left between the fingers."""
        return self._before is not None and (
            self._before[1] - self._gripper.closed < self._distance
        )

    def grip_again(self) -> None:
        """Let what is to be held from now on be found out anew."""
        self._held, self._standing = None, 0
