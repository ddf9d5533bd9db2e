"""A topic of a bag as arrays in the order of capture, whatever its type."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_robot.bags.columns import Columns, columns
from rl_robot.bags.messages import Series, typestore
from rl_robot.bags.stamps import header_stamp_ns, times_array
from rl_robot.errors import UserError
from rl_robot.experience.bag_map import Source
from rl_robot.experience.pictures import PICTURES, read_pictures

Ints = npt.NDArray[np.int64]

_ONE_CLOCK_NS = 3600 * 1_000_000_000  # stamps and times of recording that are nearer are of one
RESTART_NS = 1_000_000_000  # a clock that jumps back by more was restarted; less is reordering


class _Kind(NamedTuple):
    """How a type's messages become numbers: the fields by default, and which field names values."""

    fields: tuple[str, ...]
    names: str = ""


# What a type's names are of; its other numbers, such as those of the header, go by their paths.
_NAMED = ("position", "velocity", "effort", "positions", "velocities", "accelerations")
_KINDS = {
    "sensor_msgs/msg/JointState": _Kind(("position",), "name"),
    "trajectory_msgs/msg/JointTrajectory": _Kind(("points.-1.positions",), "joint_names"),
    "sensor_msgs/msg/Imu": _Kind(("orientation", "angular_velocity", "linear_acceleration")),
    "geometry_msgs/msg/PoseStamped": _Kind(("pose",)),
    "geometry_msgs/msg/TwistStamped": _Kind(("twist",)),
    "geometry_msgs/msg/WrenchStamped": _Kind(("wrench",)),
    "geometry_msgs/msg/Pose": _Kind(("position", "orientation")),
    "geometry_msgs/msg/Twist": _Kind(("linear", "angular")),
    "geometry_msgs/msg/Wrench": _Kind(("force", "torque")),
    "std_msgs/msg/Float64MultiArray": _Kind(("data",)),
    "std_msgs/msg/Float32MultiArray": _Kind(("data",)),
    "std_msgs/msg/Float64": _Kind(("data",)),
    "std_msgs/msg/Float32": _Kind(("data",)),
    "std_msgs/msg/Bool": _Kind(("data",)),
}


@dataclass(frozen=True)
class Stream:
    """N messages of one source in the order of their stamps, each stamp once.

    Attributes:
        stamps_ns: (N,) of capture.
        published_ns: (N,) wall time at which they were published, or recorded.
        is_stamped: the stamps are the messages' own; otherwise when they were recorded.
        components: names of the D numbers; empty for pictures, and where no message holds any.
        values: (N, D) float64; of pictures the N messages, unread.
    """

    source: Source
    type: str
    stamps_ns: Ints
    published_ns: Ints
    is_stamped: bool
    components: tuple[str, ...]
    values: Any

    def take(self, rows: Ints) -> npt.NDArray[Any]:
        """Return the values of some rows, given in order.

        Returns:
            (n, D) float64, or pictures (n, H, W, 3) uint8 RGB.

        Raises:
            ValueError: one of the pictures can't be read.
        """
        if self.type not in PICTURES:
            return np.asarray(self.values[rows])
        wanted, places = np.unique(rows, return_inverse=True)
        raws = [self.values[row] for row in wanted]
        pictures = read_pictures(self.type, raws, self.source.size)
        return pictures if len(wanted) == len(rows) else pictures[places]

    def newest(self, ticks_ns: Ints) -> Ints:
        """Return the row of the newest captured at or before each tick; -1 where there is none."""
        return np.searchsorted(self.stamps_ns, ticks_ns, side="right") - 1


def read_streams(source: Source, messages: Series, counts: Counter[str]) -> list[Stream]:
    """Put a source's messages in order, given in the order in which they were recorded.

    What has to be done to them is counted by kind, after the topic's name:

    - malformed: not of their type, or without the fields asked for; left out;
    - not finite: numbers that are none; left out;
    - unstamped: with a stamp of 0, which takes the time of recording instead where the topic's
      other stamps are of that clock;
    - reordered: recorded after one that was captured later; put in their place;
    - late: a single one that would be more than a second back; left out;
    - ahead: a single one stamped more than a second ahead of both its neighbours; left out;
    - duplicates: of one stamp; the one recorded last counts;
    - restarts: the clock went back by more than a second and stayed there: what follows is a
      stretch of its own.

    Returns:
        The stretches between restarts.

    Raises:
        UserError: there is no usable message, or the type can't be mapped.
    """
    if not messages.raws:
        raise UserError(f"{source.topic}: the bag holds no message of it")
    table = _table(source, messages, counts)
    if not len(table.rows):
        raise UserError(
            f"{source.topic}: of its {len(messages.raws)} messages none can be used: "
            f"{table.problem}"
        )
    log_ns = times_array(messages.log_ns, source.topic)[table.rows]
    published_ns = times_array(messages.publish_ns, source.topic)[table.rows]
    is_stamped = source.stamp == "header" and table.stamps_ns is not None
    stamps_ns = log_ns
    if is_stamped and table.stamps_ns is not None:
        stamps_ns = _stamped(table.stamps_ns, log_ns, source.topic, counts)
    stamps_ns = stamps_ns + source.offset_ns
    streams = []
    for stretch in _stretches(stamps_ns, source.topic, counts):
        order = _in_order(stamps_ns, stretch, source.topic, counts)
        values = table.values
        is_pictures = messages.type in PICTURES
        values = [values[row] for row in order] if is_pictures else _picked(values, order)
        streams.append(
            Stream(
                source,
                messages.type,
                stamps_ns[order],
                published_ns[order],
                is_stamped,
                table.components,
                values,
            )
        )
    return streams


