"""The checklist of an arm's bring-up, from listening to moving, one step after the other.

Written as generators: each ``yield`` waits for the next tick. What they see and do goes through a
``Hub``, so the same checklist runs in a node and, in simulated time, in a test.
"""

from collections.abc import Callable, Sequence

from rl_robot.hardware.findings import FAIL, Finding, skipped
from rl_robot.hardware.hub import Hub, Steps
from rl_robot.hardware.listening import LISTENING, Listening
from rl_robot.hardware.moving import MOVING, Moving

CHECKS = (*LISTENING, *MOVING)


class Checkup:
    """Walks the checklist; ``findings`` grows, and each is handed to ``tell`` as it is made.

    Args:
        hub: the graph.
        tell: takes each finding.
        only: which of ``CHECKS`` to make; what they need is done too, and told only if it fails.
        ask: whether a person is asked before the robot moves.
        kill_test: whether the safety node's process may be halted.
    """

    def __init__(
        self,
        hub: Hub,
        tell: Callable[[Finding], None],
        *,
        only: Sequence[str] = CHECKS,
        ask: bool = False,
        kill_test: bool = True,
    ) -> None:
        self._tell = tell
        self._only = tuple(only)
        self._listening = Listening(hub, self._report, only=self._only)
        self._moving = Moving(hub, self._report, ask=ask, kill_test=kill_test)
        self.findings: list[Finding] = []

    def run(self) -> Steps[None]:
        """Go through the checks that were asked for; afterwards the robot is disabled."""
        yield from self._listening.run()
        wanted = [check for check in MOVING if check in self._only]
        if not wanted:
            return
        # What was found wrong with the pictures is no hindrance.
        against = [f.check for f in self.findings if f.status == FAIL and "camera" not in f.check]
        if not against:
            yield from self._moving.run(wanted)
            return
        for check in wanted:
            self._report(skipped(check, f"the robot is not moved: {', '.join(against)} failed"))

    def _report(self, finding: Finding) -> None:
        if finding.check.split()[0] in self._only or finding.status == FAIL:
            self.findings.append(finding)
            self._tell(finding)
