"""A faults file: what is to go wrong with which topics, read strictly."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from rl_robot.errors import UserError
from rl_robot.resources import resource_files

FOLDER = "config/faults"
NO_FAULTS = "none"
BITS = "bits"
NAMES = "names"
NUMBERS: Mapping[str, float] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "huge": 1e308,
    "denormal": 5e-324,
}
CORRUPTIONS = (BITS, *NUMBERS, NAMES)


def _within(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """Return a field for numbers from ``low`` to ``high``."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """When something goes wrong with a topic; what does, the subclasses say.

    Attributes:
        start: first second, from the start of the faults (``from`` in the file).
        until: second from which on nothing happens any more.
        probability: that it happens to a message, or that a burst of it begins there.
        burst: messages in a row that it happens to once it has begun.
    """

    start: float = _within(0.0, math.inf, 0.0)
    until: float = _within(0.0, math.inf, math.inf)
    probability: float = _within(0.0, 1.0, 1.0)
    burst: int = _within(1, 1_000_000, 1)


@dataclass(frozen=True, kw_only=True)
class Drop(Fault):
    """Messages get lost."""


@dataclass(frozen=True, kw_only=True)
class Delay(Fault):
    """Messages come ``seconds`` late, and up to ``jitter`` seconds more.

    With ``keep_order`` none overtakes another, as on one connection.
    """

    seconds: float = _within(0.0, 60.0)
    jitter: float = _within(0.0, 60.0, 0.0)
    keep_order: bool = True


@dataclass(frozen=True, kw_only=True)
class Duplicate(Fault):
    """Messages come ``copies`` times more."""

    copies: int = _within(1, 100, 1)


@dataclass(frozen=True, kw_only=True)
class Reorder(Fault):
    """One message waits until ``behind`` later ones have passed, or for ``within`` seconds."""

    behind: int = _within(1, 1000, 1)
    within: float = _within(0.0, 60.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Freeze(Fault):
    """Messages come with the contents of the one before; with ``restamp`` they look fresh."""

    restamp: bool = False


@dataclass(frozen=True, kw_only=True)
class Corrupt(Fault):
    """Messages are damaged: ``bits`` of them flipped, or ``what`` put in place of a field."""

    what: str = field(default=BITS, metadata={"choices": CORRUPTIONS})
    bits: int = _within(1, 10_000, 8)


@dataclass(frozen=True, kw_only=True)
class Stamp(Fault):
    """Messages are stamped ``offset`` seconds later, or earlier where it is negative."""

    offset: float = _within(-1e9, 1e9)


KINDS: Mapping[str, type[Fault]] = {
    kind.__name__.lower(): kind
    for kind in (Drop, Delay, Duplicate, Reorder, Freeze, Corrupt, Stamp)
}


@dataclass(frozen=True)
class Plan:
    """What goes wrong: topic -> its faults, in the order in which a message meets them."""

    topics: Mapping[str, tuple[Fault, ...]]


def available_plans() -> list[str]:
    """Names of the faults files that come with the package."""
    return [path.stem for path in resource_files(FOLDER, ".yaml")]


def load_plan(name_or_path: str) -> Plan:
    """Load a faults file that comes with the package by name, or one's own by its path.

    Raises:
        UserError: an unknown name, or a file with a mistake.
    """
    path = _plan_file(name_or_path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"faults file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"faults file {path} is no YAML: {reason}") from error
    return parse_plan(values, str(path))


def parse_plan(values: Any, where: str) -> Plan:
    """Return the plan that the contents of a faults file say; ``where`` begins every complaint.

    Raises:
        UserError: a key, kind or value that is not known or can't be.
    """
    if not isinstance(values, Mapping) or list(values) != ["topics"]:
        raise UserError(f"{where}: expected one key, topics, with a list of faults for each topic")
    topics = values["topics"]
    if not isinstance(topics, Mapping) or not topics:
        raise UserError(f"{where}: topics is {topics!r}, expected a list of faults for each topic")
    return Plan({str(name): _faults(given, f"{where}: {name}") for name, given in topics.items()})


def _plan_file(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    for path in resource_files(FOLDER, ".yaml"):
        if path.stem == name_or_path:
            return path
    known = ", ".join((NO_FAULTS, *available_plans()))
    raise UserError(f"unknown faults '{name_or_path}': expected {known}, or a file's path.yaml")


def _faults(given: Any, where: str) -> tuple[Fault, ...]:
    if not isinstance(given, list):
        raise UserError(f"{where}: expected a list of faults, [] for none, got {given!r}")
    return tuple(_fault(one, where) for one in given)


def _fault(given: Any, where: str) -> Fault:
    """Return one fault, as in ``drop: {probability: 0.1}``."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise UserError(f"{where}: expected a fault such as drop: {{burst: 3}}, got {given!r}")
    ((name, values),) = given.items()
    kind = KINDS.get(name)
    if kind is None:
        raise UserError(f"{where}: unknown fault '{name}': expected one of {', '.join(KINDS)}")
    where = f"{where}: {name}"
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected its settings, {{}} for none, got {values!r}")
    settings = {_key(one): one for one in dataclasses.fields(kind)}
    for key in values:
        if key not in settings:
            raise UserError(f"{where}: unknown key '{key}': expected some of {', '.join(settings)}")
    for key, setting in settings.items():
        if setting.default is dataclasses.MISSING and key not in values:
            raise UserError(f"{where}: {key} is missing")
    hints = get_type_hints(kind)
    given = {
        settings[key].name: _setting(f"{where}: {key}", value, settings[key], hints)
        for key, value in values.items()
    }
    fault = kind(**given)
    if fault.until <= fault.start:
        raise UserError(f"{where}: until {fault.until:g} s is not after from {fault.start:g} s")
    return fault


def _key(setting: "dataclasses.Field[Any]") -> str:
    """Return a setting's key in the file, where ``from`` is no name of Python's."""
    return "from" if setting.name == "start" else setting.name


def _setting(
    where: str, value: Any, setting: "dataclasses.Field[Any]", hints: Mapping[str, type]
) -> Any:
    """Return a checked value of a setting.

    Raises:
        UserError: another type, or out of range.
    """
    kind = hints[setting.name]
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where} is {value!r}, expected true or false")
        return value
    if kind is str:
        choices: Sequence[str] = setting.metadata["choices"]
        if str(value) not in choices:
            raise UserError(f"{where} is {value!r}, expected one of {', '.join(choices)}")
        return str(value)
    low, high = setting.metadata["low"], setting.metadata["high"]
    whole = " whole" if kind is int else ""
    number = not isinstance(value, bool) and isinstance(value, int if whole else int | float)
    if not number or not low <= value <= high:
        top = "" if high == math.inf else f" to {high:g}"
        raise UserError(f"{where} is {value!r}, expected a{whole} number from {low:g}{top}")
    return kind(value)
