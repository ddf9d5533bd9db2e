"""What is whole of an MCAP file that may be cut short or damaged anywhere.

Every chunk whose checksum holds is kept, wherever it lies; one whose checksum fails is dropped
whole. Of a last chunk that was not finished, which has no checksum yet, the complete records are
kept that fit what is known of them: their channel, their place in its sequence, the times of their
chunk, and the message type. What channels are, and what the episode was, is believed where a
checksum vouches for it: that of the index, of a chunk, or of the record itself (`seals`).

Files of other writers have fewer checksums. What there is no checksum for is kept, and counted as
unverified.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.opcode import Opcode

from rl_robot.bags.mcap_file import (
    Summary,
    data_checksum,
    map_file,
    read_summary,
    scan,
    verify_ends,
)
from rl_robot.bags.mcap_records import (
    MAGIC,
    RECORD,
    Channel,
    Chunk,
    DamageError,
    RawMessage,
    Record,
    Schema,
    is_sound,
    read_channel,
    read_chunk,
    read_metadata,
    read_schema,
    read_unfinished_chunk,
    unpack,
    unpack_beginning,
    walk,
)
from rl_robot.bags.messages import fits_type, is_stock_definition
from rl_robot.bags.metadata import CUSTOM
from rl_robot.bags.seals import SEAL, seal_holds, unsealed

_CHUNK_START = bytes([Opcode.CHUNK])
_DEFINITIONS = (Opcode.SCHEMA, Opcode.CHANNEL)


@dataclass(frozen=True)
class Loss:
    """A part of the file that is not what it should be: its bytes, and why."""

    at: int
    end: int
    what: str

    def __str__(self) -> str:
        return f"bytes {self.at} to {self.end}: {self.what}"


@dataclass(frozen=True)
class _Kept:
    """A part of the file that holds messages: a chunk, messages outside chunks, or single ones."""

    at: int
    chunk: Chunk | None = None
    loose: memoryview | None = None
    single: tuple[RawMessage, ...] = ()

    def messages(self) -> Iterator[RawMessage]:
        if self.chunk is not None:
            yield from scan(unpack(self.chunk, check=False))
        elif self.loose is not None:
            yield from scan(self.loose)
        yield from self.single


@dataclass
class Salvage:
    """What was found.

    Attributes:
        schemas, channels: by their numbers.
        losses: in the order of the file; empty for a file that is whole.
        metadata: what the episode says of itself, empty where that is lost.
        chunks: how many are whole.
        unfinished: messages kept of the chunk that was not finished.
        unverified: parts kept for which the file has no checksum.
        ours: the file has seals: what lacks one is damaged, and messages are numbered from 0.
    """

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    chunks: int = 0
    unfinished: int = 0
    unverified: int = 0
    ours: bool = False
    _kept: list[_Kept] = field(default_factory=list)

    def missing(self) -> dict[int, int]:
        """By channel, messages that must have been there before the last one kept."""
        numbers: dict[int, set[int]] = defaultdict(set)
        if self.ours:
            for message in self.messages():
                numbers[message.channel].add(message.sequence)
        counts = {number: max(seen) + 1 - len(seen) for number, seen in numbers.items()}
        return {number: count for number, count in counts.items() if count > 0}

    def messages(self) -> Iterator[RawMessage]:
        """The messages that were kept and whose channel is known, in the order of the file."""
        for part in self._kept:
            for message in part.messages():
                if message.channel in self.channels:
                    yield message


def salvage(path: Path) -> Salvage:
    """Find all that is whole in a file.

    Raises:
        OSError: it can't be read.
    """
    return salvage_contents(map_file(path))


def salvage_contents(contents: memoryview) -> Salvage:
    """Find all that is whole in a file's contents."""
    return _Walker(contents).run()


