"""Reads bags: whole or not at all, checked against their checksums."""

import mmap
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Chunk
from mcap.stream_reader import get_chunk_data_stream
from mcap.summary import Summary

from rl_robot.bags.mcap_writer import FOOTER, MAGIC
from rl_robot.bags.messages import BagMessage, DecodedMessage, typestore
from rl_robot.bags.metadata import CUSTOM, EpisodeMetadata, relative_topic
from rl_robot.errors import UserError

_DATA_END_BYTES = 13
_RECORD = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time

_Record = tuple[int, int, int, bytes]  # channel, log time, publish time, message


class BagReader:
    """Reads one bag: a rosbag2 folder or its ``.mcap`` file.

    The checksums of the whole file are verified when it is opened, so no message of a damaged
    bag is ever given out.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the bag.

        Raises:
            UserError: there is no bag at ``path``, or it is damaged; the message names the file
                and what is wrong with it.
        """
        self.path = Path(path)
        self.file = _mcap_file(self.path)
        try:
            with self.file.open("rb") as stream:
                _verify(stream)
                self._summary = _summary(stream)
                self.metadata = _custom_metadata(stream)
        except (McapError, _DamageError, ValueError, KeyError, struct.error, OSError) as error:
            raise UserError(
                f"{self.file} is damaged ({error}): record it again, or leave it out"
            ) from None
        self.namespace = self.metadata.pop("namespace", "/")
        self.types = {
            relative_topic(channel.topic, self.namespace): self._type(channel.schema_id)
            for channel in self._summary.channels.values()
        }

    @property
    def episode(self) -> EpisodeMetadata:
        """The episode's metadata.

        Raises:
            UserError: the bag has none, because something else recorded it.
        """
        try:
            return EpisodeMetadata.from_strings(self.metadata)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{self.file} holds no episode recorded by rl_robot: missing or wrong {error}"
            ) from None

    @property
    def counts(self) -> dict[str, int]:
        """Messages of each topic."""
        statistics = self._summary.statistics
        counts = statistics.channel_message_counts if statistics else {}
        return {
            relative_topic(channel.topic, self.namespace): counts.get(channel.id, 0)
            for channel in self._summary.channels.values()
        }

    @property
    def seconds(self) -> float:
        """From the first message to the last on the graph's clock, known without reading them."""
        statistics = self._summary.statistics
        if statistics is None:
            return 0.0
        return (statistics.message_end_time - statistics.message_start_time) * 1e-9

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """The messages of ``topics`` (all when None), in log time order.

        Raises:
            UserError: a chunk's checksum does not match its contents.
        """
        channels = {
            channel.id: (
                relative_topic(channel.topic, self.namespace),
                self._type(channel.schema_id),
            )
            for channel in self._summary.channels.values()
        }
        if topics is not None:
            channels = {key: value for key, value in channels.items() if value[0] in topics}
        try:
            with self.file.open("rb") as stream:
                for channel, log_ns, publish_ns, raw in self._records(stream, channels):
                    yield BagMessage(*channels[channel], log_ns, publish_ns, raw)
        except (McapError, ValueError, struct.error) as error:
            raise UserError(f"{self.file} is damaged ({error})") from None

    def _records(self, stream: BinaryIO, channels: Collection[int]) -> Iterator[_Record]:
        """The messages of these channels, in log time order.

        The mcap package's own reader takes five times as long where few of many topics are asked
        for: it makes an object of every record in a chunk.
        """
        if not self._summary.chunk_indexes:
            for _, _, found in make_reader(stream).iter_messages():
                if found.channel_id in channels:
                    yield found.channel_id, found.log_time, found.publish_time, found.data
            return
        waiting: list[_Record] = []
        chunks = [
            chunk
            for chunk in self._summary.chunk_indexes
            if not chunk.message_index_offsets.keys().isdisjoint(channels)
        ]
        for index in sorted(chunks, key=lambda chunk: chunk.message_start_time):
            due = bisect_left(waiting, index.message_start_time, key=_log_time)
            yield from waiting[:due]
            stream.seek(index.chunk_start_offset + _RECORD.size)
            chunk = Chunk.read(ReadDataStream(stream))
            data, size = get_chunk_data_stream(chunk, validate_crc=True)
            waiting = sorted([*waiting[due:], *_scan(data.read(size), channels)], key=_log_time)
        yield from waiting

    def decoded(self, topics: Collection[str] | None = None) -> Iterator[DecodedMessage]:
        """Like `messages`, decoded."""
        for topic, message_type, log_ns, publish_ns, raw in self.messages(topics):
            message = typestore().deserialize_cdr(raw, message_type)
            yield DecodedMessage(topic, log_ns, publish_ns, message)

    def _type(self, schema_id: int) -> str:
        schema = self._summary.schemas.get(schema_id)
        return schema.name if schema else ""


def _scan(data: bytes, channels: Collection[int]) -> Iterator[_Record]:
    """The messages of these channels in the contents of a chunk."""
    at = 0
    while at < len(data):
        opcode, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if opcode == Opcode.MESSAGE:
            channel, _, log_ns, publish_ns = _MESSAGE.unpack_from(data, at)
            if channel in channels:
                yield channel, log_ns, publish_ns, data[at + _MESSAGE.size : at + length]
        at += length


def _log_time(record: _Record) -> int:
    return record[1]


class _DamageError(Exception):
    """What is wrong with a file, in words."""


def _mcap_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"there is no bag at {path}")
    files = sorted(path.glob("*.mcap"))
    if len(files) != 1:
        raise UserError(f"{path} is not a bag of one .mcap file: it holds {len(files)}")
    return files[0]


def _verify(stream: BinaryIO) -> None:
    """Check the checksums that cover every byte of the file, reading it once."""
    size = os.fstat(stream.fileno()).st_size
    tail = FOOTER.size + len(MAGIC)
    if size < len(MAGIC) + tail:
        raise _DamageError(f"{size} bytes are too few for a bag")
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            _verify_bytes(view, size - tail)
        finally:
            view.release()


def _verify_bytes(view: memoryview, footer_at: int) -> None:
    if view[: len(MAGIC)] != MAGIC:
        raise _DamageError("it does not begin as an MCAP file")
    if view[-len(MAGIC) :] != MAGIC:
        raise _DamageError("its end is missing: the recording was cut short")
    opcode, length, summary_start, _, summary_crc = FOOTER.unpack_from(view, footer_at)
    if (opcode, length) != (2, 20) or not len(MAGIC) < summary_start <= footer_at:
        raise _DamageError("its footer is wrong")
    if summary_crc and zlib.crc32(view[summary_start : len(view) - 12]) != summary_crc:
        raise _DamageError("the checksum of its index does not match")
    data_end = summary_start - _DATA_END_BYTES
    opcode, length, data_crc = struct.unpack_from("<BQI", view, data_end)
    if (opcode, length) != (15, 4):
        raise _DamageError("its data section does not end where the footer says")
    if data_crc and zlib.crc32(view[:data_end]) != data_crc:
        raise _DamageError("the checksum of its messages does not match")


def _summary(stream: BinaryIO) -> Summary:
    summary = make_reader(stream).get_summary()
    if summary is None:
        raise _DamageError("it has no index")
    return summary


def _custom_metadata(stream: BinaryIO) -> dict[str, str]:
    found = {}
    for record in make_reader(stream).iter_metadata():
        if record.name == CUSTOM:
            found = record.metadata  # the last one counts: the first was written at the start
    return found
