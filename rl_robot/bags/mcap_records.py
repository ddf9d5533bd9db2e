"""MCAP records as they lie in memory; nothing is read beyond the record that holds it.

The ``mcap`` package makes an object of every record and copies its fields through a stream, which
takes five times as long where few of many topics are asked for, and it ends at the first damage.
Here a record is a range of the mapped file until somebody wants what is in it.

Format: https://mcap.dev/spec
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import le
from typing import NamedTuple

import lz4.frame
import zstandard
from mcap.opcode import Opcode

MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")  # opcode, length
MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
MESSAGE_RECORD = struct.Struct("<BQHIQQ")  # both at once
FOOTER = struct.Struct("<BQQQI")  # opcode, length, summary start, summary offset start, CRC
DATA_END = struct.Struct("<BQI")  # opcode, length, CRC

_PIECE = 1 << 20  # bytes unpacked at a time
MOST_CHUNK_BYTES = 1 << 28  # a chunk that says it unpacks to more is damaged, or hostile
_OF_NO_CONCERN = (
    Opcode.FOOTER,
    Opcode.CHUNK_INDEX,
    Opcode.ATTACHMENT,
    Opcode.ATTACHMENT_INDEX,
    Opcode.STATISTICS,
    Opcode.METADATA_INDEX,
    Opcode.SUMMARY_OFFSET,
    Opcode.DATA_END,
)
_CHUNK = struct.Struct("<QQQII")  # first and last log time, unpacked size, CRC, bytes of the name
_INDEX = struct.Struct("<QQQQI")  # first and last log time, offset, length, bytes of the offsets
_STATISTICS = struct.Struct("<QHIIIIQQI")  # counts of all kinds, the times, bytes of the counts
_CHANNEL_COUNT = struct.Struct("<HQ")
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")
_ID = struct.Struct("<H")
_PAIR = struct.Struct("<HH")


class DamageError(Exception):
    """What is wrong with a file, in words."""


class Record(NamedTuple):
    """One record: its opcode, and where it, its contents and its end are."""

    opcode: int
    at: int
    body: int
    end: int


@dataclass(frozen=True)
class Schema:
    """A message type: ROS name, how its definition is written, and the definition."""

    id: int
    name: str
    encoding: str
    data: bytes


@dataclass(frozen=True)
class Channel:
    """A topic of one message type."""

    id: int
    schema_id: int
    topic: str
    encoding: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class Chunk:
    """A chunk as it is stored. ``crc`` is 0 where the writer gave none."""

    at: int
    end: int
    first_ns: int
    last_ns: int
    size: int
    crc: int
    compression: str
    data: memoryview


@dataclass(frozen=True)
class ChunkPlace:
    """What the index says of a chunk; ``channels`` are those that speak in it."""

    at: int
    first_ns: int
    last_ns: int
    size: int
    channels: frozenset[int]


class Statistics(NamedTuple):
    """How many messages a file holds by channel, and the first and last log time."""

    counts: dict[int, int]
    first_ns: int
    last_ns: int


class RawMessage(NamedTuple):
    """One message as it is stored."""

    channel: int
    sequence: int
    log_ns: int
    publish_ns: int
    raw: bytes


class RawSeries(NamedTuple):
    """The messages of one channel: a list for each of their parts."""

    log_ns: list[int]
    publish_ns: list[int]
    raws: list[bytes]

    def in_order(self) -> "RawSeries":
        """Return them in the order of their log times."""
        times = self.log_ns
        if all(map(le, times, islice(times, 1, None))):
            return self
        order = sorted(range(len(times)), key=times.__getitem__)
        return RawSeries(
            [times[row] for row in order],
            [self.publish_ns[row] for row in order],
            [self.raws[row] for row in order],
        )

    def with_those_of(self, other: "RawSeries") -> "RawSeries":
        """Return both together, in the order of their log times."""
        if not self.raws or not other.raws:
            return other if other.raws else self
        return RawSeries(
            self.log_ns + other.log_ns,
            self.publish_ns + other.publish_ns,
            self.raws + other.raws,
        ).in_order()


def walk(view: memoryview | bytes, start: int, end: int) -> Iterator[Record]:
    """Go from record to record.

    Raises:
        DamageError: a record reaches beyond ``end``.
    """
    at = start
    while at < end:
        if end - at < RECORD.size:
            raise DamageError(f"{end - at} bytes at {at} are too few for a record")
        opcode, length = RECORD.unpack_from(view, at)
        body = at + RECORD.size
        if length > end - body:
            raise DamageError(f"the record at {at} reaches beyond what holds it")
        yield Record(opcode, at, body, body + length)
        at = body + length


def read_schema(view: memoryview | bytes, record: Record) -> Schema:
    """Return a schema record's contents.

    Raises:
        DamageError: its parts don't fit into it.
    """
    fields = _Fields(view, record)
    number = fields.number()
    return Schema(number, fields.text(), fields.text(), fields.block())


def read_channel(view: memoryview | bytes, record: Record) -> Channel:
    """Return a channel record's contents; raises as `read_schema`."""
    fields = _Fields(view, record)
    number, schema = fields.several(_PAIR)
    return Channel(number, schema, fields.text(), fields.text(), fields.table())