class _Table(NamedTuple):
    """Usable messages in the order of recording: which they are, their stamps and values."""

    rows: Ints
    stamps_ns: Ints | None
    values: Any
    components: tuple[str, ...]
    problem: str


def _table(source: Source, messages: Series, counts: Counter[str]) -> _Table:
    message_type, raws = messages.type, messages.raws
    if message_type in PICTURES:
        heads = [raw[:64] for raw in raws]  # the stamp is in front of the pixels
        rows = np.array([row for row, head in enumerate(heads) if len(head) >= 12], np.int64)
        counts[f"{source.topic}: malformed"] += len(raws) - len(rows)
        stamps_ns = np.array([header_stamp_ns(heads[row]) for row in rows], np.int64)
        return _Table(rows, stamps_ns, [raws[row] for row in rows], (), "cut short")
    if message_type not in typestore().fielddefs:
        raise UserError(f"{source.topic} is of type {message_type}, which is no stock type")
    return _numbers(source, message_type, raws, counts)


def _numbers(
    source: Source, message_type: str, raws: Sequence[bytes], counts: Counter[str]
) -> _Table:
    groups, misfits = columns(message_type, raws)
    groups.sort(key=lambda group: int(group.rows[0]))
    kind = _KINDS.get(message_type, _Kind(()))
    names = source.names
    components: tuple[str, ...] = ()
    problem = f"not a {message_type}"
    rows: list[Ints] = []
    stamps: list[Ints] = []
    parts: list[npt.NDArray[Any]] = []
    for group in groups:
        try:
            said = names or group.layout.texts.get(kind.names, ())
            found, values = _values(group, source, kind, said)
            if components and found != components:
                raise ValueError(f"{len(found)} numbers instead of {len(components)}")
        except (KeyError, ValueError) as error:
            problem = str(error).strip("'\"")
            misfits += group.rows.tolist()
            continue
        if found and not components:  # those before held no numbers at all
            misfits += [row for part in rows for row in part.tolist()]
            rows, parts, stamps = [], [], []
        components, names = found, said
        rows.append(group.rows)
        parts.append(values)
        stamped = _stamps(group)
        if stamped is not None:
            stamps.append(stamped)
    counts[f"{source.topic}: malformed"] += len(misfits)
    if not rows:
        return _Table(np.zeros(0, np.int64), None, np.zeros((0, 0)), components, problem)
    row, table = _joined(rows), _joined(parts)
    order = np.argsort(row, kind="stable")
    # As float32, which is what becomes of them: 1e300 is not finite then.
    with np.errstate(over="ignore"):
        finite = np.asarray(np.isfinite(table.astype(np.float32)).all(axis=1))[order]
    counts[f"{source.topic}: not finite"] += int((~finite).sum())
    order = order[finite]
    stamps_ns = _picked(_joined(stamps), order) if stamps else None
    values = _scaled(_picked(table, order).astype(np.float64, copy=False), source, components)
    return _Table(_picked(row, order), stamps_ns, values, components, "not finite numbers")


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return arrays one after the other; a single one, which is the usual case, as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _picked(values: npt.NDArray[Any], rows: Ints) -> npt.NDArray[Any]:
    """Return these rows; all of them in their order, which is the usual case, without a copy."""
    in_order = len(rows) == len(values) and (np.diff(rows) > 0).all()
    return values if in_order else values[rows]


