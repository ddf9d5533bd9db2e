"""reset: brings robot and scene to the start that the episode names, once per tick.

In simulation the objects are placed by the simulator's parameters ``place.<object>``; the tick
waits for the answer, so that a paced reset repeats exactly.
"""

from dataclasses import dataclass, replace

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.task import Future

from rl_robot.bags.cdr import trajectory_bytes
from rl_robot.resets.reset import Placement, ResetMachine, ResetStep
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_message
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.observer import Observer
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.supervision.session import RESETTING
from rl_robot.tasks import load_task

PLACE_TIMEOUT = 2.0  # s for the simulator's parameter service to be found


@dataclass(frozen=True)
class Parameters:
    """Parameters of the reset node."""

    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"


class ResetNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("reset")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        task = load_task(given.task)
        self._machine = ResetMachine(robot, task)
        self._episode_id = -1
        self._last_tick_ns = 0
        self._placing = False  # the answer to a placement is awaited
        self._command = self.publisher(topics.RESET_COMMAND)
        self._status = self.publisher(topics.RESET_STATUS)
        self._place = self.create_client(SetParameters, "simulator/set_parameters")
        paced = parse_pace(given.pace) is None
        self._observer = Observer(self, robot, task, self._on_change, paced=paced, needs_all=False)

    def _on_change(self) -> None:
        episode, tick = self._observer.episode, self._observer.tick_ns
        if episode is None or episode.phase != RESETTING:
            return
        if episode.id != self._episode_id:
            self._episode_id = episode.id
            self._last_tick_ns = 0
            self._placing = False
            self._machine.begin(episode.start)
        if tick == self._last_tick_ns or self._placing:
            return
        view, reference = self._observer.snapshot(), self._observer.reference
        if view is None or reference is None:
            return
        self._last_tick_ns = tick
        step = self._machine.tick(view, reference, self._observer.reference_velocities)
        if step.place:
            self._placing = True
            self._ask_to_place(step.place, step, tick)
        else:
            self._finish_tick(step, tick)

    def _ask_to_place(self, place: Placement, step: ResetStep, tick: int) -> None:
        request = SetParameters.Request()
        request.parameters = [
            Parameter(f"place.{name}", value=[float(value) for value in pose]).to_parameter_msg()
            for name, pose in place.items()
        ]
        episode_id = self._episode_id

        def placed(future: Future) -> None:
            for result in future.result().results:
                if not result.successful:
                    self.problem(f"placing failed: {result.reason}")
            if episode_id == self._episode_id:
                self._placing = False
                self._finish_tick(step, tick)

        if not self._place.wait_for_service(timeout_sec=PLACE_TIMEOUT):
            why = "nothing here places objects: no service simulator/set_parameters"
            self._finish_tick(replace(step, status="failed", reason=why), tick)
            return
        self._place.call_async(request).add_done_callback(placed)

    def _finish_tick(self, step: ResetStep, tick: int) -> None:
        """Say what the tick did; a command only while there is still something to do."""
        if step.status == "working":
            assert step.motion is not None
            self._command.publish(trajectory_bytes(step.motion, tick))
        values = {
            "episode": str(self._episode_id),
            "reason": step.reason,
            "attempt": str(step.attempt),
        }
        self._status.publish(status_message(tick, "reset", step.status, values))
        self.health["status"] = f"{step.status}: {step.reason}"


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(ResetNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
