"""Compares bags by the contents of their messages."""

from collections.abc import Collection
from pathlib import Path

from rl_robot.bags.messages import BagMessage, fits_type, typestore
from rl_robot.bags.reader import BagReader


def compare_bags(
    first: Path | str, second: Path | str, ignore: Collection[str] = ("diagnostics",)
) -> list[str]:
    """Differences between the contents of two bags, topic by topic and in order; empty when equal.

    Contents are the messages' fields: publish times, and padding between fields on the wire, are
    not compared.

    Raises:
        UserError: one of the bags is missing or damaged.
    """
    bags = [_messages_by_topic(BagReader(path), ignore) for path in (first, second)]
    differences = []
    for topic in sorted(bags[0].keys() | bags[1].keys()):
        difference = _difference(bags[0].get(topic, []), bags[1].get(topic, []))
        if difference:
            differences.append(f"{topic}: {difference}")
    return differences


def _messages_by_topic(reader: BagReader, ignore: Collection[str]) -> dict[str, list[BagMessage]]:
    topics = [topic for topic in reader.types if topic not in ignore]
    messages: dict[str, list[BagMessage]] = {topic: [] for topic in topics}
    for message in reader.messages(topics):
        messages[message.topic].append(message)
    return messages


def _difference(first: list[BagMessage], second: list[BagMessage]) -> str | None:
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a.type != b.type:
            return f"type {a.type} and {b.type}"
        if a.raw != b.raw and _canonical(a) != _canonical(b):
            return f"message {index} differs (at {a.log_ns / 1e9:.3f} s and {b.log_ns / 1e9:.3f} s)"
    if len(first) != len(second):
        return f"{len(first)} messages and {len(second)}"
    return None


def _canonical(message: BagMessage) -> bytes:
    """The message written again: what lies between the fields on the wire is undefined.

    As it is, where it is of no stock type, or not what its type says.
    """
    if message.type not in typestore().fielddefs or not fits_type(message.raw, message.type):
        return message.raw
    decoded = typestore().deserialize_cdr(message.raw, message.type)
    return bytes(typestore().serialize_cdr(decoded, message.type))
