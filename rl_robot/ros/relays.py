"""Which topics a faults file speaks of, and whether its faults can happen to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rl_robot.errors import UserError
from rl_robot.faults.plan import BITS, Corrupt, Fault, Freeze, Plan, Stamp
from rl_robot.robots.description import Robot
from rl_robot.ros import topics
from rl_robot.ros.tampering import has_field, is_stamped
from rl_robot.tasks import Task

# Said by many, or by whoever likes, so that nobody can stand in between.
_OF_ALL = (topics.DIAGNOSTICS, topics.EMERGENCY_STOP)


@dataclass(frozen=True)
class Relay:
    """A topic that passes through the faults node. ``name`` is the one that everybody hears."""

    topic: topics.Topic
    name: str
    faults: tuple[Fault, ...]

    @property
    def source(self) -> str:
        """The name under which the topic's real publisher is heard."""
        return self.name + topics.FAULTLESS

    def publishers(self, nodes: Sequence[str]) -> list[str]:
        """Name those of a session's nodes that publish the topic."""
        return [
            node for node in nodes if node == self.topic.publisher or self.topic.said_by([node])
        ]


def find_relays(plan: Plan, robot: Robot, task: Task) -> list[Relay]:
    """Return the topics that a plan speaks of, each once.

    A name may be that of a row of the table (``<camera>/image_raw``), which stands for all of it.

    Raises:
        UserError: an unknown topic, one that can't be relayed, a fault that can't happen to it, or
            a topic that is named twice.
    """
    silent = _OF_ALL if task.has_goal else (*_OF_ALL, topics.GOAL)
    named = topics.named_topics(robot, task)
    known = {name: topic for name, topic in named.items() if topic not in silent}
    rows = {topic.name for topic in topics.TOPICS if "<" in topic.name}  # may stand for none
    relays: dict[str, Relay] = {}
    for given, faults in plan.topics.items():
        names = [name for name, row in known.items() if given in (name, row.name)]
        if not names and given not in rows:
            raise UserError(
                f"faults: '{given}' is no topic that can be relayed: expected some of "
                f"{', '.join(known)}"
            )
        for name in names:
            if name in relays:
                raise UserError(f"faults: {name} is named twice, the second time as '{given}'")
            relays[name] = Relay(known[name], name, faults)
            _check(relays[name])
    return list(relays.values())


def _check(relay: Relay) -> None:
    kind = relay.topic.type
    for fault in relay.faults:
        if isinstance(fault, Corrupt) and fault.what != BITS and not has_field(kind, fault.what):
            raise UserError(
                f"faults: {relay.name}: corrupt: a {kind.__name__} has no field for "
                f"'{fault.what}': expected what: {BITS}"
            )
        stamped = isinstance(fault, Stamp) or (isinstance(fault, Freeze) and fault.restamp)
        if stamped and not is_stamped(kind):
            raise UserError(f"faults: {relay.name}: a {kind.__name__} has no stamp to be moved")
