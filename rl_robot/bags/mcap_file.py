"""One MCAP file, whole: verified when it is opened, read by its index, or from end to end."""

import mmap
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from mcap.opcode import Opcode

from rl_robot.bags.mcap_records import (
    DATA_END,
    FOOTER,
    MAGIC,
    MESSAGE,
    MESSAGE_RECORD,
    RECORD,
    Channel,
    Chunk,
    ChunkPlace,
    DamageError,
    RawMessage,
    RawSeries,
    Record,
    Schema,
    Statistics,
    read_channel,
    read_chunk,
    read_chunk_place,
    read_metadata,
    read_schema,
    read_statistics,
    unpack,
    walk,
)
from rl_robot.bags.metadata import CUSTOM
from rl_robot.bags.seals import unsealed

_LOG_TIME = attrgetter("log_ns")


@dataclass(frozen=True)
class Summary:
    """The index at the end of a file."""

    schemas: dict[int, Schema]
    channels: dict[int, Channel]
    chunks: list[ChunkPlace]
    statistics: Statistics


class McapFile:
    """An undamaged MCAP file.

    What the file's checksums cover is verified when it is opened: all of it, in a file of ours.
    Where a writer left out the checksum of the whole, those of the chunks are verified as they are
    read. Without an index the file is read from end to end to make one.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            DamageError: it is damaged, or not an MCAP file.
            OSError: it can't be read.
        """
        self._view = map_file(path)
        footer = verify_ends(self._view)
        self._verified = data_checksum(self._view, footer)
        if self._verified is False:
            raise DamageError("the checksum of its messages does not match")
        summary = read_summary(self._view, footer) or self._indexed()
        self._schemas, self._chunks = summary.schemas, summary.chunks
        self.channels = summary.channels
        self.statistics = summary.statistics
        self.metadata, self._loose = self._outside_chunks()
        if self._loose and not self._verified and self._have_checksums():
            raise DamageError("messages lie outside its chunks, which have checksums")

    def type_of(self, channel: Channel) -> str:
        """Return the ROS type of a channel's messages; empty when the file does not say."""
        schema = self._schemas.get(channel.schema_id)
        return schema.name if schema else ""

    def messages(self, channels: Collection[int]) -> Iterator[RawMessage]:
        """The messages of these channels, in the order of their log times.

        Raises:
            DamageError: a chunk is damaged.
        """
        waiting: list[RawMessage] = []
        for first_ns, data in self._blocks(channels):
            due = bisect_left(waiting, first_ns, key=_LOG_TIME)
            yield from waiting[:due]
            waiting = sorted([*waiting[due:], *scan(data, channels)], key=_LOG_TIME)
        yield from waiting

    def series(self, channels: Collection[int]) -> dict[int, RawSeries]:
        """The messages of each of these channels; raises as `messages`.

        Takes half as long as `messages`, which makes an object of each.
        """
        found = {channel: RawSeries([], [], []) for channel in channels}
        for _, data in self._blocks(channels):
            _collect(data, found)
        return {channel: series.in_order() for channel, series in found.items()}

    def _blocks(self, channels: Collection[int]) -> Iterator[tuple[int, memoryview | bytes]]:
        """What may hold messages of these channels: each block, and its first log time."""
        if self._loose:
            yield 0, self._view[len(MAGIC) :]
        wanted = frozenset(channels)
        places = [place for place in self._chunks if not place.channels.isdisjoint(wanted)]
        for place in sorted(places, key=attrgetter("first_ns")):
            yield place.first_ns, self._contents(place.at)

    def _contents(self, at: int) -> bytes:
        chunk = self._chunk(at)
        try:
            return unpack(chunk, check=not self._verified)
        except DamageError as error:
            raise DamageError(f"the chunk at {at}: {error}") from None

    def _chunk(self, at: int) -> Chunk:
        record = next(walk(self._view, at, len(self._view)), None)
        if record is None or record.opcode != Opcode.CHUNK:
            raise DamageError(f"there is no chunk at {at}, where the index says one is")
        return read_chunk(self._view, record)

    def _have_checksums(self) -> bool:
        return any(self._chunk(place.at).crc for place in self._chunks)

    def _indexed(self) -> Summary:
        """Make an index by reading all there is, for a file that has none."""
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        chunks = []
        counts: Counter[int] = Counter()
        times = []
        for record in self._data_records():
            if record.opcode == Opcode.CHUNK:
                chunk = read_chunk(self._view, record)
                contents = unpack(chunk)
                _note_definitions(contents, walk(contents, 0, len(contents)), schemas, channels)
                spoken = Counter(message.channel for message in scan(contents))
                counts += spoken
                times += [chunk.first_ns, chunk.last_ns]
                chunks.append(
                    ChunkPlace(
                        chunk.at, chunk.first_ns, chunk.last_ns, chunk.size, frozenset(spoken)
                    )
                )
            elif record.opcode == Opcode.MESSAGE:
                for message in scan(self._view[record.at : record.end]):
                    counts[message.channel] += 1
                    times.append(message.log_ns)
            else:
                _note_definitions(self._view, [record], schemas, channels)
        statistics = Statistics(counts, min(times, default=0), max(times, default=0))
        return Summary(schemas, channels, chunks, statistics)

    def _outside_chunks(self) -> tuple[dict[str, str], bool]:
        """What the episode says of itself (the last of our records), and if there are messages."""
        found: dict[str, str] = {}
        loose = False
        for record in self._data_records():
            loose |= record.opcode == Opcode.MESSAGE
            if record.opcode == Opcode.METADATA:
                name, table = read_metadata(self._view, record)
                if name == CUSTOM:
                    found = unsealed(table)
        return found, loose

    def _data_records(self) -> Iterator[Record]:
        for record in walk(self._view, len(MAGIC), len(self._view) - len(MAGIC)):
            if record.opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return
            yield record


