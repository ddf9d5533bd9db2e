"""Where a bag's messages are kept: one MCAP file, or whatever else rosbag2 writes.

MCAP files are read by our own code, also several of them and what rosbag2 compressed in them;
sqlite3 is read by the rosbags package.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import Any, Protocol

from rosbags.rosbag2 import Reader

from rl_robot.bags.mcap_file import McapFile
from rl_robot.bags.mcap_files import McapFiles, Topic
from rl_robot.bags.mcap_records import DamageError, RawMessage, RawSeries
from rl_robot.bags.metadata import METADATA_FILE, ROSBAG2, custom_of, load_metadata
from rl_robot.bags.packed import unpack_message, unpacked_files
from rl_robot.errors import UserError

_MCAP, _DATABASE = ".mcap", ".db3"
_COMPRESSION_MODE = re.compile(r"^\s*compression_mode:\s*[\"']?(\w+)", re.MULTILINE)
_BY_FILE, _BY_MESSAGE = "file", "message"  # what rosbag2 compresses


class Storage(Protocol):
    """The messages of a bag. Topics are numbered.

    Attributes:
        topics: the topics by number.
        metadata: what the episode says of itself; empty in a bag that we did not record.
        span: first and last log time, ns; (0, 0) without messages.
    """

    topics: dict[int, Topic]
    metadata: dict[str, str]
    span: tuple[int, int]

    def messages(self, numbers: Collection[int]) -> Iterator[RawMessage]:
        """The messages of these topics, in the order of their log times.

        Raises:
            DamageError: something is damaged.
        """

    def series(self, numbers: Collection[int]) -> dict[int, RawSeries]:
        """The messages of each of these topics in the order of their log times.

        Raises:
            DamageError: something is damaged.
        """


class McapStorage:
    """One plain MCAP file."""

    def __init__(self, file: Path) -> None:
        """Open and verify the file.

        Raises:
            DamageError, OSError: it is damaged, or can't be read.
        """
        self._file = mcap = McapFile(file)
        self.metadata = mcap.metadata
        counts, *span = mcap.statistics
        self.span = (span[0], span[1])
        self.topics = {
            channel.id: Topic(
                channel.topic,
                mcap.type_of(channel),
                counts.get(channel.id, 0),
                channel.metadata.get("offered_qos_profiles", ""),
            )
            for channel in mcap.channels.values()
        }

    def messages(self, numbers: Collection[int]) -> Iterator[RawMessage]:
        """See `Storage`."""
        return self._file.messages(numbers)

    def series(self, numbers: Collection[int]) -> dict[int, RawSeries]:
        """See `Storage`."""
        return self._file.series(numbers)


def open_other(path: Path) -> Storage:
    """Open a bag that is not one plain MCAP file; raises as `McapStorage`."""
    if path.is_file():
        return RosbagsStorage(path)
    with _as_damage():
        document = load_metadata(path)
        if document[ROSBAG2].get("storage_identifier") != "mcap":
            return RosbagsStorage(path)
        with _plain(path, document) as (place, names):
            missing = [name for name in names if not (place / name).is_file()]
            if missing:
                raise DamageError(f"missing: {missing[0]}")
            return McapFiles(
                [place / name for name in names],
                custom_of(document[ROSBAG2].get("custom_data")),
                packed=_mode(document) == _BY_MESSAGE,
            )


class RosbagsStorage:
    """A bag in sqlite3."""

    def __init__(self, path: Path) -> None:
        """Open a bag's folder, or a file of its own; raises as `McapStorage`."""
        self._path = path
        self._packed = False  # each message by itself
        with self._opened() as reader:
            self.metadata = custom_of(_custom(reader))
            self.span = (reader.start_time, reader.end_time - 1) if reader.message_count else (0, 0)
            self.topics = {
                number: Topic(connection.topic, connection.msgtype, connection.msgcount)
                for number, connection in enumerate(reader.connections)
            }
            for name, kind, count, _ in self.topics.values():  # as its YAML says, or whatever else
                if not (isinstance(name, str) and isinstance(kind, str) and isinstance(count, int)):
                    raise ValueError("a topic is described wrongly in its metadata")

    def messages(self, numbers: Collection[int]) -> Iterator[RawMessage]:
        """See `Storage`; messages have one time, and are numbered as they come."""
        with self._opened() as reader:
            wanted = [reader.connections[number] for number in numbers]
            places = {
                connection.id: number for number, connection in zip(numbers, wanted, strict=True)
            }
            if not wanted:
                return
            for sequence, (connection, log_ns, raw) in enumerate(reader.messages(wanted)):
                message = unpack_message(raw) if self._packed else bytes(raw)
                yield RawMessage(places[connection.id], sequence, log_ns, log_ns, message)

    def series(self, numbers: Collection[int]) -> dict[int, RawSeries]:
        """See `Storage`."""
        found = {number: RawSeries([], [], []) for number in numbers}
        for message in self.messages(numbers):
            series = found[message.channel]
            series.log_ns.append(message.log_ns)
            series.publish_ns.append(message.publish_ns)
            series.raws.append(message.raw)
        return {number: series.in_order() for number, series in found.items()}

    @contextmanager
    def _opened(self) -> Iterator[Reader]:
        with _as_damage(), ExitStack() as stack:
            path = self._path
            if path.is_dir():
                document = load_metadata(path)
                path, _ = stack.enter_context(_plain(path, document))
                self._packed = _mode(document) == _BY_MESSAGE
            reader = stack.enter_context(Reader(path))
            if self._packed:
                # It would unpack messages of any size.
                storage = reader.storage
                storage.metadata = storage.metadata._replace(compression_mode=None)
            yield reader


