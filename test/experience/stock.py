"""Stock messages of any type, from plain values, and topics of a bag made of them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from rl_robot.bags import typestore
from rl_robot.bags.messages import Series

SECOND = 1_000_000_000


def stock(
    message_type: str, values: Mapping[str, Any] | None = None, *, stamp_ns: int = 0
) -> bytes:
    """Serialize a message: nested mappings and lists of values; zeros and no text by default."""
    message = _made(message_type, values or {})
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
    return bytes(typestore().serialize_cdr(message, message_type))


def topic(message_type: str, messages: Iterable[tuple[int, bytes]]) -> Series:
    """A topic of (log time, message), each published a microsecond before it was recorded."""
    told = list(messages)
    log_ns = [log for log, _ in told]
    return Series(message_type, log_ns, [log - 1000 for log in log_ns], [raw for _, raw in told])


def _made(message_type: str, values: Mapping[str, Any]) -> Any:
    fields = typestore().fielddefs[message_type][1]
    unknown = values.keys() - {name for name, _ in fields}
    assert not unknown, f"{message_type} has no {unknown}"
    return typestore().types[message_type](
        **{name: _value(kind, values.get(name)) for name, kind in fields}
    )


def _value(kind: Any, value: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return _made(detail, value or {})
    if node == Nodetype.BASE:
        return ("" if detail[0] == "string" else 0) if value is None else value
    (element, inner), length = detail
    count = length if node == Nodetype.ARRAY else 0
    if element == Nodetype.NAME:
        return [_made(inner, one) for one in value or [{}] * count]
    if inner[0] == "string":
        return list(value or [""] * count)
    dtype = {"bool": "?", "byte": "u1", "char": "u1"}.get(inner[0], inner[0])
    return np.asarray(np.zeros(count) if value is None else value, dtype)
