"""What a bag says of itself: names of topics, quality of service, and what the episode was."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

OUTCOMES = ("success", "terminated", "truncated", "broken")
TERMINAL = ("success", "terminated")  # outcomes after which there was nothing more to gain
CUSTOM = "rl_robot"  # name of the metadata record inside the .mcap
METADATA_FILE = "metadata.yaml"  # rosbag2's, in a bag's folder
ROSBAG2 = "rosbag2_bagfile_information"  # what all in it is under

_FILE_BYTES = 64 << 20
_TREE = 1 << 20  # values of a metadata.yaml, those that aliases repeat counted each time
_TREE_CHARACTERS = 64 << 20  # and their characters
# What PyYAML raises beside its own errors for values that are not what their tags say.
_MISREAD = (RecursionError, AttributeError, LookupError, ArithmeticError, TypeError)
_TEXT = 1 << 20  # characters of a value of the custom data


@dataclass(frozen=True)
class TopicQos:
    """The offered quality of service that a bag keeps, so that it is played back the same."""

    depth: int = 10
    reliable: bool = True
    transient_local: bool = False


def qos_of(profiles: str) -> TopicQos:
    """Return the first of the QoS profiles that a channel's metadata lists, as far as kept here.

    Both ways in which rosbag2 has written them are known: by names and by numbers.
    """
    try:
        profile = yaml.safe_load(profiles)[0]
        return TopicQos(
            depth=int(profile["depth"]),
            reliable=profile["reliability"] in ("reliable", 1),
            transient_local=profile["durability"] in ("transient_local", 1),
        )
    except (yaml.YAMLError, LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return TopicQos()


def load_metadata(folder: Path) -> dict[str, Any]:
    """Return what a bag's ``metadata.yaml`` says.

    A few lines of YAML can stand for any number of values, by aliases of aliases: such a file is
    refused before anything is made of it.

    Raises:
        OSError: it can't be read.
        ValueError: it is too large, no YAML, or says nothing of a bag.
    """
    file = folder / METADATA_FILE
    if file.stat().st_size > _FILE_BYTES:
        raise ValueError(f"{METADATA_FILE} has more than {_FILE_BYTES >> 20} MB")
    try:
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _require_bounded(node)
        document = loader.construct_document(node) if node else None
    except (yaml.YAMLError, *_MISREAD) as error:
        raise ValueError(f"{METADATA_FILE}: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get(ROSBAG2), dict):
        raise ValueError(f"{METADATA_FILE} says nothing of a bag")
    return document


def _require_bounded(node: yaml.Node | None) -> None:
    """Raise ValueError for a tree that is too large with its aliases followed."""
    waiting = [node]
    values = characters = 0
    while waiting:
        one = waiting.pop()
        values += 1
        if isinstance(one, yaml.ScalarNode):
            characters += len(one.value)
            if one.tag == "tag:yaml.org,2002:merge":
                raise ValueError(f"{METADATA_FILE} merges tables, which rosbag2 never does")
        elif isinstance(one, yaml.SequenceNode):
            waiting += one.value
        elif isinstance(one, yaml.MappingNode):
            waiting += (part for pair in one.value for part in pair)
        if values + len(waiting) > _TREE or characters > _TREE_CHARACTERS:
            raise ValueError(f"{METADATA_FILE} says far too much")


def custom_of(said: Any) -> dict[str, str]:
    """Return rosbag2's custom data as strings: what in it is one, or a number."""
    table = said if isinstance(said, dict) else {}
    return {
        _text(key): _text(value)
        for key, value in table.items()
        if isinstance(key, _SCALARS) and isinstance(value, _SCALARS)
    }


_SCALARS = (str, int, float, bool)


def _text(value: str | float) -> str:
    # The digits of a huge number take a time that grows with their square, and may be refused.
    if isinstance(value, int) and value.bit_length() > 64:
        return hex(value)[:_TEXT]
    return str(value)[:_TEXT]


@dataclass(frozen=True)
class EpisodeMetadata:
    """What an episode was, kept in its bag.

    ``outcome`` is "success", "terminated" (the task ended it without success), "truncated" (the
    time limit ended it) or "broken" (something other than the policy ended it: not a failure of
    the policy). ``reason`` says the rest in words. ``start`` is the JSON of the task's start, which
    is number ``index`` of its ``split``.
    """

    episode: int
    robot: str
    task: str
    split: str
    index: int
    start: str
    policy: str
    policy_version: str
    seed: int
    outcome: str
    reason: str = ""
    steps: int = 0
    lost_periods: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r} is not one of {', '.join(OUTCOMES)}")

    def to_strings(self) -> dict[str, str]:
        """The table of strings that rosbag2 calls custom data."""
        values = asdict(self)
        extra = values.pop("extra")
        return {name: str(value) for name, value in values.items()} | dict(extra)

    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> "EpisodeMetadata":
        """Read back what `to_strings` gave; names this version does not know go to ``extra``.

        Raises:
            KeyError, ValueError: a value is missing or is not of its type.
        """
        known = {f.name for f in fields(cls)} - {"extra"}
        parsed: dict[str, Any] = {name: values[name] for name in known}
        for name in ("episode", "index", "seed", "steps", "lost_periods"):
            parsed[name] = int(parsed[name])
        return cls(**parsed, extra={k: v for k, v in values.items() if k not in known})


def absolute_topic(name: str, namespace: str) -> str:
    """``name`` as it stands in a bag: "joint_states" -> "/joint_states" or "/left/joint_states"."""
    return name if name.startswith("/") else f"{namespace.rstrip('/')}/{name}"


def relative_topic(name: str, namespace: str) -> str:
    """The inverse of `absolute_topic`; names outside the namespace stay absolute."""
    prefix = namespace.rstrip("/") + "/"
    return name[len(prefix) :] if name.startswith(prefix) else name
