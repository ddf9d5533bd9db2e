"""How the graph's topics are placed in time: by their own stamps, or by those of another topic."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sensor", "command", "latched"]


@dataclass(frozen=True)
class TopicRule:
    """How a topic's messages are placed in time.

    - "sensor": belongs to an episode when start <= stamp <= end;
    - "command": when start <= stamp < end, because at the end nothing is executed any more;
    - "latched": the newest before the start belongs too (at the start), and changes before the end.

    ``stamped``: messages begin with a time stamp. ``follows`` and ``precedes``: the messages carry
    no stamp that says when they were sent (controller topics; a held pose), and take the stamp of
    the message of that topic which their node published just before, or just after them.
    ``awaited``: at the end of an episode the topic's last message is waited for, if the topic was
    ever heard in an episode.
    """

    kind: Kind
    stamped: bool = True
    follows: str | None = None
    precedes: str | None = None
    awaited: bool = True

    @property
    def anchor(self) -> str | None:
        """The topic whose stamp is taken."""
        return self.follows or self.precedes


_RULES = {
    "clock": TopicRule("sensor"),
    "joint_states": TopicRule("sensor"),
    "perception/ages": TopicRule("sensor"),
    "perception/image": TopicRule("sensor"),
    "policy/action": TopicRule("command"),
    "policy/command": TopicRule("command"),
    "safety/command": TopicRule("command"),
    "safety/margins": TopicRule("command"),
    "safety/interventions": TopicRule("command", awaited=False),
    "reward": TopicRule("sensor"),
    "goal": TopicRule("latched", awaited=False),
    "robot_description": TopicRule("latched", stamped=False, awaited=False),
    "emergency_stop": TopicRule("latched", stamped=False, awaited=False),
    "episode": TopicRule("sensor", awaited=False),
    "episode/tick": TopicRule("sensor", awaited=False),
    # Nodes stamp their health by clocks of their own: it is placed by when it was said.
    "diagnostics": TopicRule("sensor", follows="perception/ages", awaited=False),
    "reset/status": TopicRule("sensor", awaited=False),
}


def topic_rules(
    topics: Iterable[str], controllers: Collection[str], stamped: Collection[str] = ()
) -> dict[str, TopicRule]:
    """The rule of each of the graph's topics (relative names).

    ``controllers`` are the topics of the robot's command interfaces, on which stamps mean the
    start time of the motion, but for those that are ``stamped`` with when they were sent.
    """
    return {topic: _rule(topic, controllers, stamped) for topic in topics}


def _rule(topic: str, controllers: Collection[str], stamped: Collection[str]) -> TopicRule:
    if topic in stamped:
        return TopicRule("command")
    if topic in controllers:
        return TopicRule("command", stamped=False, follows="safety/command")
    if topic in _RULES:
        return _RULES[topic]
    if topic.startswith("perception/") and topic.endswith("/pose"):
        return TopicRule("sensor", precedes="perception/ages")
    if topic.endswith(("/command", "/action")):
        return TopicRule("command", awaited=False)
    return TopicRule("sensor")
