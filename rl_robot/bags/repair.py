"""Makes a whole bag of what is whole of a damaged one."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rl_robot.bags.found import UNFINISHED
from rl_robot.bags.messages import Definition
from rl_robot.bags.metadata import EpisodeMetadata, TopicQos, qos_of, relative_topic
from rl_robot.bags.salvage import Loss, Salvage, salvage
from rl_robot.bags.storage import mcap_file
from rl_robot.bags.writer import EpisodeWriter, is_being_written
from rl_robot.errors import UserError

_REPAIRED = "repaired"  # name in the metadata of a repaired bag


@dataclass(frozen=True)
class Repair:
    """What became of a bag.

    Attributes:
        path: the repaired bag; None when nothing could be kept.
        kept: messages by topic (absolute names).
        missing: messages by topic that are known to be lost, by the gaps in their numbers.
        losses: what is wrong with the file.
        unfinished: messages kept of a chunk that was not finished, without a checksum.
        unverified: parts kept that have no checksum in the file.
    """

    path: Path | None
    kept: dict[str, int]
    missing: dict[str, int]
    losses: tuple[Loss, ...]
    unfinished: int
    unverified: int


def repair(path: Path, out: Path | None = None) -> Repair:
    """Write what is whole of the bag at ``path`` as a bag of its own; the old one is not touched.

    Args:
        path: a bag's folder, also one that was never finished (``.part``), or its MCAP file.
        out: the new bag's folder; by default the name without ``.part``, or with ``.repaired``.

    Raises:
        UserError: there is no MCAP file there, a recorder is still writing it, the new bag's folder
            exists already, or it can't be written; then nothing is left of it.
    """
    file = find_mcap(path)
    target = out or _default_target(path)
    if target.exists():
        raise UserError(f"{target} exists already: name another folder with --out")
    try:
        if is_being_written(file):
            raise UserError(f"{path} is still being written: repair it when its recorder has ended")
        found = salvage(file)
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}") from None
    missing = {found.channels[number].topic: count for number, count in found.missing().items()}
    if not found.channels or next(found.messages(), None) is None:
        return _outcome(None, found, Counter(), missing)
    try:
        return _outcome(target, found, _write(target, found, missing), missing)
    except OSError as error:
        raise UserError(f"{target} can't be written: {error.strerror or error}") from None


def find_mcap(path: Path) -> Path:
    """Return the MCAP file of a bag that may be damaged.

    Raises:
        UserError: there is none.
    """
    try:
        file = mcap_file(path)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    if file is None:
        raise UserError(f"{path} is no bag of one plain .mcap file: only those can be repaired")
    return file


def _default_target(path: Path) -> Path:
    if path.suffix == UNFINISHED:
        return path.with_suffix("")
    folder = path.with_suffix("") if path.is_file() else path
    return folder.with_name(f"{folder.name}.repaired")


def _write(target: Path, found: Salvage, missing: dict[str, int]) -> Counter[str]:
    """Write the new bag, of which nothing is left if that fails; return its messages by topic."""
    kept: Counter[str] = Counter()
    namespace = found.metadata.get("namespace", "/")
    names = {n: relative_topic(c.topic, namespace) for n, c in found.channels.items()}
    writer = _writer(target, found, names, namespace)
    try:
        for message in found.messages():
            writer.write(
                names[message.channel],
                message.raw,
                message.log_ns,
                message.publish_ns,
                message.sequence,
            )
            kept[found.channels[message.channel].topic] += 1
        writer.close(_metadata(found, missing))
    except BaseException:
        writer.abort()
        raise
    return kept


def _writer(target: Path, found: Salvage, names: dict[int, str], namespace: str) -> EpisodeWriter:
    types: dict[str, str] = {}
    qos: dict[str, TopicQos] = {}
    definitions: dict[str, Definition] = {}
    for number, channel in found.channels.items():
        schema = found.schemas[channel.schema_id]
        name = names[number]
        if types.get(name, schema.name) != schema.name:
            raise UserError(f"{channel.topic} has two types: such a bag can't be repaired")
        types[name] = schema.name
        qos[name] = qos_of(channel.metadata.get("offered_qos_profiles", ""))
        text = schema.data.decode("utf-8", "replace")
        known_as = channel.metadata.get("topic_type_hash", "")
        definitions[schema.name] = Definition(schema.encoding, text, known_as)
    return EpisodeWriter(
        target,
        types,
        qos=qos,
        namespace=namespace,
        definitions=definitions,
        part=f".repair{UNFINISHED}",
    )


def _metadata(found: Salvage, missing: dict[str, int]) -> EpisodeMetadata | None:
    """What the episode was, and that it was repaired; None where that is lost."""
    values = {key: value for key, value in found.metadata.items() if key != "namespace"}
    lost = sum(missing.values())
    values[_REPAIRED] = f"{len(found.losses)} damaged parts, {lost} messages known to be lost"
    try:
        return EpisodeMetadata.from_strings(values)
    except (KeyError, ValueError):
        return None


def _outcome(
    path: Path | None, found: Salvage, kept: Counter[str], missing: dict[str, int]
) -> Repair:
    return Repair(
        path, dict(kept), missing, tuple(found.losses), found.unfinished, found.unverified
    )
