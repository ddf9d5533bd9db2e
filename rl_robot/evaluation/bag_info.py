"""What a bag holds, topic by topic: how much, how often, with which gaps and delays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.bags.cdr import read_numbers
from rl_robot.bags.messages import starts_with_stamp
from rl_robot.bags.stamps import header_stamp_ns, times_array
from rl_robot.errors import UserError
from rl_robot.evaluation.tables import NONE, Table, as_text

GAP = 2.5  # median periods between two messages from which on it is a gap
_PERIODIC = 8  # messages that a topic needs to have a rhythm
_STEADY = 0.5  # of its intervals are within 20 % of the median, or it has none

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TopicFacts:
    """One topic of a bag.

    Attributes:
        times_ns: (N,) log times, in order: in our bags a message's place on the graph's clock.
        published_ns: (N,) wall time of publishing, in the same order.
        behind: (N,) s from when its stamp was first spoken of on any topic to its publishing;
            NaN where a message has no stamp, empty for a type without.
        gaps: (G, 2) ns, from and to, where it was silent for longer than its rhythm allows.
        size: bytes of its messages.
    """

    name: str
    type: str
    times_ns: Ints
    published_ns: Ints
    behind: npt.NDArray[np.float64]
    gaps: Ints
    size: int

    @property
    def count(self) -> int:
        """Messages."""
        return len(self.times_ns)

    @property
    def rate(self) -> float:
        """Messages per second; NaN for fewer than two."""
        span = self.times_ns[-1] - self.times_ns[0] if self.count > 1 else 0
        return (self.count - 1) / (span * 1e-9) if span else float("nan")

    @property
    def longest(self) -> float:
        """Longest time in s between two messages; NaN for fewer than two."""
        return float(np.diff(self.times_ns).max() * 1e-9) if self.count > 1 else float("nan")


@dataclass(frozen=True)
class BagFacts:
    """A bag: see `TopicFacts` for each of its topics."""

    path: str
    topics: tuple[TopicFacts, ...]
    start_ns: int
    seconds: float
    size: int
    metadata: EpisodeMetadata | None
    rewards: tuple[tuple[int, float], ...] = field(default=())


def bag_facts(reader: BagReader) -> BagFacts:
    """Read a bag once and count.

    Raises:
        UserError: a part of it is damaged, or has times beyond all stamps.
    """
    noted = _noted(reader)
    first = _first_spoken(noted)
    topics = tuple(_facts(name, reader.types[name], noted[name], first) for name in sorted(noted))
    spans = [(t.times_ns[0], t.times_ns[-1]) for t in topics if t.count]
    start = min((span[0] for span in spans), default=0)
    end = max((span[1] for span in spans), default=0)
    try:
        metadata = reader.episode
    except UserError:
        metadata = None
    return BagFacts(
        str(reader.path),
        topics,
        int(start),
        float(end - start) * 1e-9,
        _size(reader),
        metadata,
        _rewards(reader),
    )


def as_json(facts: BagFacts) -> dict[str, Any]:
    """Return the facts as what JSON can hold; numbers that are unknown are null."""
    return {
        "path": facts.path,
        "seconds": facts.seconds,
        "start_ns": facts.start_ns,
        "bytes": facts.size,
        "metadata": facts.metadata.to_strings() if facts.metadata else None,
        "topics": [
            {
                "topic": topic.name,
                "type": topic.type,
                "messages": topic.count,
                "bytes": topic.size,
                "rate": _or_null(topic.rate),
                "longest_silence": _or_null(topic.longest),
                "gaps": (topic.gaps * 1e-9).tolist(),
                "behind": _percentiles(topic.behind),
            }
            for topic in facts.topics
        ],
    }


def as_page(facts: BagFacts) -> str:
    """Return the facts as text for a terminal."""
    count = sum(topic.count for topic in facts.topics)
    lines = [
        f"{facts.path}: {count} messages, {facts.size / 1e6:.1f} MB, {facts.seconds:.2f} s "
        f"from {facts.start_ns * 1e-9:.3f} s",
        _episode_line(facts.metadata),
        "",
    ]
    lines.append(as_text(Table("topics", _HEAD, [_row(topic) for topic in facts.topics], _NOTE)))
    for topic in facts.topics:
        for start, end in topic.gaps:
            lines.append(
                f"gap: {topic.name} was silent for {(end - start) * 1e-9:.3f} s from "
                f"{(start - facts.start_ns) * 1e-9:.3f} s on"
            )
    return "\n".join(lines)


def as_lines(facts: Sequence[BagFacts]) -> str:
    """Return several bags' facts as a table for a terminal, a line each."""
    rows = [_line(one) for one in facts]
    head = (
        "bag",
        "task",
        "policy",
        "split",
        "outcome",
        "steps",
        "seconds",
        "messages",
        "MB",
        "gaps",
    )
    return as_text(Table(f"{len(facts)} bags", head, rows))


