"""What nodes said when they ran again on bags, compared with what was recorded.

Messages are matched by topic and place in time, several of one place in their order; what they
hold is compared as named numbers. Figures of several bags are pooled.
"""

import math
import struct
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rosbags.serde import SerdeError

from rl_robot.bags import BagMessage, typestore
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.errors import UserError
from rl_robot.evaluation.replayed_actions import EXECUTED_ACTION

Array = npt.NDArray[np.float64]

KEPT = 20_000  # values of each component kept to be drawn
_FEW = 16  # numbers of which each is a component; more, such as pixels, are one together


class Contents(NamedTuple):
    """What a message holds: numbers by name, and all else in words."""

    numbers: dict[str, Array]
    words: tuple[str, ...]


@dataclass
class Component:
    """The differences of one number, again minus recorded, in its own unit."""

    largest: float = 0.0
    at: tuple[str, float] | None = None  # the largest: bag and s from its start
    squares: float = 0.0
    count: int = 0
    #: s over all bags, recorded, again: the first of single numbers
    series: tuple[array, array, array] = field(
        default_factory=lambda: (array("d"), array("d"), array("d"))
    )

    @property
    def rms(self) -> float:
        """Root of the mean square of the differences."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def add(self, recorded: Array, again: Array, where: tuple[str, float], at: float) -> None:
        """Add a matched pair, of one shape; ``at``: s over all bags."""
        differences = np.abs(again - recorded).ravel()
        self.squares += float(differences @ differences)
        self.count += differences.size
        largest = float(differences.max(initial=0.0))
        if largest > self.largest:
            self.largest, self.at = largest, where
        if differences.size == 1 and len(self.series[0]) < KEPT:
            pair = float(recorded.ravel()[0]), float(again.ravel()[0])
            for values, value in zip(self.series, (at, *pair), strict=True):
                values.append(value)


@dataclass
class Tally:
    """One topic, over all bags.

    ``other``: matched messages of which something is not a number and differs, or not finite.
    """

    recorded: int = 0
    again: int = 0
    matched: int = 0
    other: int = 0
    components: dict[str, Component] = field(default_factory=lambda: defaultdict(Component))


class Comparison:
    """Collects what was recorded and what was said again, bag by bag."""

    def __init__(self) -> None:
        self.topics: dict[str, Tally] = defaultdict(Tally)
        self.bags: list[str] = []
        self.left_out: list[str] = []  # bags of which nothing could be compared
        self._seconds = 0.0  # of the bags so far

    def add(
        self,
        bag: str,
        topics: Collection[str],
        recorded: Iterable[BagMessage],
        again: Iterable[BagMessage],
        *,
        start_ns: int = 0,
    ) -> None:
        """Compare one bag's messages of ``topics``.

        Args:
            bag: its name.
            topics: those of the nodes that ran again.
            recorded: as they are in the bag.
            again: likewise, ``log_ns`` on the bag's clock.
            start_ns: the bag's start on that clock.
        """
        sides = [_by_place(messages) for messages in (recorded, again)]
        end_ns = start_ns
        for topic in topics:
            first, second = (side.get(topic, {}) for side in sides)
            tally = self.topics[topic]
            tally.recorded += len(first)
            tally.again += len(second)
            for place in sorted(first.keys() & second.keys()):
                tally.matched += 1
                seconds = (place[0] - start_ns) * 1e-9
                pair = first[place], second[place]
                _compare(tally, *pair, (bag, seconds), self._seconds + seconds)
            end_ns = max([end_ns, *(place[0] for place in first.keys() | second.keys())])
        self.bags.append(bag)
        self._seconds += (end_ns - start_ns) * 1e-9

    def figures(self, latencies: Mapping[str, Sequence[float]] = {}) -> dict[str, Any]:
        """Return all figures, ready for JSON; differences in the components' own units.

        ``latencies``: s from a node's last input to its answer, by node.
        """
        return {
            "bags": list(self.bags),
            "left_out": list(self.left_out),
            "topics": {topic: _topic_figures(tally) for topic, tally in self.topics.items()},
            "latency": {
                node: _latency_figures(seconds) for node, seconds in sorted(latencies.items())
            },
        }


Place = tuple[int, int]  # stamp, and of several messages of one topic and stamp which


def _by_place(messages: Iterable[BagMessage]) -> dict[str, dict[Place, BagMessage]]:
    found: dict[str, dict[Place, BagMessage]] = defaultdict(dict)
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for message in messages:
        spoken = message.topic, message.log_ns
        found[message.topic][message.log_ns, counts[spoken]] = message
        counts[spoken] += 1
    return found


def _compare(
    tally: Tally, recorded: BagMessage, again: BagMessage, where: tuple[str, float], at: float
) -> None:
    if recorded.type != again.type:
        tally.other += 1
        return
    old, new = contents(recorded), contents(again)
    same = old.words == new.words and old.numbers.keys() == new.numbers.keys()
    for name in old.numbers.keys() & new.numbers.keys():
        before, after = old.numbers[name], new.numbers[name]
        finite = np.isfinite(before).all() and np.isfinite(after).all()
        if before.shape != after.shape or not finite:
            same = same and np.array_equal(before, after, equal_nan=True)
            continue
        tally.components[name].add(before, after, where, at)
    tally.other += not same


def contents(message: BagMessage) -> Contents:
    """Return what a message holds, but for its stamp; of one that can't be read, only its size."""
    read = _READERS.get(message.type)
    try:
        decoded = typestore().deserialize_cdr(message.raw, message.type)
    except (SerdeError, ValueError, LookupError, struct.error):
        return Contents({}, (f"{len(message.raw)} bytes",))
    if read is None:
        return Contents({}, (_unstamped(decoded),))
    numbers, words = read(decoded)
    if message.type == "geometry_msgs/msg/PoseStamped":
        numbers["age"] = (message.log_ns - header_stamp_ns(message.raw)) * 1e-9
    return Contents({name: np.asarray(value, float) for name, value in numbers.items()}, words)


