"""Writes episodes as rosbag2 folders: one MCAP file and its ``metadata.yaml``, for stock tools.

Messages travel as the serialized bytes that came over the wire. Each has two times: ``log_ns``,
the moment on the graph's clock that the message belongs to, and ``publish_ns``, the wall clock
when it was published, from which latencies are measured.

Topic names are relative to the robot's namespace in everything these modules take and give; in
the file they are absolute, as rosbag2 has them.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from rl_robot.bags.found import UNFINISHED
from rl_robot.bags.mcap_writer import McapWriter
from rl_robot.bags.messages import Definition, message_definition
from rl_robot.bags.metadata import CUSTOM, EpisodeMetadata, TopicQos, absolute_topic
from rl_robot.bags.seals import sealed
from rl_robot.errors import UserError

_LIBRARY = "rl_robot"
_METADATA_VERSION = 9
_ROS_DISTRO = "jazzy"


class EpisodeWriter:
    """Writes one episode. The bag appears under its name, whole, when `close` returns.

    While it is written it is a folder with the suffix ``.part``; a process that dies leaves that
    folder behind and never a bag that looks complete. In it is all but the open chunks: the last
    half second at most, as long as `write_out_old` is called often. The disk is not waited for: a
    machine that loses power may lose its last bags, and `BagReader` refuses one that was written in
    part.
    """

    def __init__(
        self,
        path: Path | str,
        topics: Mapping[str, str],
        *,
        qos: Mapping[str, TopicQos] | None = None,
        namespace: str = "/",
        definitions: Mapping[str, Definition] | None = None,
        part: str = UNFINISHED,
        begun: EpisodeMetadata | None = None,
    ) -> None:
        """Open ``path`` (a folder to be) for the ``topics``, name -> message type.

        Args:
            path: the bag's folder.
            topics: their names and types.
            qos: what the topics' publishers offer.
            namespace: of the robot.
            definitions: of the types that are not stock types.
            part: what is added to the folder's name while it is written.
            begun: what is known of the episode at its start. It is written at once, so that a bag
                that is never closed says what it was; what `close` is given comes last, and counts.

        Raises:
            UserError: the bag exists already, or a type is not a stock one.
            OSError: the folder or the file cannot be made, or the disk is full.
        """
        self.path = Path(path)
        self._part = self.path.with_name(self.path.name + part)
        for existing in (self.path, self._part):
            if existing.exists():
                raise UserError(f"{existing} exists already: an episode is never overwritten")
        known = definitions or {}
        self._definitions = {
            message_type: known.get(message_type) or message_definition(message_type)
            for message_type in topics.values()
        }
        self._part.mkdir(parents=True)
        self._namespace = namespace
        self._topics = dict(topics)
        self._qos = {name: (qos or {}).get(name, TopicQos()) for name in topics}
        self._channels: dict[str, int] = {}
        try:
            self._file: BinaryIO = (self._part / self._file_name).open("xb")
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # see `is_being_written`
            self._mcap = McapWriter(self._file, profile="ros2", library=_LIBRARY)
            self._declare()
            if begun is not None:
                self._mcap.add_metadata(CUSTOM, sealed(self._custom(begun)))
            self._mcap.flush()
        except OSError:
            shutil.rmtree(self._part, ignore_errors=True)
            raise

    def _declare(self) -> None:
        """Write the types and the channels."""
        schema_ids: dict[str, int] = {}
        for name, message_type in self._topics.items():
            definition = self._definitions[message_type]
            if message_type not in schema_ids:
                schema_ids[message_type] = self._mcap.add_schema(
                    message_type, definition.encoding, definition.text.encode()
                )
            self._channels[name] = self._mcap.add_channel(
                absolute_topic(name, self._namespace),
                "cdr",
                schema_ids[message_type],
                {
                    "offered_qos_profiles": _qos_yaml(self._qos[name]),
                    "topic_type_hash": definition.hash,
                },
            )

    @property
    def _file_name(self) -> str:
        return f"{self.path.name}.mcap"

    def write(
        self, topic: str, raw: bytes, log_ns: int, publish_ns: int, sequence: int | None = None
    ) -> None:
        """Add one serialized message of a topic named at the start.

        ``sequence``: its number in its topic, where it is not simply the next one.

        Raises:
            OSError: the disk is full, or fails. Then only `abort` and `leave` remain.
        """
        self._mcap.write(self._channels[topic], log_ns, publish_ns, raw, sequence)

    def write_out_old(self, now: float) -> None:
        """Hand over to the operating system what has waited for half a second.

        It then outlives this process. ``now`` is the steady clock, seconds.

        Raises:
            OSError: as in `write`.
        """
        self._mcap.write_out_old(now)

    def close(self, metadata: EpisodeMetadata | None) -> Path:
        """Finish the bag and give it its name; returns that path.

        ``metadata``: what the episode was; None for a bag that holds none.

        Raises:
            OSError: as in `write`.
        """
        custom = {} if metadata is None else self._custom(metadata)
        if custom:
            self._mcap.add_metadata(CUSTOM, sealed(custom))
        self._mcap.finish()
        self._file.close()
        document = _to_yaml(self._rosbag2_metadata(custom))
        (self._part / "metadata.yaml").write_text(document, encoding="utf-8")
        self._part.rename(self.path)
        return self.path

    def abort(self) -> None:
        """Give the bag up: nothing is left of it.

        Raises:
            OSError: the folder cannot be removed.
        """
        self.leave()
        shutil.rmtree(self._part)

    def leave(self) -> None:
        """Write no more: what is on disk stays as it is, a bag without an end."""
        with contextlib.suppress(OSError):  # what is buffered may not fit on the disk
            self._file.close()

    def _custom(self, metadata: EpisodeMetadata) -> dict[str, str]:
        return metadata.to_strings() | {"namespace": self._namespace}

    def _rosbag2_metadata(self, custom: dict[str, str]) -> dict[str, Any]:
        first, last = self._mcap.time_span
        counts = self._mcap.counts
        start = {"nanoseconds_since_epoch": first}
        duration = {"nanoseconds": last - first}
        topics = [
            {
                "topic_metadata": {
                    "name": absolute_topic(name, self._namespace),
                    "type": message_type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [_qos_profile(self._qos[name])],
                    "type_description_hash": self._definitions[message_type].hash,
                },
                "message_count": counts[self._channels[name]],
            }
            for name, message_type in self._topics.items()
        ]
        total = sum(counts.values())
        information = {
            "version": _METADATA_VERSION,
            "storage_identifier": "mcap",
            "relative_file_paths": [self._file_name],
            "starting_time": start,
            "duration": duration,
            "message_count": total,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "files": [
                {
                    "path": self._file_name,
                    "starting_time": dict(start),
                    "duration": dict(duration),
                    "message_count": total,
                }
            ],
            "custom_data": custom,
            "ros_distro": _ROS_DISTRO,
        }
        return {"rosbag2_bagfile_information": information}


def is_being_written(file: Path) -> bool:
    """Whether a living process has a bag's file open in an `EpisodeWriter`.

    Raises:
        OSError: the file can't be opened.
    """
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # not every file system has locks
            return False
    return False


def _qos_profile(qos: TopicQos) -> dict[str, Any]:
    """rosbag2's table (metadata version 9) of one offered QoS profile."""
    unlimited = {"sec": 9223372036, "nsec": 854775807}
    return {
        "history": "keep_last",
        "depth": qos.depth,
        "reliability": "reliable" if qos.reliable else "best_effort",
        "durability": "transient_local" if qos.transient_local else "volatile",
        "deadline": dict(unlimited),
        "lifespan": dict(unlimited),
        "liveliness": "automatic",
        "liveliness_lease_duration": dict(unlimited),
        "avoid_ros_namespace_conventions": False,
    }


@cache
def _qos_yaml(qos: TopicQos) -> str:
    return _to_yaml([_qos_profile(qos)])


def _to_yaml(document: Any) -> str:
    """As PyYAML writes it, by its C library where it has one (ten times faster)."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(document, Dumper=dumper, sort_keys=False)