def _line(facts: BagFacts) -> tuple[str, ...]:
    metadata = facts.metadata
    told = (NONE,) * 5
    if metadata is not None:
        told = (
            metadata.task,
            metadata.policy,
            metadata.split,
            metadata.outcome,
            str(metadata.steps),
        )
    return (
        Path(facts.path).name,
        *told,
        f"{facts.seconds:.2f}",
        str(sum(topic.count for topic in facts.topics)),
        f"{facts.size / 1e6:.1f}",
        str(sum(len(topic.gaps) for topic in facts.topics)),
    )


_HEAD = ("topic", "type", "messages", "MB", "Hz", "longest s", "gaps", "behind p50 ms", "p99 ms")
_NOTE = (
    "longest: between two messages; behind: from when a stamp was first spoken of on any topic "
    "until this topic said something of it"
)


def _row(topic: TopicFacts) -> tuple[str, ...]:
    behind = _percentiles(topic.behind)
    return (
        topic.name,
        topic.type,
        str(topic.count),
        f"{topic.size / 1e6:.2f}",
        _number(topic.rate, ".1f"),
        _number(topic.longest, ".3f"),
        str(len(topic.gaps)),
        f"{behind['p50'] * 1e3:.1f}" if behind else NONE,
        f"{behind['p99'] * 1e3:.1f}" if behind else NONE,
    )


def _episode_line(metadata: EpisodeMetadata | None) -> str:
    if metadata is None:
        return "no episode of ours: it says nothing of itself"
    reason = f" ({metadata.reason})" if metadata.reason else ""
    return (
        f"episode {metadata.episode}: {metadata.task} on {metadata.robot}, policy "
        f"{metadata.policy} version {metadata.policy_version}, {metadata.split} start "
        f"{metadata.index}, seed {metadata.seed}: {metadata.outcome}{reason} after "
        f"{metadata.steps} steps"
    )


@dataclass
class _Noted:
    """What is kept of a topic's messages while a bag is read."""

    times: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    published: list[int] = field(default_factory=list)
    stamped: bool = False
    size: int = 0


def _noted(reader: BagReader) -> dict[str, _Noted]:
    noted = {name: _Noted(stamped=starts_with_stamp(kind)) for name, kind in reader.types.items()}
    for topic, _, log_ns, publish_ns, raw in reader.messages():
        note = noted[topic]
        if note.stamped:
            note.stamps.append(header_stamp_ns(raw) if len(raw) >= 12 else 0)
        note.times.append(log_ns)
        note.published.append(publish_ns)
        note.size += len(raw)
    return noted


def _first_spoken(noted: Mapping[str, _Noted]) -> dict[int, int]:
    """When each stamp was first spoken of."""
    first: dict[int, int] = {}
    for note in noted.values():
        for stamp, published in zip(note.stamps, note.published, strict=False):
            first[stamp] = min(published, first.get(stamp, published))
    return first


def _facts(name: str, kind: str, note: _Noted, first: Mapping[int, int]) -> TopicFacts:
    times = times_array(note.times, name)
    published = times_array(note.published, name)
    order = np.argsort(times, kind="stable")
    behind = np.zeros(0)
    if note.stamped:
        stamps = np.array(note.stamps, np.int64)
        spoken = np.array([first[stamp] for stamp in note.stamps], np.int64)
        # To a controller, 0 means "start now".
        behind = np.where(stamps == 0, np.nan, (published - spoken) * 1e-9)[order]
    return TopicFacts(
        name, kind, times[order], published[order], behind, _gaps(times[order]), note.size
    )


def _gaps(times: Ints) -> Ints:
    """Return the silences (G, 2) of a topic that otherwise has a rhythm."""
    steps = np.diff(times)
    steady = steps[steps > 0]
    if len(steady) < _PERIODIC:
        return np.zeros((0, 2), np.int64)
    median = float(np.median(steady))
    if np.mean(np.abs(steady - median) < 0.2 * median) < _STEADY:
        return np.zeros((0, 2), np.int64)
    at = np.flatnonzero(steps > GAP * median)
    return np.stack([times[at], times[at + 1]], axis=1)


def _rewards(reader: BagReader) -> tuple[tuple[int, float], ...]:
    """The total of each reward, where the bag has rewards as our graph says them."""
    if reader.types.get("reward") != "sensor_msgs/msg/JointState":
        return ()
    found = []
    for message in reader.messages(["reward"]):
        try:
            _, numbers = read_numbers(message.raw)
        except ValueError:
            continue  # what is not of its type is for `check` to say
        if "total" in numbers:
            found.append((message.log_ns, numbers["total"]))
    return tuple(found)


def _size(reader: BagReader) -> int:
    if reader.path.is_file():
        return reader.path.stat().st_size
    return sum(file.stat().st_size for file in _files(reader))


def _files(reader: BagReader) -> Iterator[Any]:
    return (file for file in reader.path.iterdir() if file.is_file())


def _percentiles(seconds: npt.NDArray[np.float64]) -> dict[str, float] | None:
    known = np.asarray(seconds)[np.isfinite(seconds)]
    if not len(known):
        return None
    p50, p99 = np.percentile(known, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(known.max())}


def _number(value: float, form: str) -> str:
    return NONE if np.isnan(value) else format(value, form)


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else value