Read = tuple[dict[str, Any], tuple[str, ...]]


def _joint_state(message: Any) -> Read:
    numbers: dict[str, Any] = {}
    for what in ("position", "velocity", "effort"):
        kind = "" if what == "position" else f" {what}"
        values = getattr(message, what)
        numbers |= {f"{name}{kind}": v for name, v in zip(message.name, values, strict=False)}
    return numbers, (message.header.frame_id,)


def _pose(message: Any) -> Read:
    where, turned = message.pose.position, message.pose.orientation
    numbers = {name: getattr(where, name) for name in "xyz"}
    numbers |= {f"q{name}": getattr(turned, name) for name in "xyzw"}
    return numbers, (message.header.frame_id,)


def _trajectory(message: Any) -> Read:
    """The points at the end, and of those on the way how far they lie apart."""
    numbers: dict[str, Any] = {}
    names = message.joint_names
    if message.points:
        rows = [point.positions for point in message.points]
        if all(len(row) == len(names) for row in rows):
            numbers |= {f"{name} end": value for name, value in zip(names, rows[-1], strict=True)}
            numbers["points"] = np.array(rows)
        else:
            numbers["points"] = np.concatenate(rows)
        last = message.points[-1].time_from_start
        numbers["duration"] = last.sec + last.nanosec * 1e-9
    return numbers, (message.header.frame_id, *names)


def _array(message: Any) -> Read:
    few = len(message.data) <= _FEW
    numbers = {f"[{i}]": v for i, v in enumerate(message.data)} if few else {"data": message.data}
    return numbers, ()


def _picture(message: Any) -> Read:
    size = f"{message.width}x{message.height} {message.encoding}"
    return {"pixels": message.data}, (message.header.frame_id, size)


_READERS = {
    "sensor_msgs/msg/JointState": _joint_state,
    "geometry_msgs/msg/PoseStamped": _pose,
    "trajectory_msgs/msg/JointTrajectory": _trajectory,
    "std_msgs/msg/Float64MultiArray": _array,
    "sensor_msgs/msg/Image": _picture,
}


