"""What a bag says of itself: names of topics, quality of service, and what the episode was."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import yaml

OUTCOMES = ("success", "terminated", "truncated", "broken")
TERMINAL = ("success", "terminated")  # outcomes after which there was nothing more to gain
CUSTOM = "rl_robot"  # name of the metadata record inside the .mcap


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