def read_metadata(view: memoryview | bytes, record: Record) -> tuple[str, dict[str, str]]:
    """Return a metadata record's name and table; raises as `read_schema`."""
    fields = _Fields(view, record)
    return fields.text(), fields.table()


def read_chunk(view: memoryview, record: Record) -> Chunk:
    """Return a chunk record's contents, still packed.

    Raises:
        DamageError: its parts don't fit into it, or it would unpack to too much.
    """
    fields = _Fields(view, record)
    first, last, size, crc, named = fields.several(_CHUNK)
    name = fields.part(named).tobytes()
    packed = fields.take(_SIZE)
    if packed != record.end - fields.at or size > MOST_CHUNK_BYTES:
        raise DamageError(f"the chunk at {record.at} does not fit its own sizes")
    compression = name.decode("ascii", "replace")
    return Chunk(record.at, record.end, first, last, size, crc, compression, fields.part(packed))


def read_chunk_place(view: memoryview | bytes, record: Record) -> ChunkPlace:
    """Return a chunk index record's contents; raises as `read_schema`."""
    fields = _Fields(view, record)
    first, last, at, _, named = fields.several(_INDEX)
    channels = fields.part(named)
    if named % 10:
        raise DamageError(f"the chunk index at {record.at} does not fit its own sizes")
    fields.take(_SIZE)  # of the message indexes
    fields.text()
    fields.take(_SIZE)  # of the chunk, packed
    size = fields.take(_SIZE)
    spoken = frozenset(struct.unpack_from("<H", channels, i)[0] for i in range(0, named, 10))
    return ChunkPlace(at, first, last, size, spoken)


def read_statistics(view: memoryview | bytes, record: Record) -> Statistics:
    """Return a statistics record's contents; raises as `read_schema`."""
    fields = _Fields(view, record)
    _, _, _, _, _, _, first, last, size = fields.several(_STATISTICS)
    counts = fields.part(size)
    if size % _CHANNEL_COUNT.size:
        raise DamageError(f"the statistics at {record.at} do not fit their own sizes")
    return Statistics(dict(_CHANNEL_COUNT.iter_unpack(counts)), first, last)


def read_unfinished_chunk(view: memoryview, at: int) -> Chunk | None:
    """Return the chunk whose beginning a file ends with; None when there is none at ``at``."""
    if len(view) - at < RECORD.size:
        return None
    opcode, length = RECORD.unpack_from(view, at)
    fields = _Fields(view, Record(opcode, at, at + RECORD.size, len(view)))
    try:
        first, last, size, crc, named = fields.several(_CHUNK)
        name = fields.part(named).tobytes()
        packed = fields.take(_SIZE)
    except DamageError:
        return None
    head = fields.at - at - RECORD.size
    if opcode != Opcode.CHUNK or length != head + packed or size > MOST_CHUNK_BYTES:
        return None
    data = view[fields.at :]
    return Chunk(at, len(view), first, last, size, crc, name.decode("ascii", "replace"), data)


