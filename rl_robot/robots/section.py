"""A part of a YAML file that says in one line what is wrong with it, and where."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rl_robot.errors import UserError

_TOPIC = re.compile(r"/?[A-Za-z]\w*(/[A-Za-z]\w*)*", re.ASCII)


class Section:
    """A mapping of the YAML that knows where it stands, for messages that say what is wrong.

    Every method raises a UserError where the YAML holds something else than it returns.
    """

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise UserError(f"{where}: expected a mapping of names to values, got {values!r}")
        self._values = values
        self._where = where
        self._used: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def error(self, text: str) -> UserError:
        """Return the error to raise, with the place before the text."""
        return UserError(f"{self._where}: {text}")

    def names(self) -> list[str]:
        """Return the keys."""
        for name in self._values:
            if not isinstance(name, str) or not name:
                raise self.error(f"the name {name!r} must be text")
        return list(self._values)

    def value(self, key: str) -> Any:
        """Return the value of a key, whatever it is."""
        self._used.add(key)
        if key not in self._values:
            raise self.error(f"{key} is missing")
        return self._values[key]

    def section(self, key: str) -> "Section":
        """Return a mapping in this one."""
        return Section(self.value(key), f"{self._where}: {key}")

    def text(self, key: str) -> str:
        """Return text that is not empty."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"{key} is {value!r}, it must be text")
        return value

    def topic(self, key: str) -> str:
        """Return the name of a ROS topic or action."""
        value = self.text(key)
        if not _TOPIC.fullmatch(value) or "__" in value:
            raise self.error(f"{key} is {value!r}, it must be a topic's name such as arm/commands")
        return value

    def number(self, key: str) -> float:
        """Return a finite number."""
        return self._number(key, self.value(key))

    def positive(self, key: str) -> float:
        """Return a number above 0."""
        value = self.number(key)
        if value <= 0.0:
            raise self.error(f"{key} is {value:g}, it must be above 0")
        return value

    def whole(self, key: str) -> int:
        """Return a whole number above 0."""
        value = self.positive(key)
        if value != int(value):
            raise self.error(f"{key} is {value:g}, it must be a whole number")
        return int(value)

    def truth(self, key: str) -> bool:
        """Return true or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.error(f"{key} is {value!r}, it must be true or false")
        return value

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """Return a list of ``count`` finite numbers."""
        values = self.value(key)
        if not isinstance(values, list) or len(values) != count:
            raise self.error(f"{key} is {values!r}, it must be a list of {count} numbers")
        return tuple(self._number(key, value) for value in values)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, at least one."""
        values = self.value(key)
        if not isinstance(values, list) or not values:
            raise self.error(f"{key} is {values!r}, it must be a list of names")
        for value in values:
            if not isinstance(value, str):
                raise self.error(f"{key} has {value!r}, names must be text")
        return tuple(values)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of ``choices``."""
        value = self.text(key)
        if value not in choices:
            raise self.error(f"{key} is {value}, it must be {' or '.join(choices)}")
        return value

    def refuse_others(self, *optional: str) -> None:
        """Refuse keys that nobody asked for, and that are not ``optional``: most are misspelt."""
        known = self._used | set(optional)
        for name in self.names():
            if name not in known:
                raise self.error(f"unknown key {name}; known are {list_names(sorted(known))}")

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{key} is {value!r}, it must be a number")
        if not abs(value) <= sys.float_info.max:  # nor is what is not a number
            raise self.error(f"{key} is {value}, it must be finite")
        return float(value)


def list_names(names: Sequence[str]) -> str:
    """Return names for a message."""
    return ", ".join(names) if names else "none"
