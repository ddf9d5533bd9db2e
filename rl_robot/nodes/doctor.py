"""doctor: walks an arm through the checklist of its bring-up and says what is wrong with it.

One line per check as it goes, all of them at the end, and exit status 0 only if all passed. What
moves goes through the safety node, as teleop: the doctor has no way of its own to the controllers.
"""

import traceback
from dataclasses import dataclass
from pathlib import Path

from rl_robot.errors import UserError
from rl_robot.hardware.checkup import CHECKS, Checkup
from rl_robot.hardware.findings import UNKNOWN, Finding, as_json, exit_status, skipped, table
from rl_robot.hardware.moving import MOVING
from rl_robot.robots.description import load_robot
from rl_robot.ros.hub import RosHub
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters
from rl_robot.tasks import load_task

TICK = 0.01  # s


@dataclass(frozen=True)
class Parameters:
    """Parameters of the doctor node."""

    robot: str = "arm"
    task: str = "reach"  # whose control period is used
    stand_in: bool = False  # the arm is the stand-in's: its stop button is pressed
    motion: str = "ask"  # true, false, or ask the person at the terminal
    only: str = ""  # checks by comma; empty: all
    kill_test: bool = False  # halt the safety node in a motion
    json: str = ""  # file for the findings


class DoctorNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("doctor")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        self._robot, self._file = robot.name, given.json
        only = tuple(filter(None, given.only.split(","))) or CHECKS
        if given.motion == "false":
            only = tuple(check for check in only if check not in MOVING)
        self._hub = RosHub(self, robot, load_task(given.task), stand_in=given.stand_in)
        self._checkup = Checkup(
            self._hub,
            self._tell,
            only=only,
            ask=given.motion == "ask" and not given.stand_in,
            kill_test=given.kill_test or given.stand_in,
        )
        self._steps = self._checkup.run()
        self.every(TICK, self._tick)

    def _tell(self, finding: Finding) -> None:
        print(finding.line(), flush=True)

    def _tick(self) -> None:
        if self.exit_code is not None:
            return
        self._hub.tick()
        try:
            next(self._steps)
        except StopIteration:
            self._end()

    def _end(self) -> None:
        findings = self._checkup.findings or [skipped("all", "no check was asked for")]
        print(f"\n{table(findings)}", flush=True)
        if self._file:
            try:
                Path(self._file).write_text(as_json(self._robot, findings), encoding="utf-8")
            except OSError as error:
                raise UserError(f"json '{self._file}': {error}") from error
        self.exit_code = exit_status(findings)

    def close(self) -> None:
        """Leave the safety node as it was found: running, and the robot disabled."""
        self._hub.close()
        if self.exit_code is None:
            self._hub.enable(False)
            print("interrupted: nothing is known of the checks that are missing", flush=True)
            self.exit_code = UNKNOWN


def main(argv: list[str] | None = None) -> int:
    """Run the node; one that fails itself knows nothing of the arm."""
    try:
        return run(DoctorNode, argv)
    except Exception:
        traceback.print_exc()
        return UNKNOWN


if __name__ == "__main__":
    raise SystemExit(main())
