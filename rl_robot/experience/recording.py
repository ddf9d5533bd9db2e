"""Decides which messages of a running graph belong to an episode.

Topics reach the recorder over separate connections, so a message may arrive before or after the
news that the episode it belongs to has begun or ended. The cut is therefore made by time stamps
alone: messages wait in a window of a few seconds of stamps until it is certain which side they
fall on. The same messages give the same episode in whatever order they arrive.
"""

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rl_robot.bags.stamps import header_stamp_ns

NANOSECONDS = 1_000_000_000

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


class Record(NamedTuple):
    """A message that belongs to the episode: what `EpisodeWriter.write` takes."""

    topic: str
    raw: bytes
    log_ns: int
    publish_ns: int


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


def topic_rules(topics: Iterable[str], controllers: Collection[str]) -> dict[str, TopicRule]:
    """The rule of each of the graph's topics (relative names).

    ``controllers`` are the topics of the robot's command interfaces, on which stamps mean the
    start time of the motion.
    """
    return {topic: _rule(topic, controllers) for topic in topics}


def _rule(topic: str, controllers: Collection[str]) -> TopicRule:
    if topic in controllers:
        return TopicRule("command", stamped=False, follows="safety/command")
    if topic in _RULES:
        return _RULES[topic]
    if topic.startswith("perception/") and topic.endswith("/pose"):
        return TopicRule("sensor", precedes="perception/ages")
    if topic.endswith(("/command", "/action")):
        return TopicRule("command", awaited=False)
    return TopicRule("sensor")