def map_file(path: Path) -> memoryview:
    """Return a file's contents, mapped."""
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def verify_ends(view: memoryview) -> tuple[int, int, int, int]:
    """Return the footer's fields: its place, the starts of the summary and its offsets, its CRC.

    Raises:
        DamageError: this does not begin or end as an MCAP file.
    """
    if len(view) < 2 * len(MAGIC) + FOOTER.size:
        raise DamageError(f"{len(view)} bytes are too few for a bag")
    if view[: len(MAGIC)] != MAGIC:
        raise DamageError("it does not begin as an MCAP file")
    if view[-len(MAGIC) :] != MAGIC:
        raise DamageError("its end is missing: the recording was cut short")
    at = len(view) - len(MAGIC) - FOOTER.size
    opcode, length, summary_start, offsets_start, crc = FOOTER.unpack_from(view, at)
    if (opcode, length) != (Opcode.FOOTER, FOOTER.size - RECORD.size):
        raise DamageError("its footer is wrong")
    if summary_start and not len(MAGIC) < summary_start <= at:
        raise DamageError("its footer is wrong")
    return at, summary_start, offsets_start, crc


def read_summary(view: memoryview, footer: tuple[int, int, int, int]) -> Summary | None:
    """Return the index, or None where a writer left it or parts of it out.

    Raises:
        DamageError: its checksum does not match, or what it says makes no sense.
    """
    at, start, _, crc = footer
    if crc and zlib.crc32(view[start or at : len(view) - len(MAGIC) - 4]) != crc:
        raise DamageError("the checksum of its index does not match")
    if not start:
        return None
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    chunks = []
    statistics = None
    for record in walk(view, start, at):
        if record.opcode == Opcode.CHUNK_INDEX:
            chunks.append(read_chunk_place(view, record))
        elif record.opcode == Opcode.STATISTICS:
            statistics = read_statistics(view, record)
        else:
            _note_definitions(view, [record], schemas, channels)
    # Each part may be left out.
    named = all(c.schema_id in schemas for c in channels.values() if c.schema_id)
    whole = channels and named and statistics and (chunks or not statistics.counts)
    return Summary(schemas, channels, chunks, statistics) if whole and statistics else None


def scan(data: memoryview | bytes, channels: Collection[int] | None = None) -> Iterator[RawMessage]:
    """The messages of these channels, all when None, among the records of a block.

    Raises:
        DamageError: a record reaches beyond the block.
    """
    for record in walk(data, 0, len(data)):
        if record.opcode == Opcode.MESSAGE and record.end - record.body >= MESSAGE.size:
            channel, sequence, log_ns, publish_ns = MESSAGE.unpack_from(data, record.body)
            if channels is None or channel in channels:
                raw = bytes(data[record.body + MESSAGE.size : record.end])
                yield RawMessage(channel, sequence, log_ns, publish_ns, raw)
        elif record.opcode in (Opcode.DATA_END, Opcode.FOOTER):
            return


def _collect(data: memoryview | bytes, found: dict[int, RawSeries]) -> None:
    """Append a block's messages to the series of their channels, as far as there are such.

    As `scan`, but most of what reading a bag takes is spent here: nothing is made per record.
    """
    # Plain numbers for opcodes, and the lists' methods by themselves: both count in this loop.
    message, ends = int(Opcode.MESSAGE), (int(Opcode.DATA_END), int(Opcode.FOOTER))
    add = {
        channel: (series.log_ns.append, series.publish_ns.append, series.raws.append)
        for channel, series in found.items()
    }
    unpacked, head, least = MESSAGE_RECORD.unpack_from, MESSAGE_RECORD.size, MESSAGE.size
    at, size = 0, len(data)
    while size - at >= head:
        opcode, length, channel, _, log_ns, publish_ns = unpacked(data, at)
        end = at + RECORD.size + length
        if end > size:
            break
        if opcode == message and length >= least:
            if channel in add:
                add_log, add_publish, add_raw = add[channel]
                add_log(log_ns)
                add_publish(publish_ns)
                add_raw(bytes(data[at + head : end]))
        elif opcode in ends:
            return
        at = end
    for _ in walk(data, at, size):  # what is too short for a message must still be whole
        pass


def data_checksum(view: memoryview, footer: tuple[int, int, int, int]) -> bool | None:
    """Whether the checksum of all that comes before the index holds; None where there is none.

    Raises:
        DamageError: that part does not end where it should.
    """
    at, summary_start, _, _ = footer
    data_end = (summary_start or at) - DATA_END.size
    opcode, length, crc = DATA_END.unpack_from(view, max(data_end, 0))
    if (opcode, length) != (Opcode.DATA_END, DATA_END.size - RECORD.size):
        raise DamageError("its data section does not end where the footer says")
    return zlib.crc32(view[:data_end]) == crc if crc else None


def _note_definitions(
    view: memoryview | bytes,
    records: Iterable[Record],
    schemas: dict[int, Schema],
    channels: dict[int, Channel],
) -> None:
    for record in records:
        if record.opcode == Opcode.SCHEMA:
            schema = read_schema(view, record)
            schemas[schema.id] = schema
        elif record.opcode == Opcode.CHANNEL:
            channel = read_channel(view, record)
            channels[channel.id] = channel