def _unstamped(message: Any) -> str:
    fields = vars(message)
    return repr({name: value for name, value in fields.items() if name not in ("header", "stamp")})


def _topic_figures(tally: Tally) -> dict[str, Any]:
    return {
        "recorded": tally.recorded,
        "again": tally.again,
        "matched": tally.matched,
        "only_recorded": tally.recorded - tally.matched,
        "only_again": tally.again - tally.matched,
        "other": tally.other,
        "components": {
            name: {
                "largest": one.largest,
                "rms": one.rms,
                "bag": one.at[0] if one.at else None,
                "at_s": round(one.at[1], 6) if one.at else None,
            }
            for name, one in sorted(tally.components.items())
        },
    }


def _latency_figures(seconds: Sequence[float]) -> dict[str, Any]:
    if not seconds:
        return {"answers": 0, "p50_ms": None, "p99_ms": None, "largest_ms": None}
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "answers": len(seconds),
        "p50_ms": round(1e3 * float(p50), 3),
        "p99_ms": round(1e3 * float(p99), 3),
        "largest_ms": round(1e3 * max(seconds), 3),
    }


# --- a regression test -------------------------------------------------------------------------


def parse_tolerance(text: str) -> dict[str, float]:
    """Return tolerances by topic, "" for all others: ``1e-6``, or ``reward=0,policy/action=1e-3``.

    Raises:
        UserError: a text of another form.
    """
    tolerances: dict[str, float] = {}
    for rule in filter(None, (rule.strip() for rule in text.split(","))):
        topic, equals, number = rule.rpartition("=")
        try:
            tolerance = float(number)
        except ValueError:
            tolerance = math.nan
        if not 0.0 <= tolerance < math.inf or bool(equals) != bool(topic):
            raise UserError(
                f"tolerance '{rule}': expected a number, 0 or more, or topic=number, with commas"
            )
        tolerances[topic.strip()] = tolerance
    return tolerances


def check_tolerated(tolerances: Mapping[str, float], topics: Collection[str]) -> None:
    """Refuse a tolerance for what is none of the ``topics`` that are compared.

    Raises:
        UserError: a topic that nobody who runs again says.
    """
    unknown = sorted(tolerances.keys() - {"", *topics})
    if unknown:
        raise UserError(
            f"tolerance: nobody who runs again says '{unknown[0]}': expected one of "
            f"{', '.join(topics)}"
        )


def exceeded(figures: Mapping[str, Any], tolerances: Mapping[str, float]) -> list[str]:
    """Return what lies beyond the tolerances, a line each; empty: all as recorded.

    Messages that are on one side only, or differ in what is no number, are beyond any, and so are
    bags that were left out, and that nothing was there to be compared. Topics for
    which no tolerance is given are left out, and ``EXECUTED_ACTION`` where it is not named: the
    recorded policy itself asked for something else than was executed.
    """
    found = [f"{bag}: left out" for bag in figures["left_out"]] if tolerances else []
    compared = 0
    for topic, one in figures["topics"].items():
        others = None if topic == EXECUTED_ACTION else tolerances.get("")
        tolerance = tolerances.get(topic, others)
        if tolerance is not None:
            compared += one["recorded"] + one["again"]
            found += [f"{topic}: {what}" for what in _beyond(one, tolerance)]
    if tolerances and not compared:
        found.append("nothing was compared")
    return found


def _beyond(one: Mapping[str, Any], tolerance: float) -> Iterator[str]:
    for key, what in (
        ("only_recorded", "recorded only"),
        ("only_again", "said again only"),
        ("other", "of other contents"),
    ):
        if one[key]:
            yield f"{one[key]} messages {what}"
    for name, component in one["components"].items():
        if component["largest"] > tolerance:
            yield (
                f"{name} differs by {component['largest']:.3g}, more than {tolerance:g}, "
                f"at {component['at_s']:.1f} s of {component['bag']}"
            )