class EpisodeCut:
    """Sorts messages into episodes. One episode at a time.

    `add` takes every message as it comes, at all times; `begin` and `end` say what the `episode`
    topic announced; when `complete` is true after `end`, `finish` gives the rest. Both `add` and
    `finish` return records to write, in the order of their stamps.
    """

    def __init__(
        self,
        rules: Mapping[str, TopicRule],
        *,
        window: float = 2.0,
        period: float = 0.1,
        grace: float = 0.01,
        timeout: float = 1.0,
    ) -> None:
        """``window``: seconds of stamps that a message may be early or late by. ``period``: the
        control period. ``grace`` and ``timeout``: seconds of wall time that `complete` waits
        after `end`, at least (for topics that speak now and then) and at most."""
        self._rules = dict(rules)
        self._order = {topic: index for index, topic in enumerate(rules)}
        self._window_ns = round(window * NANOSECONDS)
        self._period_ns = round(period * NANOSECONDS)
        self._grace = grace
        self._timeout = timeout
        self._waiting: list[tuple[int, int, int, Record]] = []  # heap: stamp, topic, arrival
        self._arrivals = 0
        self._newest_ns = 0
        self._anchors: dict[str, deque[tuple[int, int]]] = {
            rule.anchor: deque(maxlen=4096) for rule in rules.values() if rule.anchor
        }
        self._followers: dict[str, deque[Record]] = {
            topic: deque() for topic, rule in rules.items() if rule.anchor
        }
        self._latched: dict[str, Record] = {}
        self._reached: dict[str, int] = {}  # newest stamp per topic in this episode
        self._known: set[str] = set()  # topics heard in an episode so far
        self._start_ns: int | None = None
        self._end_ns: int | None = None
        self._ended_at = 0.0
        self.dropped: Counter[str] = Counter()
        self._released: Counter[str] = Counter()  # of this episode, by topic

    @property
    def newest_ns(self) -> int:
        """Newest stamp of the sensors that were heard, which is where the graph's time stands."""
        return self._newest_ns

    @property
    def recording(self) -> bool:
        """Between `begin` and `finish`."""
        return self._start_ns is not None

    def begin(self, start_ns: int) -> None:
        """The episode's first control tick is at ``start_ns``.

        Raises:
            ValueError: the episode before was not finished.
        """
        if self.recording:
            raise ValueError("finish the episode before beginning another")
        self._start_ns = start_ns
        self._end_ns = None
        self._reached = {}
        self._released.clear()
        for entry in self._waiting:
            self._note_reached(entry[3].topic, entry[0])
        for topic in self._followers:
            self._settle_followers(topic)
        for topic, record in self._latched.items():
            self._push(topic, record.raw, max(record.log_ns, start_ns), record.publish_ns)

    def end(self, end_ns: int, now: float) -> None:
        """The episode's last control tick is at ``end_ns``; ``now`` is the steady clock, seconds.

        Raises:
            ValueError: no episode is running.
        """
        if not self.recording:
            raise ValueError("no episode is running")
        self._end_ns = end_ns
        self._ended_at = now

    def add(self, topic: str, raw: bytes, publish_ns: int) -> list[Record]:
        """Take one message; ``publish_ns`` is its wall-clock publish time.

        Raises:
            KeyError: a topic without a rule.
        """
        rule = self._rules[topic]
        if rule.anchor:
            self._followers[topic].append(Record(topic, raw, 0, publish_ns))
            self._settle_followers(topic)
            return self._release()
        stamp_ns = self._stamp(rule, raw)
        if stamp_ns is None:
            self.dropped["malformed"] += 1
            return []
        moves_window = rule.kind == "sensor" and rule.awaited
        too_far = self._newest_ns + 2 * self._window_ns
        if not moves_window and self._newest_ns and stamp_ns > too_far:
            self.dropped["future"] += 1
            return []
        if rule.kind == "latched":
            self._add_latched(Record(topic, raw, stamp_ns, publish_ns))
            return self._release()
        if moves_window:
            self._advance(stamp_ns)
        self._push(topic, raw, stamp_ns, publish_ns)
        if topic in self._anchors:
            self._anchors[topic].append((publish_ns, stamp_ns))
            for follower in self._followers:
                if self._rules[follower].anchor == topic:
                    self._settle_followers(follower)
        return self._release()

    def missing(self) -> list[str]:
        """Topics heard in episodes whose last message has not come; empty before `end`."""
        if self._start_ns is None or self._end_ns is None:
            return []
        return [topic for topic in sorted(self._known) if not self._has_come(topic)]

    def complete(self, now: float) -> bool:
        """True after `end` when every awaited message has come, or the wait has lasted too long."""
        if self._end_ns is None:
            return False
        waited = now - self._ended_at
        return waited >= self._timeout or (waited >= self._grace and not self.missing())

    def finish(self) -> list[Record]:
        """Close the episode and return its remaining records. Later messages stay for the next.

        Raises:
            ValueError: the episode has not ended.
        """
        if self._start_ns is None or self._end_ns is None:
            raise ValueError("the episode has not ended")
        for topic in self._followers:
            self._settle_followers(topic, last=True)
        records = []
        later = []
        while self._waiting:
            entry = heapq.heappop(self._waiting)
            if self._belongs(entry[3]):
                self._released[entry[3].topic] += 1
                records.append(entry[3])
            elif entry[0] >= self._end_ns:
                later.append(entry)
            else:
                self.dropped["outside"] += 1
        self._waiting = later
        self._start_ns = self._end_ns = None
        return records

    def gaps(self, steps: int) -> list[str]:
        """After `finish`: the topics that lack messages of an episode of so many control steps.

        Paced, every topic that is awaited speaks at least once per tick, and none is lost.
        """
        return [
            f"{topic} ({steps - said} missing)"
            for topic, rule in self._rules.items()
            if rule.awaited and topic in self._known and (said := self._released[topic]) < steps
        ]

    def _stamp(self, rule: TopicRule, raw: bytes) -> int | None:
        if not rule.stamped:
            return self._newest_ns if self.recording else 0
        try:
            return header_stamp_ns(raw)
        except ValueError:
            return None

    def _add_latched(self, record: Record) -> None:
        known = self._latched.get(record.topic)
        if known is not None and known.raw == record.raw:
            return  # said again for a node that came late
        self._latched[record.topic] = record
        if self._start_ns is not None:
            log_ns = max(record.log_ns, self._start_ns)
            self._push(record.topic, record.raw, log_ns, record.publish_ns)

    def _advance(self, stamp_ns: int) -> None:
        """Sensors move the window on. A long way back, between episodes, is a restarted clock."""
        if not self.recording and stamp_ns < self._newest_ns - 2 * self._window_ns:
            self._waiting.clear()
            self._newest_ns = stamp_ns
        self._newest_ns = max(self._newest_ns, stamp_ns)

    def _push(self, topic: str, raw: bytes, stamp_ns: int, publish_ns: int) -> None:
        self._note_reached(topic, stamp_ns)
        self._arrivals += 1
        record = Record(topic, raw, stamp_ns, publish_ns)
        heapq.heappush(self._waiting, (stamp_ns, self._order[topic], self._arrivals, record))

    def _note_reached(self, topic: str, stamp_ns: int) -> None:
        if self._start_ns is not None and stamp_ns >= self._start_ns:
            self._reached[topic] = max(stamp_ns, self._reached.get(topic, 0))
            self._known.add(topic)

    def _has_come(self, topic: str) -> bool:
        rule = self._rules[topic]
        if not rule.awaited or self._end_ns is None:
            return True
        last = self._end_ns - (self._period_ns if rule.kind == "command" else 0)
        return self._reached.get(topic, -1) >= last

    def _settle_followers(self, topic: str, *, last: bool = False) -> None:
        """Give stamps to the followers for which no closer anchor can come any more."""
        rule = self._rules[topic]
        anchors = self._anchors[rule.anchor or ""]
        waiting = self._followers[topic]
        while waiting:
            record = waiting[0]
            overtaken = bool(anchors) and anchors[-1][0] >= record.publish_ns + bool(rule.follows)
            overdue = waiting[-1].publish_ns - record.publish_ns > self._window_ns
            if not (last or overtaken or overdue):
                break
            waiting.popleft()
            stamp_ns = _anchored(rule, anchors, record.publish_ns)
            if stamp_ns is None:
                self.dropped["nothing to follow"] += 1
            else:
                self._push(topic, record.raw, stamp_ns, record.publish_ns)
        for record in waiting:  # their stamps can only turn out later than they look now
            stamp_ns = _anchored(rule, anchors, record.publish_ns)
            if stamp_ns is not None:
                self._note_reached(topic, stamp_ns)

    def _release(self) -> list[Record]:
        """Records that the window has moved past."""
        horizon = self._newest_ns - self._window_ns
        records = []
        while self._waiting and self._waiting[0][0] < horizon:
            record = heapq.heappop(self._waiting)[3]
            if self._belongs(record):
                self._released[record.topic] += 1
                records.append(record)
            elif self.recording:
                self.dropped["outside"] += 1
        return records

    def _belongs(self, record: Record) -> bool:
        if self._start_ns is None or record.log_ns < self._start_ns:
            return False
        if self._end_ns is None:
            return True
        if self._rules[record.topic].kind == "sensor":
            return record.log_ns <= self._end_ns
        return record.log_ns < self._end_ns


def _anchored(rule: TopicRule, anchors: deque[tuple[int, int]], publish_ns: int) -> int | None:
    """Stamp of the latest anchor published until ``publish_ns``, or of the earliest one since."""
    since = None
    for published, stamp_ns in reversed(anchors):
        if rule.follows and published <= publish_ns:
            return stamp_ns
        if published < publish_ns:
            break
        since = stamp_ns
    return since if rule.precedes else None
