"""Messages of any stock type with any contents, for property tests."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rosbags.interfaces import Nodetype

from rl_robot.bags import typestore

DTYPES = {"bool": "bool", "byte": "uint8", "char": "uint8"}  # whose names numpy has otherwise
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


def messages(message_type: str, most: int = 3) -> st.SearchStrategy[Any]:
    """Draw messages whose sequences have up to ``most`` elements."""
    fields = {name: _field(kind, most) for name, kind in _fields(message_type)}
    return st.builds(typestore().types[message_type], **fields)


def serialized(message_type: str, most: int = 3) -> st.SearchStrategy[bytes]:
    """Draw them as they travel, in either byte order."""
    return st.builds(
        lambda message, little: to_wire(message, message_type, little=little),
        messages(message_type, most),
        st.booleans(),
    )


def to_wire(message: Any, message_type: str, *, little: bool = True) -> bytes:
    return bytes(typestore().serialize_cdr(message, message_type, little_endian=little))


def leaves(message: Any, message_type: str, prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Go through a decoded message: the path of each field that is no message, and its values."""
    for name, (kind, detail) in _fields(message_type):
        value, path = getattr(message, name), f"{prefix}{name}"
        if kind == Nodetype.NAME:
            yield from leaves(value, detail, f"{path}.")
        elif kind == Nodetype.BASE:
            yield path, [value]
        elif detail[0][0] == Nodetype.NAME:
            for index, element in enumerate(value):
                yield from leaves(element, detail[0][1], f"{path}.{index}.")
        else:
            yield path, list(value)


def _fields(message_type: str) -> Any:
    return typestore().fielddefs[message_type][1]


def _field(kind: Any, most: int) -> st.SearchStrategy[Any]:
    node, detail = kind
    if node == Nodetype.NAME:
        return messages(detail, most)
    if node == Nodetype.BASE:
        return _value(detail[0])
    element, length = detail
    sizes = (length, length) if node == Nodetype.ARRAY else (0, min(length or most, most))
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        dtype = np.dtype(DTYPES.get(element[1][0], element[1][0]))
        values = _value("byte") if element[1][0] == "byte" else None
        return st.integers(*sizes).flatmap(lambda size: arrays.arrays(dtype, size, elements=values))
    return st.lists(_field(element, most), min_size=sizes[0], max_size=sizes[1])


def _value(name: str) -> st.SearchStrategy[Any]:
    if name == "string":
        return TEXTS
    if name == "bool":
        return st.booleans()
    if name.startswith("float"):
        return st.floats(width=64 if name == "float64" else 32)
    if name == "byte":
        return st.integers(0, 127)  # above, the stock decoder takes it for a signed one
    info = np.iinfo(DTYPES.get(name, name))
    return st.integers(int(info.min), int(info.max))
