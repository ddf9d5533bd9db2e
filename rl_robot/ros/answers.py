"""What nodes that run again say to a player, and how long it took them."""

import time
from collections import Counter, defaultdict
from collections.abc import Collection

from rl_robot.bags import BagMessage
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.experience.playback import ANSWERS, Again, Span
from rl_robot.experience.tape import Tape
from rl_robot.experience.transcript import Transcript
from rl_robot.robots.description import Robot
from rl_robot.ros import topics
from rl_robot.ros.node import GraphNode
from rl_robot.ros.played import said_again
from rl_robot.tasks import Task

QUEUE = 1000  # messages per topic that may wait

# What a node answers; perception answers a camera's topic.
_INPUTS = {
    "policy": (topics.PERCEPTION_AGES.name, topics.EPISODE.name),
    "reward": (topics.PERCEPTION_AGES.name,),
    "safety": (
        topics.POLICY_COMMAND.name,
        topics.RESET_COMMAND.name,
        topics.EPISODE_TICK.name,
        topics.EPISODE.name,
    ),
}


class Answers:
    """Hears the nodes that run again. Without any, nothing.

    Attributes:
        again: who runs again, and by what its answers are expected.
        topics: what they say, by name.
        latencies: s of wall time from a node's last input to its answer, by node.
    """

    def __init__(
        self, node: GraphNode, nodes: Collection[str], robot: Robot | None, task: Task | None
    ) -> None:
        """Subscribe for ``node`` to what ``nodes`` say of a robot and a task."""
        named = robot is not None and task is not None
        self.topics = said_again(nodes, robot, task) if named else {}  # type: ignore[arg-type]
        self._types = {name: row.type_name for name, row in self.topics.items()}
        self._interfaces = [one.topic for one in robot.interfaces] if robot else []
        self._mailboxes = {
            name: node.mailbox(row, depth=QUEUE) for name, row in self.topics.items()
        }
        camera = robot.cameras[0].name if robot and robot.cameras else ""
        pictures = topics.IMAGE_RAW.named(camera=camera) if camera else ""
        self.again = Again(frozenset(nodes), pictures)
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self._inputs = {"perception": (pictures,), **_INPUTS}
        self._answering = {ANSWERS[name]: name for name in nodes}
        self._answered: dict[str, int] = {}  # newest stamp, by node
        self._said_at: dict[str, int] = {}  # wall time, ns, by topic
        self._transcript = Transcript(self._types, self._interfaces)

    def begin(self) -> None:
        """Begin with another bag."""
        self._transcript = Transcript(self._types, self._interfaces)

    def note_said(self, topic: str) -> None:
        """Note that a message is said to the nodes, now."""
        self._said_at[topic] = time.time_ns()

    def hear(self) -> None:
        """Take what has come."""
        for topic, mailbox in self._mailboxes.items():
            for raw, published_ns in mailbox.take():
                self._transcript.add(topic, raw, published_ns)
                self._said_at[topic] = published_ns
                if topic in self._answering:
                    self._note(self._answering[topic], header_stamp_ns(raw), published_ns)

    def _note(self, node: str, stamp_ns: int, published_ns: int) -> None:
        if self.answered(node, stamp_ns):
            return
        self._answered[node] = stamp_ns
        asked = [self._said_at[name] for name in self._inputs[node] if name in self._said_at]
        if asked:
            self.latencies[node].append((published_ns - max(asked)) * 1e-9)

    def answered(self, node: str, stamp_ns: int) -> bool:
        """Whether a node has answered the tick of this stamp, or a later one."""
        return self._answered.get(node, -1) >= stamp_ns

    def complete(self, tape: Tape, span: Span, later_ns: int) -> bool:
        """Whether as much was said of an episode as its bag holds."""
        counts = Counter(message.topic for message in self.said(span, later_ns))
        return all(
            counts[ours] >= tape.counts.get(theirs, 0)
            for theirs, ours in self._names_in(tape).items()
        )

    def recorded(self, tape: Tape) -> list[BagMessage]:
        """Return what a bag holds of the topics that are said again."""
        names = self._names_in(tape)
        return [m._replace(topic=names[m.topic]) for m in tape.messages(list(names))]

    def said(self, span: Span, later_ns: int) -> list[BagMessage]:
        """Return what was said since `begin`: see `Transcript.messages`."""
        return self._transcript.messages(span, later_ns)

    def _names_in(self, tape: Tape) -> dict[str, str]:
        """Return topic in a bag -> topic here, where some may be absolute."""
        return {name if name in tape.types else name.lstrip("/"): name for name in self.topics}
