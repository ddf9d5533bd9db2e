"""Other numbers and names in serialized messages of any type."""

from collections.abc import Iterator
from importlib import import_module
from random import Random
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message
from rosidl_parser.definition import (
    AbstractNestedType,
    AbstractString,
    BasicType,
    NamespacedType,
)

from rl_robot.faults.plan import NAMES, NUMBERS

_UNKNOWN = "unknown"
_Slot = tuple[Any, Any]  # a message and its field's name, or a sequence and a place in it


def tamper(kind: Any, raw: bytes, what: str, luck: Random) -> bytes:
    """Return a message with ``what``, see `Corrupt`, in place of one of its numbers or names.

    Args:
        kind: the message's type.
        raw: the serialized message; one that can't be read is returned as it is.
        what: a name of `NUMBERS`; or `NAMES`, for an unknown name or one that is there already.
        luck: where the place and the name come from.
    """
    try:
        message = deserialize_message(raw, kind)
    except (RuntimeError, ValueError):
        return raw
    slots = list(_slots(message, what))
    if not slots:
        return raw
    container, place = luck.choice(slots)
    value = luck.choice([*container, _UNKNOWN]) if what == NAMES else NUMBERS[what]
    if isinstance(place, str):
        setattr(container, place, value)
    else:
        container[place] = value
    return bytes(serialize_message(message))


def has_field(kind: Any, what: str) -> bool:
    """Whether messages of a type have fields that `tamper` can put ``what`` into."""
    return any(
        _fits(slot, what) or (part is not None and has_field(part, what))
        for slot in kind.SLOT_TYPES
        for part in [_message_type(slot)]
    )


def is_stamped(kind: Any) -> bool:
    """Whether messages of a type begin with a stamp: a header, or the time of a clock."""
    first = kind.SLOT_TYPES[0]
    return isinstance(first, NamespacedType) and first.name in ("Header", "Time")


def _slots(message: Any, what: str) -> Iterator[_Slot]:
    """Yield the places of a message that ``what`` fits into."""
    for name, slot in zip(message.get_fields_and_field_types(), message.SLOT_TYPES, strict=True):
        value = getattr(message, name)
        several = isinstance(slot, AbstractNestedType)
        if _fits(slot, what):
            yield from (
                ((value, place) for place in range(len(value))) if several else [(message, name)]
            )
        elif _message_type(slot) is not None:
            for part in value if several else [value]:
                yield from _slots(part, what)


def _fits(slot: Any, what: str) -> bool:
    """Whether a field, or each element of it, is of the kind that ``what`` replaces."""
    if what == NAMES:
        return isinstance(slot, AbstractNestedType) and isinstance(slot.value_type, AbstractString)
    element = slot.value_type if isinstance(slot, AbstractNestedType) else slot
    return isinstance(element, BasicType) and element.typename in ("float", "double")


def _message_type(slot: Any) -> Any:
    """Return the class of the messages that a field consists of; None if it is none."""
    element = slot.value_type if isinstance(slot, AbstractNestedType) else slot
    if not isinstance(element, NamespacedType):
        return None
    return getattr(import_module(".".join(element.namespaces)), element.name)