def _scaled(
    values: npt.NDArray[np.float64], source: Source, components: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    if not source.scale:
        return values
    if len(source.scale) > 1 and len(source.scale) != len(components):
        raise UserError(
            f"{source.topic}: {len(source.scale)} factors in scale for {len(components)} numbers "
            f"({', '.join(components)})"
        )
    return values * source.scale


def _values(
    group: Columns, source: Source, kind: _Kind, names: tuple[str, ...]
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """Return the names of the numbers of a group's messages, and the numbers (n, D).

    Raises:
        KeyError: a field or a name is missing.
        ValueError: the type has no default fields, or numbers and names don't go together.
    """
    if source.only_stamps:
        return (), np.zeros((len(group.rows), 0))
    fields = source.fields or kind.fields
    if not fields:
        raise ValueError("its type has no default: say which with fields")
    components: list[str] = []
    parts: list[npt.NDArray[Any]] = []
    for field in fields:
        path = _resolved(field, group)
        leaves = group.below(path)
        if not leaves:
            raise KeyError(f"there is no {field} in it")
        for leaf in leaves:
            numbers = group.numbers(leaf)
            last = leaf.rpartition(".")[2]
            if kind.names and leaf == path and last in _NAMED:
                said = group.layout.texts[kind.names]
                order = _order(names, said, numbers.shape[1], field)
                components += [f"{name}.{last}" if len(fields) > 1 else name for name in names]
                parts.append(numbers[:, order])
            else:
                below = leaf.removeprefix(path).strip(".")
                if not below or len(fields) > 1:
                    below = f"{field}.{below}".strip(".")
                several = numbers.shape[1] > 1
                components += [
                    f"{below}.{i}" if several else below for i in range(numbers.shape[1])
                ]
                parts.append(numbers)
    return tuple(components), parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _resolved(field: str, group: Columns) -> str:
    """Return a path in which -1 stands for the last element of a sequence."""
    before, last, after = field.partition(".-1")
    if not last:
        return field
    count = group.layout.counts.get(before, 0)
    if not count:
        raise KeyError(f"{before} is empty")
    return f"{before}.{count - 1}{after}"


def _order(names: tuple[str, ...], said: tuple[str, ...], count: int, field: str) -> list[int]:
    if len(said) != count:
        raise ValueError(f"{count} numbers in {field} for {len(said)} names")
    missing = [name for name in names if name not in said]
    if missing:
        raise KeyError(f"it does not name {', '.join(missing)}, but {', '.join(said)}")
    return [said.index(name) for name in names]


def _stamps(group: Columns) -> Ints | None:
    """Return the header's stamps (n,) in ns; None for a type without a header."""
    if "header.stamp.sec" not in group.layout.places:
        return None
    sec = group.numbers("header.stamp.sec").astype(np.int64)
    nanosec = group.numbers("header.stamp.nanosec").astype(np.int64)
    return (sec * 1_000_000_000 + nanosec)[:, 0]


def _stamped(stamps_ns: Ints, log_ns: Ints, topic: str, counts: Counter[str]) -> Ints:
    """Return the stamps, with the time of recording where there is none.

    A simulation's clock begins at 0: beside stamps of such a clock a 0 is what it says.
    """
    unstamped = stamps_ns == 0
    if not unstamped.any():
        return stamps_ns
    apart = np.median(np.abs(log_ns - stamps_ns)[~unstamped]) if not unstamped.all() else 0
    if apart > _ONE_CLOCK_NS:
        return stamps_ns
    counts[f"{topic}: unstamped"] += int(unstamped.sum())
    return np.where(unstamped, log_ns, stamps_ns)


def _stretches(stamps_ns: Ints, topic: str, counts: Counter[str]) -> list[Ints]:
    """Split rows where the clock was restarted; leave out single ones stamped far from the rest."""
    rows = np.arange(len(stamps_ns))
    highest = np.maximum.accumulate(stamps_ns)
    back = stamps_ns < highest - RESTART_NS
    if not back.any():
        return [rows]
    stretches: list[list[int]] = [[]]
    if (stamps_ns[1:3] < stamps_ns[0] - RESTART_NS).sum() == 2:
        counts[f"{topic}: ahead"] += 1
        rows = rows[1:]
    newest = stamps_ns[rows[0]]
    for row in rows:
        is_back = stamps_ns[row] < newest - RESTART_NS
        stays = row + 1 < len(stamps_ns) and stamps_ns[row + 1] < newest - RESTART_NS
        if is_back and not stays:
            counts[f"{topic}: late"] += 1
            continue
        if _is_astray(stamps_ns[row : row + 2], newest):
            counts[f"{topic}: ahead"] += 1
            continue
        if is_back:
            counts[f"{topic}: restarts"] += 1
            stretches.append([])
            newest = stamps_ns[row]
        newest = max(newest, stamps_ns[row])
        stretches[-1].append(int(row))
    return [np.array(stretch, np.int64) for stretch in stretches]


def _is_astray(pair: Ints, newest: int) -> bool:
    """Whether the first of a pair is far ahead of the newest so far, where the second is not."""
    return (
        len(pair) == 2
        and pair[0] > newest + RESTART_NS
        and newest - RESTART_NS <= pair[1] < pair[0] - RESTART_NS
    )


def _in_order(stamps_ns: Ints, rows: Ints, topic: str, counts: Counter[str]) -> Ints:
    """Return rows by their stamps; of those with the same one, the last."""
    stamps = stamps_ns[rows]
    if (np.diff(stamps) > 0).all():
        return rows
    counts[f"{topic}: reordered"] += int((stamps < np.maximum.accumulate(stamps)).sum())
    order = rows[np.argsort(stamps, kind="stable")]
    last = np.append(np.diff(stamps_ns[order]) != 0, True)
    counts[f"{topic}: duplicates"] += int((~last).sum())
    return order[last]