class _Walker:
    """Goes through a file once, from record to record, over what is none to the next chunk."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._bytes: Any = view.obj  # what was mapped, which can be searched
        self._found = Salvage()
        self._checksums = False  # the file's chunks have checksums: one without is damaged
        self._schemas: list[tuple[Schema, bool]] = []  # and whether a checksum vouches for it
        self._channels: list[tuple[Channel, bool]] = []
        self._tables: list[dict[str, str]] = []
        self._last: Chunk | None = None  # the one that was not finished
        self._whole = True  # as far as the checksum of all the messages says

    def run(self) -> Salvage:
        summary = self._trusted_summary()
        self._walk()
        self._settle_definitions(summary)
        self._settle_metadata()
        self._settle_chunks()
        if self._last is not None:
            self._keep_beginning(self._last)
        if not self._whole and not self._found.losses:
            self._lose(0, len(self._view), "damage between the chunks: no message is lost")
        self._found.losses.sort(key=lambda loss: loss.at)
        return self._found

    def _trusted_summary(self) -> Summary | None:
        """The index, if a checksum vouches for it; what is wrong with the file's end is noted."""
        size = len(self._view)
        try:
            footer = verify_ends(self._view)
            summary = read_summary(self._view, footer)
            self._whole = data_checksum(self._view, footer) is not False
        except DamageError as error:
            self._lose(size, size, str(error))
            return None
        return summary if footer[3] else None

    def _lose(self, at: int, end: int, what: str) -> None:
        self._found.losses.append(Loss(at, end, what))

    def _walk(self) -> None:
        at, size = len(MAGIC), len(self._view)
        if self._view[:at] != MAGIC:
            self._lose(0, min(at, size), "it does not begin as an MCAP file")
        while at < size and self._view[at:] != MAGIC:
            record = self._record_at(at)
            if record is None:
                at = self._lost_until(at)
            elif record.opcode == Opcode.CHUNK:
                at = self._take_chunk(record)
            else:
                self._take(record)
                at = record.end

    def _record_at(self, at: int) -> Record | None:
        """The record at a place, if its parts fit into it exactly."""
        try:
            record = next(walk(self._view, at, len(self._view)))
        except DamageError:
            return None
        return record if is_sound(self._view, record) else None

    def _lost_until(self, at: int) -> int:
        """Note that there is no record here; return where the next chunk is, or the end."""
        found = self._next_chunk(at + 1, len(self._view))
        if found is not None:
            self._lose(at, found, "what lies here are no records")
            return found
        self._last = read_unfinished_chunk(self._view, at)
        if self._last is None:
            self._lose(at, len(self._view), "an unfinished record, or none")
        return len(self._view)

    def _next_chunk(self, at: int, end: int) -> int | None:
        """Where the next chunk begins whose checksum holds."""
        place = self._bytes.find(_CHUNK_START, at, end)
        while place >= 0:
            record = self._record_at(place)
            if record is not None and self._has_checksum_that_holds(record):
                return place
            place = self._bytes.find(_CHUNK_START, place + 1, end)
        return None

    def _has_checksum_that_holds(self, record: Record) -> bool:
        try:
            chunk = read_chunk(self._view, record)
            unpack(chunk)
        except DamageError:
            return False
        return bool(chunk.crc)

    def _take_chunk(self, record: Record) -> int:
        """Take a chunk; return where to go on."""
        chunk = read_chunk(self._view, record)
        try:
            contents = unpack(chunk)
            list(scan(contents))
        except DamageError as error:
            span = f"{chunk.first_ns / 1e9:.3f} to {chunk.last_ns / 1e9:.3f} s"
            self._lose(record.at, record.end, f"a chunk ({span}) is dropped: {error}")
            return self._next_chunk(record.at + 1, record.end) or record.end
        self._found._kept.append(_Kept(chunk.at, chunk=chunk))
        self._checksums |= bool(chunk.crc)
        for inner in walk(contents, 0, len(contents)):
            if inner.opcode in _DEFINITIONS and is_sound(contents, inner):
                self._define(contents, inner, vouched=bool(chunk.crc))
        return record.end

    def _take(self, record: Record) -> None:
        if record.opcode in _DEFINITIONS:
            self._define(self._view, record, vouched=False)
        elif record.opcode == Opcode.METADATA:
            name, table = read_metadata(self._view, record)
            if name == CUSTOM:
                self._tables.append(table)
                self._found.ours |= seal_holds(table)
        elif record.opcode == Opcode.MESSAGE:
            loose = self._view[record.at : record.end]
            self._found._kept.append(_Kept(record.at, loose=loose))

    def _define(self, view: memoryview | bytes, record: Record, *, vouched: bool) -> None:
        if record.opcode == Opcode.SCHEMA:
            self._schemas.append((read_schema(view, record), vouched))
            return
        channel = read_channel(view, record)
        sealed = _seal_of_channel_holds(channel)
        self._found.ours |= sealed
        self._channels.append((channel, vouched or sealed))

    def _settle_definitions(self, summary: Summary | None) -> None:
        """Believe what is vouched for first; the rest only in files that have no seals."""
        found = self._found
        if summary is not None:
            found.schemas |= summary.schemas
            found.channels |= summary.channels
        for schema, vouched in self._schemas:
            if vouched or is_stock_definition(schema.name, schema.encoding, schema.data):
                found.schemas.setdefault(schema.id, schema)
        for channel, vouched in self._channels:
            if vouched:
                found.channels.setdefault(channel.id, channel)
        if not self._found.ours:
            for schema, _ in self._schemas:
                found.unverified += schema.id not in found.schemas
                found.schemas.setdefault(schema.id, schema)
            for channel, _ in self._channels:
                found.unverified += channel.id not in found.channels
                found.channels.setdefault(channel.id, channel)
        for number in [n for n, c in found.channels.items() if c.schema_id not in found.schemas]:
            del found.channels[number]

    def _settle_metadata(self) -> None:
        whole = [table for table in self._tables if seal_holds(table)]
        if not self._found.ours:
            whole = [table for table in self._tables if SEAL not in table]
        if whole:
            self._found.metadata = unsealed(whole[-1])
        elif self._tables:
            self._lose(0, len(self._view), "what the episode says of itself is damaged")

    def _settle_chunks(self) -> None:
        """Drop what has no checksum in a file whose chunks have them: it is damaged."""
        kept = []
        for part in self._found._kept:
            vouched = part.chunk is not None and bool(part.chunk.crc)
            if self._checksums and not vouched:
                self._lose(part.at, part.at, "messages without a checksum are dropped")
                continue
            self._found.chunks += part.chunk is not None
            self._found.unverified += not vouched
            kept.append(part)
        self._found._kept = kept

    def _keep_beginning(self, chunk: Chunk) -> None:
        """Keep the complete records of a chunk that was not finished."""
        following = self._next_sequences()
        kept = []
        for message in _complete(unpack_beginning(chunk)):
            if not self._is_plausible(message, chunk, following):
                break
            following[message.channel] = message.sequence + 1
            kept.append(message)
        self._found.unfinished = len(kept)
        self._found._kept.append(_Kept(chunk.at, single=tuple(kept)))
        what = f"the last chunk was not finished: {len(kept)} messages of it are kept"
        self._lose(chunk.at, chunk.end, what)

    def _next_sequences(self) -> dict[int, int]:
        following: dict[int, int] = defaultdict(int)
        for message in self._found.messages():
            following[message.channel] = max(following[message.channel], message.sequence + 1)
        return following

    def _is_plausible(self, message: RawMessage, chunk: Chunk, following: dict[int, int]) -> bool:
        channel = self._found.channels.get(message.channel)
        if channel is None or not chunk.first_ns <= message.log_ns <= chunk.last_ns:
            return False
        if self._found.ours and message.sequence < following[message.channel]:
            return False
        return fits_type(message.raw, self._found.schemas[channel.schema_id].name)


def _seal_of_channel_holds(channel: Channel) -> bool:
    return seal_holds(
        channel.metadata, id=channel.id, schema=channel.schema_id, topic=channel.topic
    )


def _complete(data: bytes) -> Iterator[RawMessage]:
    """The messages of a block whose end is missing."""
    end = 0
    while len(data) - end >= RECORD.size:
        _, length = RECORD.unpack_from(data, end)
        if end + RECORD.size + length > len(data):
            break
        end += RECORD.size + length
    return scan(data[:end])
