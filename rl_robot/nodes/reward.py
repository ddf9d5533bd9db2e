"""reward: judges each tick by the task's own reward, from what the sensors and perception say."""

from dataclasses import dataclass, replace

from rl_robot.bags.cdr import numbers_bytes
from rl_robot.environments.control_loop import ControlLoop
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.observer import Observer
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.supervision.session import RUNNING
from rl_robot.tasks import load_task


@dataclass(frozen=True)
class Parameters:
    """Parameters of the reward node."""

    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"
    jerk_weight: float = -1.0  # what jerk costs; below 0: what the task says


class RewardNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("reward")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        task = load_task(given.task)
        self._task = task if given.jerk_weight < 0 else replace(task, jerk_weight=given.jerk_weight)
        self._loop = ControlLoop(self._task, robot)
        self._episode_id = -1
        self._first = True
        self._last_tick_ns = 0
        self._lost = 0
        self._reward = self.publisher(topics.REWARD)
        paced = parse_pace(given.pace) is None
        self._observer = Observer(self, robot, self._task, self._on_change, paced=paced)

    def _on_change(self) -> None:
        episode, tick = self._observer.episode, self._observer.tick_ns
        if episode is None or episode.phase != RUNNING:
            return
        if episode.id != self._episode_id:
            self._episode_id, self._lost = episode.id, 0
            self._last_tick_ns = episode.stamp_ns
            self._first = True
        executed = self._observer.executed()
        if tick <= self._last_tick_ns or executed is None:
            return
        snapshot = self._observer.snapshot()
        if snapshot is None:
            return
        # A period is lost when no picture came for it, or when neither the policy's command moved
        # the robot in it nor recovery in its place: safety held, or nothing was executed at all.
        periods = round((tick - self._last_tick_ns) / self._task.period_ns)
        acted = (
            executed.source in ("policy", "recovery") and executed.stamp_ns >= self._last_tick_ns
        )
        self._lost += periods - acted
        self._last_tick_ns = tick
        if self._first:
            self._loop.reset(executed.start)
            self._first = False
        action = self._loop.executed(executed.motion)
        judged = self._loop.judge(snapshot, action)
        self._reward.publish(
            numbers_bytes(
                {
                    "total": judged.total,
                    **judged.terms,
                    "success": float(judged.success),
                    "terminated": float(judged.terminated),
                    "lost_periods": float(self._lost),
                },
                tick,
            )
        )
        self.health["lost_periods"] = str(self._lost)


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(RewardNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
