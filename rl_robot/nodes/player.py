"""player: a recorded episode back into the graph, at the pace it was captured or another.

Topics of nodes that run again beside it are left out, so that, say, a new perception sees the old
pictures and nobody hears two of them.

What could move a robot is never played, because a live one may listen: a controller would take the
old commands as new ones (their stamp 0 means "start now") with no safety node before it, and a live
safety node would take the commands of a source, the episode in whose phase that source may speak,
or an emergency stop. So these stay in the bag:

- the robot's command interfaces, and every topic or type that the table of topics does not know;
- `*/command`, but for `safety/command`: no robot hears that one, and policy and reward need it;
- `emergency_stop`, and `episode` unless policy or reward run again, which act by it.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from diagnostic_msgs.msg import DiagnosticArray

from rl_robot.bags import BagMessage, BagReader
from rl_robot.errors import UserError
from rl_robot.nodes.recorder import topic_type
from rl_robot.robots.description import Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_values
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters
from rl_robot.tasks import Task, load_task

START_TIMEOUT = 30.0  # s for the nodes that run again to come up and to be heard by
END_WAIT = 0.5  # s for the last messages to arrive


@dataclass(frozen=True)
class Parameters:
    """Parameters of the player node."""

    bag: str = ""
    rate: float = 1.0
    robot: str = ""  # the one that the nodes that run again are for; empty when none do
    task: str = ""


class PlayerNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("player")
        given = read_parameters(self, Parameters)
        if not given.rate > 0.0:
            raise UserError(f"rate {given.rate} must be above 0")
        self._rate = given.rate
        self._again = set(self.session_nodes) - {"player"}
        robot = load_robot(given.robot) if given.robot else None
        task = load_task(given.task) if given.task else None
        reader = BagReader(given.bag)
        interfaces = {interface.topic for interface in robot.interfaces} if robot else set()
        said = {name: kind for name, kind in reader.types.items() if reader.counts[name]}
        played = playable(said, self._again, interfaces)
        self._outputs = {
            name: self.publisher(_offer(row, name, robot, task)) for name, row in played.items()
        }
        self._messages: Iterator[BagMessage] = reader.messages(list(played))
        self._next = next(self._messages, None)
        self._first_ns = self._next.log_ns if self._next else 0
        self._deaf: dict[str, str] = {}  # node that came up -> its topics that some node misses
        self._created = time.monotonic()
        self._began = 0.0
        self._ended = 0.0
        self._count = 0
        self.listen(topics.DIAGNOSTICS, self._take_health, depth=10)
        self.every(0.002, self._play)

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._deaf[status.name] = status_values(status).get("undiscovered", "")

    def _ready(self) -> bool:
        """Whether the nodes that run again are up and hear the player and each other.

        Raises:
            UserError: that took too long.
        """
        absent = self._again - self._deaf.keys()
        unheard = {*self.undiscovered(), *(self._deaf.get(node, "") for node in self._again)} - {""}
        if not absent and not unheard:
            return True
        if time.monotonic() - self._created > START_TIMEOUT:
            if absent:
                raise UserError(f"{', '.join(sorted(absent))} did not come up")
            raise UserError(f"a node that runs again does not hear {', '.join(sorted(unheard))}")
        return False

    def _play(self) -> None:
        now = time.monotonic()
        if not self._began:
            if not self._ready():
                return
            self._began = now
        while self._next is not None:
            due = self._began + (self._next.log_ns - self._first_ns) * 1e-9 / self._rate
            if due > now:
                return
            self._outputs[self._next.topic].publish(self._next.raw)
            self._count += 1
            self._next = next(self._messages, None)
        self._ended = self._ended or now
        if now - self._ended > END_WAIT:
            print(f"played {self._count} messages in {self._ended - self._began:.1f} s", flush=True)
            self.exit_code = 0


def playable(
    types: Mapping[str, str], again: Collection[str], interfaces: Collection[str] = ()
) -> dict[str, topics.Topic]:
    """Return what of a bag is played, by name, with its row of the table.

    Args:
        types: the bag's topics, name -> message type.
        again: the nodes that run again, whose topics are not played.
        interfaces: topics of the robot's command interfaces.
    """
    rows = {name: _row(name, kind) for name, kind in types.items() if name not in interfaces}
    return {name: row for name, row in rows.items() if row is not None and _harmless(row, again)}


def _row(name: str, kind: str) -> topics.Topic | None:
    """Return the row of the table that knows the topic under this type."""
    known = (row for row in topics.TOPICS if row.matches(name) and topic_type(row) == kind)
    return next(known, None)


def _harmless(row: topics.Topic, again: Collection[str]) -> bool:
    """Whether a topic may be played beside these nodes; see the module's text."""
    if row in (topics.DIAGNOSTICS, topics.EMERGENCY_STOP) or not row.recorded:
        return False
    if row.name.endswith("/command") and row is not topics.SAFETY_COMMAND:
        return False
    if row is topics.EPISODE and not {"policy", "reward"} & set(again):
        return False
    return row.publisher not in again


def _offer(row: topics.Topic, name: str, robot: Robot | None, task: Task | None) -> topics.Topic:
    """Return a played topic's row, without listeners where this robot and task have none."""
    if _heard(row, name, robot, task):
        return replace(row, name=name)
    return replace(row, name=name, subscribers="nobody")


def _heard(row: topics.Topic, name: str, robot: Robot | None, task: Task | None) -> bool:
    if row is topics.IMAGE_RAW and robot is not None:  # perception looks through the first one
        return name in row.expanded(camera=[camera.name for camera in robot.cameras[:1]])
    if row is topics.OBJECT_POSE and task is not None:
        return name in row.expanded(object=task.objects)
    if row is topics.GOAL and task is not None:
        return task.has_goal
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(PlayerNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
