"""A bag as it is played back: topics by the graph's names, in the order of their stamps.

Bags of our own are in that order. In others the log time is when a message arrived, so that what
was captured first may come last; and their topics have names of their own.
"""

import heapq
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from rl_robot.bags import BagMessage, BagReader
from rl_robot.bags.found import find_bags
from rl_robot.bags.messages import starts_with_stamp
from rl_robot.bags.pictures import COMPRESSED_IMAGE, IMAGE, decompress, picture_topic
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.errors import UserError

NANOSECONDS = 1_000_000_000

_STAMPED_BYTES = 12  # of a message that begins with a stamp, at least
_LATE_NS = 2 * NANOSECONDS  # by which a message of a foreign bag may be late


def named_bags(text: str) -> list[Path]:
    """Return the bags that a text names: bags, runs or folders of bags, with commas between.

    Raises:
        UserError: one of them does not exist, or holds no bag.
    """
    places = [name.strip() for name in text.split(",") if name.strip()]
    if not places:
        raise UserError("bag is missing: give bag:=runs/<name>/episodes/<episode>, or a run")
    return find_bags(places)


def parse_names(text: str) -> dict[str, str]:
    """Return other names for a bag's topics: ``/their/topic=our/topic``, with commas between.

    Raises:
        UserError: a text of another form, or two topics are to have one name.
    """
    names: dict[str, str] = {}
    for rule in filter(None, (rule.strip() for rule in text.split(","))):
        theirs, equals, ours = (part.strip("/ ") for part in rule.partition("="))
        if not (theirs and equals and ours):
            raise UserError(f"remap '{rule}': expected /their/topic=our/topic")
        if ours in names.values():
            raise UserError(f"remap '{rule}': {ours} can be one topic of the bag only")
        names[theirs] = ours
    return names


class Tape:
    """One bag to be played. ``types`` and ``counts`` are by the graph's names of the topics.

    Topics ``<picture>/compressed`` are given as ``<picture>``, decompressed.
    """

    def __init__(self, path: Path | str, names: Mapping[str, str] | None = None) -> None:
        """Open a bag.

        Args:
            path: the bag.
            names: topic in the bag -> name in the graph, without a leading slash.

        Raises:
            UserError: the bag is missing or damaged, or lacks a topic that ``names`` renames.
        """
        self.reader = BagReader(path)
        self.path = Path(path)
        self.is_episode = self.reader.is_episode
        self._topics = {name: self._renamed(name, names or {}) for name in self.reader.types}
        unknown = [theirs for theirs in names or {} if theirs not in _bare(self._topics)]
        if unknown:
            known = ", ".join(sorted(self._topics))
            raise UserError(f"remap: {self.path} has no topic {unknown[0]}; it has {known}")
        self._pressed = {
            name for name, kind in self.reader.types.items() if kind == COMPRESSED_IMAGE
        }
        counts = self.reader.counts
        # Where a picture is there both ways, the raw one counts.
        for name in sorted(self._pressed):
            picture = picture_topic(self._topics[name])
            if any(ours == picture and counts[theirs] for theirs, ours in self._topics.items()):
                self._pressed.discard(name)
            else:
                self._topics[name] = picture
        said = {name: ours for name, ours in self._topics.items() if counts[name]}
        self.types = {
            ours: IMAGE if name in self._pressed else self.reader.types[name]
            for name, ours in said.items()
        }
        self.counts = {ours: counts[name] for name, ours in said.items()}

    def _renamed(self, name: str, names: Mapping[str, str]) -> str:
        return names.get(name.lstrip("/"), name)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Return the messages of ``topics``, ``log_ns`` their place in time, in that order.

        Raises:
            UserError: the bag is damaged, or a picture can't be decompressed.
        """
        wanted = [name for name, ours in self._topics.items() if ours in topics]
        named = (self._named(message) for message in self.reader.messages(wanted))
        return named if self.is_episode else _in_order(named)

    def _named(self, message: BagMessage) -> BagMessage:
        if starts_with_stamp(message.type) and len(message.raw) < _STAMPED_BYTES:
            raise UserError(f"{self.path}: a message of {message.topic} is cut short")
        ours = message._replace(topic=self._topics[message.topic])
        if message.topic not in self._pressed:
            return ours
        try:
            return ours._replace(type=IMAGE, raw=decompress(message.raw))
        except ValueError as error:
            raise UserError(f"{self.path}: a picture of {message.topic}: {error}") from None


def _bare(names: Collection[str]) -> set[str]:
    return {name.lstrip("/") for name in names}


def _in_order(messages: Iterator[BagMessage]) -> Iterator[BagMessage]:
    """Return a foreign bag's messages by their stamps; those without one follow what came last."""
    waiting: list[tuple[int, int, BagMessage]] = []
    newest = 0
    for arrival, message in enumerate(messages):
        stamp = header_stamp_ns(message.raw) if starts_with_stamp(message.type) else 0
        newest = max(newest, stamp)
        at = stamp or newest
        heapq.heappush(waiting, (at, arrival, message._replace(log_ns=at)))
        while waiting and waiting[0][0] < newest - _LATE_NS:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def restamped(raw: bytes, by_ns: int) -> bytes:
    """Return a serialized message that begins with a stamp, stamped ``by_ns`` later.

    A stamp of 0, which means "now" or "never", stays.
    """
    stamp = header_stamp_ns(raw)
    if not (by_ns and stamp):
        return raw
    form = "<iI" if raw[1] & 1 else ">iI"
    return raw[:4] + struct.pack(form, *divmod(stamp + by_ns, NANOSECONDS)) + raw[12:]
