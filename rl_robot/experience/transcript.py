"""What nodes said while a bag was played to them, cut and stamped as a recorder would have."""

from collections.abc import Collection, Mapping

from rl_robot.bags import BagMessage
from rl_robot.bags.messages import starts_with_stamp
from rl_robot.experience.playback import Span
from rl_robot.experience.recording import EpisodeCut
from rl_robot.experience.tape import restamped
from rl_robot.experience.topic_rules import topic_rules


class Transcript:
    """The answers to one bag."""

    def __init__(self, types: Mapping[str, str], controllers: Collection[str] = ()) -> None:
        """Expect topics of these ``types``, some of which are ``controllers``' topics."""
        self._types = dict(types)
        self._rules = topic_rules(types, controllers)
        self._heard: list[tuple[int, str, bytes]] = []

    def add(self, topic: str, raw: bytes, publish_ns: int) -> None:
        """Take a message that was published at ``publish_ns`` of wall time."""
        self._heard.append((publish_ns, topic, raw))

    def messages(self, span: Span, later_ns: int) -> list[BagMessage]:
        """Return what was said of an episode, on the bag's clock.

        Args:
            span: of the episode, on that clock.
            later_ns: by how much what was said is stamped later.
        """
        cut = EpisodeCut(self._rules)
        cut.begin(span.start_ns + later_ns)
        records = []
        for publish_ns, topic, raw in sorted(self._heard):
            records += cut.add(topic, raw, publish_ns)
        cut.end(span.end_ns + later_ns, now=0.0)
        records += cut.finish()
        return [
            BagMessage(
                topic,
                self._types[topic],
                log_ns - later_ns,
                publish_ns,
                restamped(raw, -later_ns) if starts_with_stamp(self._types[topic]) else raw,
            )
            for topic, raw, log_ns, publish_ns in records
        ]
