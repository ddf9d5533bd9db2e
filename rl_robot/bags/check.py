"""Looks for everything that can be wrong with a bag, without changing anything."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from rl_robot.bags.found import UNFINISHED
from rl_robot.bags.messages import fits_type
from rl_robot.bags.metadata import ROSBAG2, EpisodeMetadata, custom_of, load_metadata
from rl_robot.bags.reader import BagReader
from rl_robot.bags.salvage import Salvage, salvage
from rl_robot.bags.storage import mcap_file
from rl_robot.errors import UserError

_TOLD = frozenset(f.name for f in fields(EpisodeMetadata))


def check(path: Path) -> list[str]:
    """Return what is wrong with the bag at ``path``, a line each; empty for a sound one.

    Every checksum is verified, messages of stock types must have the structure of their type, those
    of a bag of ours must be numbered without gaps, and the index and ``metadata.yaml`` must say
    what is there.

    Raises:
        UserError: there is no bag, or it can't be read.
    """
    try:
        file = mcap_file(path)
        found = salvage(file) if file is not None else None
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    problems = []
    if path.suffix == UNFINISHED:
        problems.append("the recording was never finished")
    if found is not None:
        problems += [str(loss) for loss in found.losses]
        problems += _gaps(found)
        if found.losses:
            return problems
    return [*problems, *_contents(path)]


def _gaps(found: Salvage) -> Iterator[str]:
    for number, count in found.missing().items():
        yield f"{found.channels[number].topic}: {count} messages are missing"


def _contents(path: Path) -> Iterator[str]:
    """What is wrong with what a bag says, where its bytes are sound."""
    try:
        reader = BagReader(path)
        counts = dict.fromkeys(reader.counts, 0)
        misfits = dict.fromkeys(reader.counts, 0)
        for message in reader.messages():
            counts[message.topic] += 1
            misfits[message.topic] += not fits_type(message.raw, message.type)
    except UserError as error:
        yield str(error)
        return
    for topic, count in misfits.items():
        if count:
            yield f"{topic}: {count} messages are not of type {reader.types[topic]}"
    for topic, count in reader.counts.items():
        if count != counts[topic]:
            yield f"{topic}: the index says {count} messages, there are {counts[topic]}"
    yield from _metadata(reader)
    if path.is_dir():
        yield from _folder(path, sum(counts.values()), reader)


def _metadata(reader: BagReader) -> Iterator[str]:
    """An episode's metadata is all there, or none of it: other recorders say what they like."""
    if reader.metadata.keys().isdisjoint(_TOLD):
        return
    try:
        EpisodeMetadata.from_strings(reader.metadata)
    except (KeyError, ValueError) as error:
        yield f"what the episode says of itself is not whole: missing or wrong {error}"


def _folder(path: Path, messages: int, reader: BagReader) -> Iterator[str]:
    try:
        told = load_metadata(path)[ROSBAG2]
        count, files = told["message_count"], list(told["relative_file_paths"])
    except FileNotFoundError:
        yield "metadata.yaml is missing: rosbag2 can't open the bag"
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield "metadata.yaml is damaged: rosbag2 can't open the bag"
        return
    if not isinstance(count, int) or not all(isinstance(name, str) for name in files):
        yield "metadata.yaml is damaged: rosbag2 can't open the bag"
        return
    if count != messages:
        yield f"metadata.yaml says {count} messages, there are {messages}"
    for name in files:
        if not (path / name).exists():
            yield f"metadata.yaml names the file {name}, which is not there"
    said = custom_of(told.get("custom_data"))
    if reader.metadata and {k: said.get(k) for k in reader.metadata} != reader.metadata:
        yield "metadata.yaml says something else of the episode than the bag does"
