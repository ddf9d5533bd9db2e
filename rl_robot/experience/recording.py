"""Decides which messages of a running graph belong to an episode.

Topics reach the recorder over separate connections, so a message may arrive before or after the
news that the episode it belongs to has begun or ended. The cut is therefore made by time stamps
alone. Two waits serve it, both in seconds of stamps. Between episodes messages are kept for a
`window`, so that those from after a start are still there when the news of it comes. In an episode
they are held back for a shorter while, so that little is lost with a process that dies: the news of
the end normally comes before anything from beyond the end is given out. What is stamped before the
tick after one that was decided to be acted on surely belongs, and is not held back any longer.
"""

import heapq
from array import array
from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.experience.topic_rules import TopicRule

NANOSECONDS = 1_000_000_000


class Record(NamedTuple):
    """A message that belongs to the episode: what `EpisodeWriter.write` takes."""

    topic: str
    raw: bytes
    log_ns: int
    publish_ns: int


class EpisodeCut:
    """Sorts messages into episodes. One episode at a time.

    `add` takes every message as it comes, at all times; `begin` and `end` say what the `episode`
    topic announced; when `complete` is true after `end`, `finish` gives the rest. Both `add` and
    `finish` return records to write, in the order of their stamps but for those that came later
    than they are held.

    The same messages give the same records in whatever order they arrive, as long as each comes
    within the hold, and the news: of the start within the window, of the end within the hold.
    Beyond that a late message is still given out, in another place; news of the end that is late
    leaves records from `beyond` it, which depend on when it came; and what came before late news of
    the start is lost.
    """

    def __init__(
        self,
        rules: Mapping[str, TopicRule],
        *,
        window: float = 2.0,
        hold: float | None = None,
        decisions: str = "",
        period: float = 0.1,
        grace: float = 0.01,
        timeout: float = 1.0,
    ) -> None:
        """Make a cut for topics with these rules.

        Args:
            rules: by topic.
            window: seconds of stamps that messages are kept for while no episode is recorded.
            hold: those that they are held back for while one is (default: the window).
            decisions: the topic that says of a tick that it is acted on, so that the episode goes
                on to the next one at least.
            period: the control period, s.
            grace: seconds of wall time that `complete` waits after `end` at least, for topics that
                speak now and then.
            timeout: and at most.
        """
        self._rules = dict(rules)
        self._order = {topic: index for index, topic in enumerate(rules)}
        self._window_ns = round(window * NANOSECONDS)
        self._hold_ns = self._window_ns if hold is None else round(hold * NANOSECONDS)
        self._decisions = decisions
        self._sure_ns = 0  # what is stamped before belongs to the episode that is recorded
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
        # Stamps of what was given out in this episode, sensors' apart: their end is another.
        self._given_sensors, self._given_others = array("q"), array("q")
        self.beyond = 0  # records of this episode that were given out and lie beyond its end

    @property
    def newest_ns(self) -> int:
        """Newest stamp of the sensors that were heard, which is where the graph's time stands."""
        return self._newest_ns

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """First and last control tick of the episode that is recorded, as far as they are known."""
        return self._start_ns, self._end_ns

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
        self._sure_ns = 0
        self._reached = {}
        self._released.clear()
        self._given_sensors, self._given_others = array("q"), array("q")
        self.beyond = 0
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
        self.beyond = sum(stamp > end_ns for stamp in self._given_sensors)
        self.beyond += sum(stamp >= end_ns for stamp in self._given_others)

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
        if topic == self._decisions:
            self._sure_ns = max(self._sure_ns, stamp_ns + self._period_ns)
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
                records.append(self._given(entry[3]))
            elif entry[0] >= self._end_ns:
                later.append(entry)
            else:
                self.dropped["outside"] += 1
        self._waiting = later
        self._start_ns = self._end_ns = None
        return records

    def abandon(self) -> None:
        """Stop recording, whatever the episode lacks. Later messages stay for the next."""
        self._start_ns = self._end_ns = None

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
        """Records that the hold, or between episodes the window, has moved past."""
        window = self._newest_ns - self._window_ns
        horizon = max(self._newest_ns - self._hold_ns, self._sure_ns) if self.recording else window
        records = []
        while self._waiting and self._waiting[0][0] < horizon:
            stamp_ns, *_, record = self._waiting[0]
            if self._end_ns is not None and stamp_ns > max(self._end_ns, window):
                break  # kept for the episode after this one
            heapq.heappop(self._waiting)
            if self._belongs(record):
                records.append(self._given(record))
            elif self.recording:
                self.dropped["outside"] += 1
        return records

    def _given(self, record: Record) -> Record:
        """Note a record that is given out."""
        self._released[record.topic] += 1
        sensor = self._rules[record.topic].kind == "sensor"
        (self._given_sensors if sensor else self._given_others).append(record.log_ns)
        return record

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
