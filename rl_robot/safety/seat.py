"""Knows whether the filter still stands where the robot is, and when to let go of it.

What was commanded last tells where the robot is only as long as the driver gets it. A robot that
nothing was sent to may have sagged, been moved by hand or by another program: going on from the old
set points would be a jump. So the filter is seated on a measured state, and left at rest.
"""

import numpy as np
import numpy.typing as npt

from rl_robot.safety.filter import SafetyFilter

Array = npt.NDArray[np.float64]

_ROUNDING = 1e-9  # s


class Seat:
    """Seats a filter on the newest measured state. Times are s of one steady clock."""

    def __init__(self, safety_filter: SafetyFilter, *, period: float, max_age: float) -> None:
        """Seat ``safety_filter``, which gives motions of ``period`` (s).

        Measurements older than ``max_age`` (s) are not relied on.
        """
        self._filter = safety_filter
        self._period = period
        self._max_age = max_age
        self._measured: Array | None = None
        self._measured_at = 0.0
        self._seated = False
        self._reliable = False

    @property
    def seated(self) -> bool:
        """Whether the filter goes on from what it commanded last; if not, nothing may be sent."""
        return self._seated

    @property
    def measured(self) -> bool:
        """Whether anything was ever measured."""
        return self._measured is not None

    def measure(self, positions: Array, time: float) -> None:
        """Take positions (n,) that were measured at ``time``."""
        self.reliable(time)  # a gap counts, even if nobody asked while it lasted
        self._measured, self._measured_at = positions, time

    def fresh(self, now: float) -> bool:
        """Whether the newest measurement is not older than ``max_age``."""
        return self._measured is not None and now - self._measured_at <= self._max_age

    def reliable(self, now: float) -> bool:
        """Whether commands may be followed: seated, and measured without a gap ever since.

        After a gap only braking is left, until the filter was left and seated again.
        """
        self._reliable = self._reliable and self.fresh(now)
        return self._reliable

    def doubt(self) -> None:
        """Let commands not be followed any more, as after a gap."""
        self._reliable = False

    def sit(self) -> None:
        """Start the filter at rest where the robot was measured last.

        Raises:
            ValueError: nothing was measured, or it can't be true.
        """
        if self._measured is None:
            raise ValueError("none arrived yet")
        self._filter.reset(self._measured)
        self._seated = self._reliable = True

    def leave(self) -> None:
        """Let go: whoever wants to move the robot must `sit` first."""
        self._seated = self._reliable = False

    def at_rest(self, elapsed: float) -> bool:
        """Whether the robot should stand ``elapsed`` s after the last motion was sent."""
        return self._filter.at_rest and elapsed >= self._period - _ROUNDING
