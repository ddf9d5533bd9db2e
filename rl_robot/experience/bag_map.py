"""What of a bag is observation, action and reward: a YAML that maps any recorder's topics.

::

    ticks: {period: 0.1}                  # a grid through the stamps of the first observation, or
    # ticks: {topic: /camera/image_raw}   # one at each message of a topic
    observations:
      joints: {topic: /joint_states, fields: [position, velocity], names: [shoulder, elbow]}
      front: {topic: /camera/image_raw/compressed, size: [64, 64], offset: -0.03, max_age: 0.2}
    action: {topic: /arm_controller/joint_trajectory}
    proposed: {topic: /policy/action}     # optional, as are reward and terminated
    reward: {topic: /reward, names: [total]}
    terminated: {topic: /reward, names: [terminated]}

Of each source:

- ``topic``: its name in the bag;
- ``fields``: paths of numbers in the message; all numbers below each are taken, in their order.
  Types that are common in robots' bags have a default;
- ``names``: which of the named values (joints), for types that name them; by default those that
  the first message names;
- ``size``: [width, height] of pictures;
- ``stamp``: ``header`` (the default where there is one) or ``log``: when it was recorded;
- ``offset``: s to be added to its stamps, where they are known to be off;
- ``scale``: what its numbers are multiplied by, one factor or one for each;
- ``max_age``: s; where the newest is older at a tick, there is a gap.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rl_robot.bags import relative_topic
from rl_robot.errors import UserError
from rl_robot.robots.section import Section

_PICTURE_SIZE = (64, 64)
_LARGEST_PICTURE = 4096
_NAME = re.compile(r"[\w./-]+")
_PERIODS = (1e-4, 1e4)  # s; beyond, it is a mistake
_LARGEST_OFFSET = 4e9  # s: a clock that was never set is off by some 1.8e9
_KEYS = ("fields", "names", "size", "stamp", "offset", "scale", "max_age")
_OPTIONAL = ("proposed", "reward", "terminated")


@dataclass(frozen=True)
class Source:
    """A topic of a bag as numbers or pictures; see the module's text.

    ``only_stamps``: when it spoke is all that counts, whatever it said.
    """

    topic: str
    fields: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    size: tuple[int, int] = _PICTURE_SIZE
    stamp: str = "header"
    offset_ns: int = 0
    scale: tuple[float, ...] = ()
    max_age: float = math.inf
    only_stamps: bool = False


@dataclass(frozen=True)
class BagMap:
    """A whole mapping; see the module's text.

    Attributes:
        observations: by name.
        action: what was executed.
        ticks: the topic whose messages are the ticks; empty for a grid.
        period: s from tick to tick; 0: the median of what the topic's stamps say.
    """

    observations: dict[str, Source]
    action: Source
    ticks: str = ""
    period: float = 0.0
    proposed: Source | None = None
    reward: Source | None = None
    terminated: Source | None = None

    @property
    def topics(self) -> list[str]:
        """All topics that are needed, each once."""
        sources = [*self.observations.values(), self.action]
        sources += [s for s in (self.proposed, self.reward, self.terminated) if s]
        named = [source.topic for source in sources]
        return list(dict.fromkeys([*named, *([self.ticks] if self.ticks else [])]))

    def relative(self, namespace: str = "/") -> "BagMap":
        """Return the map with topics named as `BagReader` names those of a bag's namespace."""

        def renamed(source: Source) -> Source:
            return replace(source, topic=relative_topic(source.topic, namespace))

        return replace(
            self,
            observations={name: renamed(source) for name, source in self.observations.items()},
            action=renamed(self.action),
            ticks=relative_topic(self.ticks, namespace),
            proposed=self.proposed and renamed(self.proposed),
            reward=self.reward and renamed(self.reward),
            terminated=self.terminated and renamed(self.terminated),
        )


