"""A bag of several MCAP files, or of one whose messages rosbag2 compressed, each by itself."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from rl_robot.bags.mcap_file import McapFile
from rl_robot.bags.mcap_records import RawMessage, RawSeries
from rl_robot.bags.packed import unpack_message

_LOG_TIME = attrgetter("log_ns")


class Topic(NamedTuple):
    """A topic of a bag: its absolute name, its ROS type, its number of messages, its QoS (YAML)."""

    name: str
    type: str
    messages: int
    qos: str = ""


class McapFiles:
    """MCAP files as one `rl_robot.bags.storage.Storage`."""

    def __init__(self, files: Sequence[Path], metadata: dict[str, str], *, packed: bool) -> None:
        """Map and verify the files, which may then be removed.

        Args:
            files: in the order of their times, or not.
            metadata: what the episode says of itself.
            packed: each message is compressed by itself.

        Raises:
            DamageError, OSError: one is damaged, or can't be read.
        """
        self._files = [McapFile(file) for file in files]
        self.metadata = metadata
        self._packed = packed
        self._numbers: list[dict[int, int]] = []  # channel -> topic, for each file
        known: dict[tuple[str, str], int] = {}
        counts: Counter[int] = Counter()
        qos: dict[int, str] = {}
        for file in self._files:
            numbers = {}
            for channel in file.channels.values():
                key = channel.topic, file.type_of(channel)
                number = numbers[channel.id] = known.setdefault(key, len(known))
                counts[number] += file.statistics.counts.get(channel.id, 0)
                qos.setdefault(number, channel.metadata.get("offered_qos_profiles", ""))
            self._numbers.append(numbers)
        self.topics = {
            number: Topic(name, kind, counts[number], qos[number])
            for (name, kind), number in known.items()
        }
        said = [file.statistics for file in self._files if any(file.statistics.counts.values())]
        self.span = (
            min((one.first_ns for one in said), default=0),
            max((one.last_ns for one in said), default=0),
        )

    def messages(self, numbers: Collection[int]) -> Iterator[RawMessage]:
        """The messages of these topics, in the order of their log times.

        Raises:
            DamageError: something is damaged, or unpacks to too much.
        """
        parts = (
            self._of_file(file, of_file, numbers)
            for file, of_file in zip(self._files, self._numbers, strict=True)
        )
        return heapq.merge(*parts, key=_LOG_TIME)

    def series(self, numbers: Collection[int]) -> dict[int, RawSeries]:
        """The messages of each of these topics in the order of their log times; see `messages`."""
        found = {number: RawSeries([], [], []) for number in numbers}
        for file, of_file in zip(self._files, self._numbers, strict=True):
            wanted = [channel for channel, number in of_file.items() if number in found]
            for channel, series in file.series(wanted).items():
                if self._packed:
                    raws = [unpack_message(raw) for raw in series.raws]
                    series = series._replace(raws=raws)
                number = of_file[channel]
                found[number] = RawSeries(*found[number].with_those_of(series))
        return found

    def _of_file(
        self, file: McapFile, of_file: dict[int, int], numbers: Collection[int]
    ) -> Iterator[RawMessage]:
        wanted = [channel for channel, number in of_file.items() if number in numbers]
        for message in file.messages(wanted):
            raw = unpack_message(message.raw) if self._packed else message.raw
            yield message._replace(channel=of_file[message.channel], raw=raw)