def is_sound(view: memoryview | bytes, record: Record) -> bool:
    """Whether the parts of a record fit into it exactly, as far as its kind is known to tell."""
    fields = _Fields(view, record)
    try:
        if record.opcode == Opcode.CHUNK:
            read_chunk(memoryview(view), record)
            return True
        if record.opcode == Opcode.MESSAGE:
            return record.end - record.body >= MESSAGE.size
        if record.opcode not in _PARTS:
            return record.opcode in _OF_NO_CONCERN
        for take in _PARTS[record.opcode]:
            take(fields)
    except DamageError:
        return False
    return fields.at == record.end


def unpack(chunk: Chunk, *, check: bool = True) -> bytes:
    """Return what a chunk holds.

    Args:
        chunk: the chunk.
        check: verify its checksum, where the writer gave one.

    Raises:
        DamageError: it can't be unpacked, or its size or checksum is another.
    """
    try:
        if chunk.compression == "zstd":
            told = zstandard.frame_content_size(chunk.data)
            if told > chunk.size:  # it would be allocated, whatever the most is said to be
                raise DamageError(f"it unpacks to {told} bytes instead of {chunk.size}")
            data = zstandard.ZstdDecompressor().decompress(
                chunk.data, max_output_size=chunk.size, allow_extra_data=False
            )
        elif chunk.compression == "lz4":
            data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=chunk.size)
        elif chunk.compression == "":
            data = chunk.data.tobytes()
        else:
            raise DamageError(f"compression {chunk.compression!r} is not known")
    except (zstandard.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        raise DamageError(f"it can't be unpacked: {error}") from None
    if len(data) != chunk.size:
        raise DamageError(f"it unpacks to {len(data)} bytes instead of {chunk.size}")
    if check and chunk.crc and zlib.crc32(data) != chunk.crc:
        raise DamageError("its checksum does not match")
    return bytes(data)


def unpack_beginning(chunk: Chunk) -> bytes:
    """Return as much of what a chunk holds as can be unpacked of its first bytes."""
    data = b""
    try:
        if chunk.compression == "zstd":
            data = _beginning_of_zstd(chunk)
        elif chunk.compression == "lz4":
            data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=chunk.size)
        elif chunk.compression == "":
            data = chunk.data.tobytes()
    except (zstandard.ZstdError, RuntimeError, EOFError, MemoryError):
        pass  # nothing of it, then
    return bytes(data[: chunk.size])


def _beginning_of_zstd(chunk: Chunk) -> bytes:
    """Unpack no further than the chunk says it goes: a few bytes can stand for very many."""
    reader = zstandard.ZstdDecompressor().stream_reader(chunk.data)
    parts = []
    size = 0
    while size < chunk.size and (part := reader.read(min(_PIECE, chunk.size - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


class _Fields:
    """Takes one field of a record after the other."""

    def __init__(self, view: memoryview | bytes, record: Record) -> None:
        self._view = memoryview(view)
        self._record = record
        self.at = record.body

    def several(self, kind: struct.Struct) -> tuple[int, ...]:
        return kind.unpack(self.part(kind.size))

    def take(self, kind: struct.Struct) -> int:
        return self.several(kind)[0]

    def number(self) -> int:
        return self.take(_ID)

    def part(self, size: int) -> memoryview:
        start, self.at = self.at, self.at + size
        if self.at > self._record.end:
            raise DamageError(f"the record at {self._record.at} ends within a field")
        return self._view[start : self.at]

    def block(self) -> bytes:
        return self.part(self.take(_COUNT)).tobytes()

    def text(self) -> str:
        try:
            return self.block().decode()
        except UnicodeDecodeError:
            raise DamageError(f"the record at {self._record.at} holds no text") from None

    def table(self) -> dict[str, str]:
        end = self.take(_COUNT) + self.at
        if end > self._record.end:
            raise DamageError(f"the record at {self._record.at} ends within a table")
        table = {}
        while self.at < end:
            key = self.text()
            table[key] = self.text()
        return table


_PARTS: dict[int, tuple[Callable[[_Fields], object], ...]] = {
    Opcode.HEADER: (_Fields.text, _Fields.text),
    Opcode.SCHEMA: (_Fields.number, _Fields.text, _Fields.text, _Fields.block),
    Opcode.CHANNEL: (_Fields.number, _Fields.number, _Fields.text, _Fields.text, _Fields.table),
    Opcode.METADATA: (_Fields.text, _Fields.table),
    Opcode.MESSAGE_INDEX: (_Fields.number, _Fields.block),
}
