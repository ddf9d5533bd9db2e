"""A policy's actions as they are compared: with those proposed, and with those executed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rl_robot.bags import BagMessage, typestore

POLICY_ACTION = "policy/action"
EXECUTED_ACTION = "executed action"  # the topic that those executed have in a comparison
_TYPE = "sensor_msgs/msg/JointState"


def actions_alone(messages: Iterable[BagMessage], names: Sequence[str]) -> list[BagMessage]:
    """Return messages, ``policy/action`` without the numbers that are no action."""
    return [
        _action(message, names) if message.topic == POLICY_ACTION else message
        for message in messages
    ]


def with_executed(
    recorded: Sequence[BagMessage],
    again: Sequence[BagMessage],
    executed: Mapping[int, Sequence[float]],
    names: Sequence[str],
) -> tuple[list[BagMessage], list[BagMessage]]:
    """Return both sides with `EXECUTED_ACTION`: executed then, and asked for again.

    Args:
        recorded: the bag's messages.
        again: what was said again.
        executed: actions (A,) by stamp, ns.
        names: A names.
    """
    then = [_numbers(stamp, names, action) for stamp, action in executed.items()]
    asked = [message for message in again if message.topic == POLICY_ACTION]
    now = [_action(message, names)._replace(topic=EXECUTED_ACTION) for message in asked]
    return [*recorded, *then], [*again, *now]


def _action(message: BagMessage, names: Sequence[str]) -> BagMessage:
    said: Any = typestore().deserialize_cdr(message.raw, message.type)
    values = dict(zip(said.name, said.position.tolist(), strict=False))
    kept = [name for name in names if name in values]
    made = _numbers(message.log_ns, kept, [values[name] for name in kept])
    return made._replace(topic=message.topic)


def _numbers(stamp_ns: int, names: Sequence[str], values: Sequence[float]) -> BagMessage:
    types = typestore().types
    time = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    header = types["std_msgs/msg/Header"](time, "")
    numbers, none = np.array(values, np.float64), np.empty(0)
    raw = typestore().serialize_cdr(types[_TYPE](header, list(names), numbers, none, none), _TYPE)
    return BagMessage(EXECUTED_ACTION, _TYPE, stamp_ns, 0, bytes(raw))
