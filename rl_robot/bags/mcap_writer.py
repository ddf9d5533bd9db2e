"""Writes MCAP files in small checksummed chunks, fast enough to sit beside a control loop.

The records are the ``mcap`` package's; only the chunk builder is ours, because the package's
writer leaves no choice of zstd's level. One rendered 320x240 picture with sensor noise (225 KiB),
on one core: level 1 takes 0.54 ms and leaves 140 KiB, the package's level 3 takes 2.0 ms and
leaves 129 KiB, lz4 takes 0.35 ms and leaves 215 KiB.

Format: https://mcap.dev/spec
"""

import struct
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from rl_robot.bags.mcap_records import FOOTER, MAGIC
from rl_robot.bags.seals import sealed

_MESSAGE = struct.Struct("<BQHIQQ")  # opcode, length, channel, sequence, log time, publish time
_MESSAGE_FIXED_BYTES = 22
_COMPRESSION = "zstd"
_LEVEL = 1
_BLOCK = 16 * 1024  # bytes; pictures with noise even pack 3 % better than in one block
# Channels with messages of a like size share chunks: below the first of these, the second, or more.
_SIZES = (8 * 1024, 64 * 1024)  # bytes of a channel's first message


@dataclass
class _Chunk:
    """A chunk in the making: its contents, and (log time, offset) of each channel's messages.

    ``seen_at``: the steady clock (s) when it was first seen to hold something.
    """

    data: bytearray = field(default_factory=bytearray)
    messages: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    seen_at: float | None = None


