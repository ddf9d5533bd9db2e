"""Messages that wait until they are asked for, so that nobody is woken by them.

Being woken costs a process several times what taking a message costs. Of ten joint states per
control period only the one at the tick is looked at, and a recorder has no hurry at all.
"""

from typing import Any, NamedTuple

from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription


class Letter(NamedTuple):
    """One serialized message and the wall time at which it was published."""

    raw: bytes
    published_ns: int


class Mailbox:
    """A subscription that no executor looks after; it keeps as many messages as its depth."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def take(self) -> list[Letter]:
        """Return what came since the last call, oldest first."""
        handle = self._subscription.handle
        letters = []
        with handle:
            while (taken := handle.take_message(self._subscription.msg_type, True)) is not None:
                raw, info = taken
                letters.append(Letter(raw, info["source_timestamp"]))
        return letters

    def decode(self, letter: Letter) -> Any:
        """Return a letter as a message."""
        return deserialize_message(letter.raw, self._subscription.msg_type)
