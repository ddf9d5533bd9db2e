"""player: a recorded episode back into the graph, at the pace it was captured or another.

Topics of nodes that run again beside it are left out, so that, say, a new perception sees the old
pictures and nobody hears two of them.
"""

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile

from rl_robot.errors import UserError
from rl_robot.experience.bags import BagMessage, BagReader
from rl_robot.ros import topics
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.parameters import read_parameters

SUBSCRIBER_TIMEOUT = 15.0  # s to wait for the nodes that run again
END_WAIT = 0.5  # s for the last messages to arrive


@dataclass(frozen=True)
class Parameters:
    """Parameters of the player node."""

    bag: str = ""
    rate: float = 1.0


class PlayerNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("player")
        given = read_parameters(self, Parameters)
        if not given.rate > 0.0:
            raise UserError(f"rate {given.rate} must be above 0")
        self._rate = given.rate
        again = set(self.session_nodes) - {"player"}
        reader = BagReader(given.bag)
        played = [
            name
            for name in reader.types
            if name != topics.DIAGNOSTICS.name and not _by(name, again)
        ]
        self._outputs = {name: self._output(name, reader.types[name]) for name in played}
        self._messages: Iterator[BagMessage] = reader.messages(played)
        self._next = next(self._messages, None)
        self._first_ns = self._next.log_ns if self._next else 0
        self._awaited = again
        self._created = time.monotonic()
        self._began = 0.0
        self._ended = 0.0
        self._count = 0
        self.every(0.002, self._play)

    def _output(self, name: str, type_name: str) -> Publisher:
        row = _row(name)
        if row is not None:
            profile = row.quality.profile()
        else:
            profile = QoSProfile(depth=10, durability=DurabilityPolicy.VOLATILE)
        return self.create_publisher(_message_type(type_name), name, profile)

    def _ready(self) -> bool:
        """Whether the nodes that run again listen, or have been waited for long enough."""
        heard = {info.node_name for info in self.get_publishers_info_by_topic("diagnostics")}
        waited = time.monotonic() - self._created
        if self._awaited <= heard and waited > 1.0:
            return True
        if waited > SUBSCRIBER_TIMEOUT:
            raise UserError(f"{', '.join(sorted(self._awaited - heard))} did not come up")
        return False

    def _play(self) -> None:
        now = time.monotonic()
        if not self._began:
            if not self._ready():
                return
            self._began = now
        while self._next is not None:
            due = self._began + (self._next.log_ns - self._first_ns) * 1e-9 / self._rate
            if due > now:
                return
            self._outputs[self._next.topic].publish(self._next.raw)
            self._count += 1
            self._next = next(self._messages, None)
        self._ended = self._ended or now
        if now - self._ended > END_WAIT:
            print(f"played {self._count} messages in {self._ended - self._began:.1f} s", flush=True)
            self.exit_code = 0


def _row(name: str) -> topics.Topic | None:
    return next((row for row in topics.TOPICS if row.matches(name)), None)


def _by(name: str, nodes: set[str]) -> bool:
    """Whether one of the nodes publishes the topic."""
    row = _row(name)
    return row is not None and row.publisher in nodes


def _message_type(name: str) -> Any:
    """Return the class of a message type such as sensor_msgs/msg/Image.

    Raises:
        UserError: its package is not installed.
    """
    package, _, kind = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError):
        raise UserError(f"message type {name} is not installed") from None


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(PlayerNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
