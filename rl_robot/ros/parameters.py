"""Node parameters from dataclasses: declared, converted and checked in one place."""

import dataclasses
from typing import Any, TypeVar, get_type_hints

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from rl_robot.errors import UserError

T = TypeVar("T")


def read_parameters(node: Node, parameters: type[T]) -> T:
    """Declare every field of the dataclass as a parameter and return the values given.

    A launch file and a command line guess the type of a value from its looks (a run called ``7``
    becomes an integer), so each is converted to the type of its field.

    Raises:
        UserError: a value does not convert to its field's type.
    """
    descriptor = ParameterDescriptor(dynamic_typing=True)
    hints = get_type_hints(parameters)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(parameters):  # type: ignore[arg-type]
        default = None if field.default is dataclasses.MISSING else field.default
        if not node.has_parameter(field.name):  # some the node itself has declared
            node.declare_parameter(field.name, default, descriptor)
        given = node.get_parameter(field.name).value
        if given is None:
            raise UserError(f"{node.get_name()}: parameter '{field.name}' is missing")
        values[field.name] = _convert(node.get_name(), field.name, given, hints[field.name])
    return parameters(**values)


def _convert(node_name: str, name: str, value: Any, kind: type) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
    else:
        try:
            return kind(value)
        except (TypeError, ValueError):
            pass
    raise UserError(f"{node_name}: parameter '{name}' is {value!r}, it should be a {kind.__name__}")