@contextmanager
def _as_damage() -> Iterator[None]:
    try:
        yield
    except (DamageError, UserError):
        raise
    except Exception as error:  # of three packages' parsers, each with errors of its own
        raise DamageError(" ".join(str(error).split()) or type(error).__name__) from error


def _mode(document: dict[str, Any]) -> str:
    """What rosbag2 compressed."""
    return str(document[ROSBAG2].get("compression_mode")).lower()


@contextmanager
def _plain(folder: Path, document: dict[str, Any]) -> Iterator[tuple[Path, list[str]]]:
    """Where a bag lies, and the names of its files there, without these being compressed."""
    names = [PurePath(name).name for name in document[ROSBAG2]["relative_file_paths"]]
    if _mode(document) != _BY_FILE:
        yield folder, names
        return
    with unpacked_files(folder, document) as place:
        yield place, [PurePath(name).stem for name in names]


def mcap_file(path: Path) -> Path | None:
    """Return the plain MCAP file that a bag consists of; None when it consists of something else.

    Raises:
        FileNotFoundError: there is no bag at ``path``; the message says what is there.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no bag at {path}")
    if path.is_file():
        if path.suffix not in (_MCAP, _DATABASE):
            raise FileNotFoundError(
                f"{path} is not a bag: a bag is a folder, or its {_MCAP} or {_DATABASE} file"
            )
        return path if path.suffix == _MCAP else None
    files = sorted(path.glob("*.mcap"))
    others = [found for kind in ("*.db3", "*.zstd") for found in path.glob(kind)]
    if not files and not others:
        raise FileNotFoundError(f"{path} is not a bag: it holds no .mcap and no .db3 file")
    return files[0] if len(files) == 1 and not others and not _packed_messages(path) else None


def _packed_messages(folder: Path) -> bool:
    """Whether rosbag2 compressed each message by itself: an MCAP file does not say so."""
    try:
        text = (folder / METADATA_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = _COMPRESSION_MODE.search(text)
    return found is not None and found[1].lower() == _BY_MESSAGE


def _custom(reader: Reader) -> Any:
    """Return rosbag2's custom data, which only a bag's folder has."""
    return getattr(getattr(reader.storage, "metadata", None), "custom", None)