def load_bag_map(path: Path | str) -> BagMap:
    """Read a mapping from its YAML file.

    Raises:
        UserError: there is no such file, or it says something that can't be.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    top = Section(document, str(path))
    observed = top.section("observations")
    names = observed.names()
    if not names:
        raise observed.error("at least one is needed")
    for name in names:
        if not _NAME.fullmatch(name):
            raise observed.error(f"the name {name!r} must be of letters, digits and _ . / -")
    ticks = top.section("ticks") if "ticks" in top else Section({"period": 0.1}, str(path))
    topic = ticks.text("topic") if "topic" in ticks else ""
    period = ticks.positive("period") if "period" in ticks else 0.0
    ticks.refuse_others()
    if not topic and not period:
        raise ticks.error("a topic or a period is needed")
    if period and not _PERIODS[0] <= period <= _PERIODS[1]:
        raise ticks.error(f"period is {period:g} s, it must be {_PERIODS[0]:g} to {_PERIODS[1]:g}")
    found = BagMap(
        observations={name: _source(observed.section(name)) for name in names},
        action=_source(top.section("action")),
        ticks=topic,
        period=period,
        **{name: _source(top.section(name)) for name in _OPTIONAL if name in top},
    )
    top.refuse_others("ticks", *_OPTIONAL)
    return found


def as_yaml(bag_map: BagMap) -> str:
    """Return a mapping as the YAML that `load_bag_map` reads."""
    ticks: dict[str, Any] = {"topic": bag_map.ticks} if bag_map.ticks else {}
    if bag_map.period:
        ticks["period"] = bag_map.period
    document: dict[str, Any] = {
        "ticks": ticks,
        "observations": {name: _as_table(s) for name, s in bag_map.observations.items()},
        "action": _as_table(bag_map.action),
    }
    for name in _OPTIONAL:
        source = getattr(bag_map, name)
        if source is not None:
            document[name] = _as_table(source)
    return yaml.safe_dump(document, sort_keys=False)


def _as_table(source: Source) -> dict[str, Any]:
    """What differs from the defaults."""
    table: dict[str, Any] = {"topic": source.topic}
    for name in ("fields", "names", "scale"):
        if getattr(source, name):
            table[name] = list(getattr(source, name))
    if source.size != _PICTURE_SIZE:
        table["size"] = list(source.size)
    if source.stamp != "header":
        table["stamp"] = source.stamp
    if source.offset_ns:
        table["offset"] = source.offset_ns * 1e-9
    if source.max_age != math.inf:
        table["max_age"] = source.max_age
    return table


def _source(section: Section) -> Source:
    found = Source(
        topic=section.text("topic"),
        fields=section.texts("fields") if "fields" in section else (),
        names=section.texts("names") if "names" in section else (),
        size=_size(section) if "size" in section else _PICTURE_SIZE,
        stamp=section.choice("stamp", ("header", "log")) if "stamp" in section else "header",
        offset_ns=_offset_ns(section) if "offset" in section else 0,
        scale=_scale(section) if "scale" in section else (),
        max_age=section.positive("max_age") if "max_age" in section else math.inf,
    )
    section.refuse_others(*_KEYS)
    return found


def _offset_ns(section: Section) -> int:
    value = section.number("offset")
    if abs(value) > _LARGEST_OFFSET:
        raise section.error(f"offset is {value:g} s, it must be within {_LARGEST_OFFSET:g}")
    return round(value * 1e9)


def _size(section: Section) -> tuple[int, int]:
    value = section.value("size")
    whole = (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(type(v) is int and 0 < v <= _LARGEST_PICTURE for v in value)
    )
    if not whole:
        raise section.error(
            f"size is {value!r}, it must be [width, height] in pixels, at most {_LARGEST_PICTURE}"
        )
    return int(value[0]), int(value[1])


def _scale(section: Section) -> tuple[float, ...]:
    value = section.value("scale")
    factors = value if isinstance(value, list) and value else [value]
    if not all(isinstance(f, int | float) and not isinstance(f, bool) for f in factors):
        raise section.error(f"scale is {value!r}, it must be a number, or a list of numbers")
    if not all(math.isfinite(factor) for factor in factors):
        raise section.error(f"scale is {value!r}, it must be finite")
    return tuple(map(float, factors))