class McapWriter:
    """Writes one MCAP file to an open binary stream.

    Chunks hold at most ``chunk_bytes``, or one message that is larger; each carries a CRC of its
    contents and is flushed to the operating system, so a killed process loses the open chunks at
    most. They are open for at most ``chunk_seconds`` of whatever clock `write_out_old` is told, and
    one of its calls. The data section and the summary carry CRCs of their own.

    Large pictures, small ones, and all else have chunks of their own: who reads the others need not
    unpack megabytes of pictures for a few kilobytes of numbers.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        profile: str,
        library: str,
        chunk_bytes: int = 256 * 1024,
        chunk_seconds: float = 0.5,
    ) -> None:
        self._stream = stream
        self._chunk_bytes = chunk_bytes
        self._chunk_seconds = chunk_seconds
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._position = 0
        self._data_crc = 0
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._chunk_indexes: list[ChunkIndex] = []
        self._metadata_indexes: list[MetadataIndex] = []
        self._counts: dict[int, int] = {}
        self._first_time: int | None = None
        self._last_time = 0
        self._chunks = [_Chunk() for _ in range(len(_SIZES) + 1)]
        self._chunk_of: dict[int, _Chunk] = {}  # by channel
        self._put(MAGIC)
        self._put(_serialized(Header(profile=profile, library=library)))

    @property
    def counts(self) -> Mapping[int, int]:
        """Messages written so far, by channel id."""
        return self._counts

    @property
    def time_span(self) -> tuple[int, int]:
        """First and last log time in nanoseconds; (0, 0) while the file holds no message."""
        return (self._first_time or 0, self._last_time)

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Declare a message type; returns its id."""
        schema = Schema(id=len(self._schemas) + 1, name=name, encoding=encoding, data=data)
        self._schemas.append(schema)
        self._put(_serialized(schema))
        return schema.id

    def add_channel(
        self, topic: str, encoding: str, schema_id: int, metadata: dict[str, str]
    ) -> int:
        """Declare a topic; returns its id."""
        number = len(self._channels) + 1
        channel = Channel(
            id=number,
            topic=topic,
            message_encoding=encoding,
            schema_id=schema_id,
            metadata=sealed(metadata, id=number, schema=schema_id, topic=topic),
        )
        self._channels.append(channel)
        self._counts[channel.id] = 0
        self._put(_serialized(channel))
        return channel.id

    def write(
        self, channel: int, log_ns: int, publish_ns: int, data: bytes, sequence: int | None = None
    ) -> None:
        """Add one serialized message; its sequence number is its place in the channel, or given."""
        place = self._counts[channel]
        if not place:
            self._chunk_of[channel] = self._chunks[bisect_right(_SIZES, len(data))]
        chunk = self._chunk_of[channel]
        size = _MESSAGE.size + len(data)
        if chunk.data and len(chunk.data) + size > self._chunk_bytes:
            self._write_chunk(chunk)
        self._counts[channel] = place + 1
        chunk.messages.setdefault(channel, []).append((log_ns, len(chunk.data)))
        chunk.data += _MESSAGE.pack(
            Opcode.MESSAGE,
            _MESSAGE_FIXED_BYTES + len(data),
            channel,
            place if sequence is None else sequence,
            log_ns,
            publish_ns,
        )
        chunk.data += data

    def write_out_old(self, now: float) -> None:
        """Write out the chunks that have been open for too long; to be called again and again.

        ``now`` is the steady clock, seconds.
        """
        for chunk in reversed(self._chunks):
            if not chunk.data:
                continue
            if chunk.seen_at is None:
                chunk.seen_at = now
            elif now - chunk.seen_at >= self._chunk_seconds:
                self._write_chunk(chunk)

    def add_metadata(self, name: str, values: dict[str, str]) -> None:
        """Write a named table of strings."""
        record = _serialized(Metadata(name=name, metadata=values))
        self._metadata_indexes.append(
            MetadataIndex(offset=self._position, length=len(record), name=name)
        )
        self._put(record)

    def flush(self) -> None:
        """Hand over to the operating system what is written, which open chunks are not yet."""
        self._stream.flush()

    def finish(self) -> None:
        """Write what is buffered, the index and the footer. The stream stays open."""
        for chunk in reversed(self._chunks):
            if chunk.data:
                self._write_chunk(chunk)
        self._put(_serialized(DataEnd(data_section_crc=self._data_crc)))
        summary_start = self._position
        summary = RecordBuilder()
        groups: list[tuple[Opcode, Sequence[McapRecord]]] = [
            (Opcode.SCHEMA, self._schemas),
            (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, self._chunk_indexes),
            (Opcode.METADATA_INDEX, self._metadata_indexes),
        ]
        offsets = [
            _write_group(summary, opcode, records, summary_start) for opcode, records in groups
        ]
        offsets_start = summary_start + summary.count
        for offset in offsets:
            if offset.group_length:
                offset.write(summary)
        contents = summary.end()
        self._put(contents)
        self._put(_serialized(_footer(contents, summary_start, offsets_start)))
        self._put(MAGIC)
        self._stream.flush()

    def _statistics(self) -> Statistics:
        first, last = self.time_span
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=dict(self._counts),
            chunk_count=len(self._chunk_indexes),
            message_count=sum(self._counts.values()),
            metadata_count=len(self._metadata_indexes),
            message_start_time=first,
            message_end_time=last,
            schema_count=len(self._schemas),
        )

    def _write_chunk(self, open_chunk: _Chunk) -> None:
        """Write a chunk out, and empty it for what comes next."""
        data, messages = open_chunk.data, open_chunk.messages
        open_chunk.data, open_chunk.messages, open_chunk.seen_at = bytearray(), {}, None
        times = [log_ns for entries in messages.values() for log_ns, _ in entries]
        first, last = min(times), max(times)
        compressed = self._compressed(data)
        chunk = Chunk(
            compression=_COMPRESSION,
            data=compressed,
            message_start_time=first,
            message_end_time=last,
            uncompressed_crc=zlib.crc32(data),
            uncompressed_size=len(data),
        )
        record = _serialized(chunk)
        start = self._position
        self._put(record)
        index_start = self._position
        index_offsets = {}
        for channel, entries in messages.items():
            index_offsets[channel] = self._position
            self._put(_serialized(MessageIndex(channel_id=channel, records=entries)))
        self._chunk_indexes.append(
            ChunkIndex(
                message_start_time=first,
                message_end_time=last,
                chunk_start_offset=start,
                chunk_length=len(record),
                message_index_offsets=index_offsets,
                message_index_length=self._position - index_start,
                compression=_COMPRESSION,
                compressed_size=len(compressed),
                uncompressed_size=len(data),
            )
        )
        self._first_time = first if self._first_time is None else min(self._first_time, first)
        self._last_time = max(self._last_time, last)
        self._stream.flush()

    def _compressed(self, data: bytearray) -> bytes:
        """Pack in blocks that can be unpacked one by one, should the file end within a chunk."""
        packer = self._compressor.compressobj(size=len(data))
        parts = []
        for at in range(0, len(data), _BLOCK):
            parts.append(packer.compress(data[at : at + _BLOCK]))
            if at + _BLOCK < len(data):
                parts.append(packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        return b"".join([*parts, packer.flush()])

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self._data_crc = zlib.crc32(data, self._data_crc)
        self._position += len(data)


def _serialized(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return builder.end()


def _write_group(
    summary: RecordBuilder, opcode: Opcode, records: Sequence[McapRecord], summary_start: int
) -> SummaryOffset:
    start = summary.count
    for record in records:
        record.write(summary)
    return SummaryOffset(
        group_opcode=opcode,
        group_start=summary_start + start,
        group_length=summary.count - start,
    )


def _footer(summary: bytes, summary_start: int, offsets_start: int) -> Footer:
    """The footer's CRC covers the summary and the footer's own fields before the CRC."""
    fields = FOOTER.pack(Opcode.FOOTER, 20, summary_start, offsets_start, 0)[:-4]
    return Footer(
        summary_start=summary_start,
        summary_offset_start=offsets_start,
        summary_crc=zlib.crc32(fields, zlib.crc32(summary)),
    )
