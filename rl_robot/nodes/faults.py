"""faults: stands between the publishers and the hearers of some topics, and lets things go wrong.

What goes wrong with which topic, a faults file says (config/faults/). The real publisher of a topic
is heard on <topic>/faultless; what is left of its messages is said on <topic>, unread but for what
is to be changed. A topic without any fault passes as it is.
"""

import time
from dataclasses import dataclass, replace
from functools import partial

from rclpy.publisher import Publisher

from rl_robot.faults.line import FaultyTopic
from rl_robot.faults.plan import Delay, Reorder, load_plan
from rl_robot.robots.description import Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.ros.relays import Relay, find_relays
from rl_robot.ros.tampering import tamper
from rl_robot.tasks import load_task

RELEASE_PERIOD = 0.002  # s between two looks at what is held back


@dataclass(frozen=True)
class Parameters:
    """Parameters of the faults node."""

    faults: str  # name of a file in config/faults, or a path
    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"
    seed: int = 0


class FaultsNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("faults")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        relays = find_relays(load_plan(given.faults), robot, load_task(given.task))
        # A file's seconds are the robot's; paced, the wall's.
        self._factor = parse_pace(given.pace) or 1.0
        self._began = time.monotonic()
        self._lines: dict[str, tuple[FaultyTopic, Publisher]] = {}
        for relay in relays:
            self._relay(relay, robot, given.seed)
        if any(isinstance(fault, Delay | Reorder) for relay in relays for fault in relay.faults):
            self.every(RELEASE_PERIOD, self._release)
        self.every(0.2, self._report)

    def _relay(self, relay: Relay, robot: Robot, seed: int) -> None:
        alter = partial(tamper, relay.topic.type)
        line = FaultyTopic(relay.name, relay.faults, seed=seed, alter=alter)
        # Perception looks through the first camera: nobody need hear the others.
        others = topics.IMAGE_RAW.expanded(camera=[one.name for one in robot.cameras[1:]])
        heard = self.publisher(
            replace(relay.topic, name=relay.name), awaited=relay.name not in others
        )
        self._lines[relay.name] = line, heard
        source = replace(relay.topic, name=relay.source)
        take = partial(self._take, line, heard)
        self.listen(source, take, depth=relay.topic.quality.depth, raw=True)

    def _now(self) -> float:
        """Seconds since the node started, of the robot's time."""
        return (time.monotonic() - self._began) * self._factor

    def _take(self, line: FaultyTopic, publisher: Publisher, raw: bytes) -> None:
        for due in line.take(self._now(), raw):
            publisher.publish(due)

    def _release(self) -> None:
        now = self._now()
        for line, publisher in self._lines.values():
            for due in line.release(now):
                publisher.publish(due)

    def _report(self) -> None:
        for name, (line, _) in self._lines.items():
            counts = {"heard": line.heard, "said": line.said, **line.counts}
            self.health.update({f"{name} {what}": str(count) for what, count in counts.items()})


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(FaultsNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
