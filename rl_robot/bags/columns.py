"""Many serialized messages of one type as arrays, without decoding each.

A publisher's messages differ in their numbers, seldom in their structure: the same names, the same
lengths, so every number lies at the same place in each. Where it lies is found out once, from one
message and the type's definition; the others are laid one below the other, compared in the bytes
that make up the structure, and then a number of all messages is a column.

The format is CDR (OMG's, as every ROS 2 middleware writes it).
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Nodetype

from rl_robot.bags.messages import typestore

_HEADER = 4  # bytes before the data, from whose end alignment counts
_MOST_PADDING = 3  # bytes after the data, which some middlewares fill up to words
_MOST_LAYOUTS = 64  # of messages of one length; beyond that each is read by itself
_MOST_NESTED = 4096  # elements of a sequence of messages, such as the points of a trajectory
_DTYPES = {
    "bool": "u1",
    "byte": "u1",
    "char": "u1",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float32": "f4",
    "float64": "f8",
}


class Place(NamedTuple):
    """Where numbers lie in a message: the first byte, their dtype, and how many there are."""

    at: int
    dtype: np.dtype[Any]
    size: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.at + self.size * self.dtype.itemsize


@dataclass
class Layout:
    """Where everything lies in messages of one structure.

    Attributes:
        places: of numbers, by the path of their field, such as "pose.position.x" or
            "points.0.positions".
        texts: strings, and sequences of strings, by their path.
        counts: elements of the sequences of messages, by their path.
    """

    places: dict[str, Place] = field(default_factory=dict)
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _structure: list[tuple[int, int]] = field(default_factory=list)

    def alike(self, table: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Return which messages (n,) of a table (n, length) have the first one's structure."""
        same = np.ones(len(table), np.bool_)
        for start, end in _joined([(0, 2), *self._structure]):  # (0, 2): how the rest is written
            same &= (table[:, start:end] == table[0, start:end]).all(axis=1)
        return same


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order, with those made one that follow each other without a gap."""
    joined = [ranges[0]]
    for start, end in ranges[1:]:
        if start == joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


@dataclass(frozen=True)
class Columns:
    """Messages that share a layout.

    Attributes:
        rows: (n,) which of the messages given they are.
        layout: theirs.
        data: (n, length) uint8.
    """

    rows: npt.NDArray[np.int64]
    layout: Layout
    data: npt.NDArray[np.uint8]

    def numbers(self, path: str) -> npt.NDArray[Any]:
        """Return the numbers of a field (n, count).

        Raises:
            KeyError: there is no such field.
        """
        place = self.layout.places[path]
        wanted = np.ascontiguousarray(self.data[:, place.at : place.end])
        return wanted.view(place.dtype).reshape(len(self.data), place.size)

    def below(self, path: str) -> list[str]:
        """Return the paths of the numbers of a field and all fields in it, in their order."""
        return [name for name in self.layout.places if name == path or name.startswith(f"{path}.")]


def columns(message_type: str, raws: Sequence[bytes]) -> tuple[list[Columns], list[int]]:
    """Lay messages of a stock type out by their structure.

    Returns:
        The messages in groups that share a layout, and which of them are not of that type.

    Raises:
        KeyError: the type is not a stock one.
    """
    groups: list[Columns] = []
    misfits: list[int] = []
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, raw in enumerate(raws):
        by_length[len(raw)].append(row)
    for length, rows in by_length.items():
        data = np.frombuffer(b"".join([raws[row] for row in rows]), np.uint8)
        table = data.reshape(len(rows), length)
        for group in _groups(message_type, np.array(rows), table):
            if isinstance(group, Columns):
                groups.append(group)
            else:
                misfits.append(group)
    return groups, misfits


def _groups(
    message_type: str, rows: npt.NDArray[np.int64], table: npt.NDArray[np.uint8]
) -> Iterator[Columns | int]:
    """Split messages of one length by their layouts; misfits come one by one."""
    layouts = 0
    while len(rows):
        try:
            layout = find_layout(message_type, table[0].tobytes())
        except ValueError:
            yield int(rows[0])
            rows, table = rows[1:], table[1:]
            continue
        layouts += 1
        if layouts >= _MOST_LAYOUTS:
            # To take one out of the middle copies the rest, which one from the front does not.
            yield Columns(rows[:1], layout, table[:1])
            rows, table = rows[1:], table[1:]
            continue
        alike = layout.alike(table)
        yield Columns(rows[alike], layout, table[alike] if not alike.all() else table)
        rows, table = rows[~alike], table[~alike]


def find_layout(message_type: str, raw: bytes) -> Layout:
    """Return where everything lies in a serialized message of a stock type.

    Raises:
        KeyError: the type is not a stock one.
        ValueError: the message is not of that type.
    """
    walk = _Walk(raw)
    try:
        walk.message(typestore().fielddefs[message_type][1], "")
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not a {message_type}: {error}") from None
    if len(raw) - walk.at > _MOST_PADDING:
        raise ValueError(f"a {message_type} ends after {walk.at} of {len(raw)} bytes")
    return walk.layout


class _Walk:
    """Goes through one message, field by field."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) < _HEADER or raw[0] or raw[1] not in (0, 1):
            raise ValueError("not CDR")
        self._raw = raw
        self._order = "<" if raw[1] else ">"
        self._count = struct.Struct(f"{self._order}I")
        self.at = _HEADER
        self.layout = Layout()

    def message(self, fields: Any, prefix: str) -> None:
        for name, (kind, detail) in fields:
            self._field(kind, detail, prefix + name)

    def _field(self, kind: Nodetype, detail: Any, path: str) -> None:
        if kind == Nodetype.NAME:
            self.message(typestore().fielddefs[detail][1], f"{path}.")
        elif kind == Nodetype.BASE:
            if detail[0] == "string":
                self.layout.texts[path] = (self._text(),)
            else:
                self._numbers(detail[0], path, 1)
        else:
            element, length = detail
            count = length if kind == Nodetype.ARRAY else self._counted()
            self._several(element, path, count)

    def _several(self, element: Any, path: str, count: int) -> None:
        kind, detail = element
        if kind == Nodetype.NAME:
            if count > _MOST_NESTED:
                raise ValueError(f"{count} elements in {path}")
            self.layout.counts[path] = count
            for index in range(count):
                self.message(typestore().fielddefs[detail][1], f"{path}.{index}.")
        elif detail[0] == "string":
            self.layout.texts[path] = tuple(self._text() for _ in range(count))
        else:
            self._numbers(detail[0], path, count)

    def _numbers(self, name: str, path: str, count: int) -> None:
        if name not in _DTYPES:
            raise ValueError(f"{path} is a {name}")
        dtype = np.dtype(self._order + _DTYPES[name])
        if count:
            self._align(dtype.itemsize)
        place = Place(self.at, dtype, count)
        self._advance(place.end - self.at)
        self.layout.places[path] = place

    def _counted(self) -> int:
        self._align(4)
        start = self.at
        (count,) = self._count.unpack_from(self._raw, start)
        self._advance(4)
        if count > len(self._raw):
            raise ValueError(f"{count} elements in a message of {len(self._raw)} bytes")
        self.layout._structure.append((start, self.at))
        return int(count)

    def _text(self) -> str:
        size = self._counted()
        start = self.at
        self._advance(size)
        self.layout._structure.append((start, self.at))
        if size and self._raw[self.at - 1]:
            raise ValueError("a text has no end")
        return self._raw[start : max(self.at - 1, start)].decode()

    def _align(self, size: int) -> None:
        self._advance(-(self.at - _HEADER) % size)

    def _advance(self, size: int) -> None:
        self.at += size
        if self.at > len(self._raw):
            raise ValueError(f"a message of {len(self._raw)} bytes is cut short")
