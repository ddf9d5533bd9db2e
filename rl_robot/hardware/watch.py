"""Whether the machine kept up while something was judged, so that it is not blamed on the arm."""

import numpy as np

from rl_robot.hardware.hub import Hub, Steps

TRIES = 3  # of a check that failed while the machine was held up


class Watch:
    """Measures by how long this machine was late in what a check did and heard.

    A checkup that is not called, joint states that come in a bunch, and a safety node that sends
    its motions too far apart: such is a machine with too much to do, and no controller of an arm.
    That the driver itself does not stall is found before, by its stamps. ``held_up`` (s) is the
    longest.
    """

    def __init__(self, hub: Hub) -> None:
        """Watch what is behind ``hub``."""
        self._hub = hub
        self._begun = hub.now()
        self.held_up = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether what was found since may be the machine's fault."""
        return self.held_up > self._hub.period

    def over(self, steps: Steps[None]) -> Steps[None]:
        """Go through a check's steps and watch."""
        hub = self._hub
        self._begun = last = hub.now()
        self.held_up = 0.0
        for _ in steps:
            yield
            self.held_up = max(self.held_up, hub.now() - last)
            last = hub.now()

    def note_heard(self) -> None:
        """Look at when joint states came since the check began."""
        apart = np.diff([one.received for one in self._hub.joints if one.received >= self._begun])
        self.held_up = max(self.held_up, float(apart.max(initial=0.0)))

    def note_sent(self, since: float) -> None:
        """Look at when safety sent motions ``since`` (s): one for each period while it is told to.

        The braking when it is told no more comes up to 1.75 periods after the last one.
        """
        apart = np.diff([one.time for one in self._hub.sent if one.time >= since])
        longest = float(apart.max(initial=0.0))
        if longest > 2.25 * self._hub.period:
            self.held_up = max(self.held_up, longest)
