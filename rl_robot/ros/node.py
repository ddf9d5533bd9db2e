"""What every node of the graph does alike: topics from the table, health, signals, a clean end."""

import contextlib
import gc
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from rl_robot.errors import LostProgramError, UserError
from rl_robot.ros import topics
from rl_robot.ros.mailbox import Mailbox
from rl_robot.ros.messages import status_message
from rl_robot.ros.pace import PACED

LOG_PERIOD = 10.0  # seconds between two log lines of the same problem
HEALTH_PERIOD = 0.5  # seconds between two reports of a node's health


class GraphNode(Node):
    """A node whose topics come from the table and whose health goes to `diagnostics`.

    Subclasses fill `health` with what a person watching would want to know (strings by name),
    call `problem` for what is wrong, and may end the process by setting `exit_code`.
    """

    def __init__(self, name: str, *, parameter_services: bool = False) -> None:
        super().__init__(name, start_parameter_services=parameter_services)
        # The session's nodes, so that each knows when all that listen to it were discovered.
        nodes = str(self.declare_parameter("nodes", "").value)
        self.session_nodes = tuple(node for node in nodes.split(",") if node)
        pace = self.declare_parameter("pace", "1.0", ParameterDescriptor(dynamic_typing=True)).value
        if str(pace) == PACED:
            _finish_before_waking()
        self._offered: list[tuple[topics.Topic, Publisher]] = []
        self._expected: list[Subscription] = []  # to which somebody of the session publishes
        self._unwatched: list[Subscription] = []  # behind mailboxes
        self.health: dict[str, str] = {}
        self._exit_code: int | None = None
        self._told: list[int] = []  # grows when this node ends the process
        self._problem = ""
        self._problem_time = 0.0
        self._logged: dict[str, float] = {}  # when a text was logged last
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.publisher(topics.DIAGNOSTICS)
        self.every(HEALTH_PERIOD, self._report_health)

    @property
    def exit_code(self) -> int | None:
        """The status with which this node ends the process; None while it does not."""
        return self._exit_code

    @exit_code.setter
    def exit_code(self, code: int | None) -> None:
        self._exit_code = code
        if code is not None:
            self._told.append(code)

    def fail(self, error: LostProgramError) -> None:
        """End the process with a line that says why, so that it is started again."""
        if self._exit_code is None:
            print(f"error: {error}", file=sys.stderr, flush=True)
            self.exit_code = 1

    def tell_end(self, told: list[int]) -> None:
        """Have `told` grow when the node ends the process, or at once if it has already."""
        told.extend(self._told)
        self._told = told

    def publisher(self, topic: topics.Topic, *, awaited: bool = True, **parts: str) -> Publisher:
        """Return a publisher of a topic of the table.

        A session starts when the nodes that the table names hear it, unless it is not `awaited`.
        """
        events = PublisherEventCallbacks(
            incompatible_qos=lambda _: self.problem(f"{topic.name}: a subscriber's QoS is refused")
        )
        publisher = self.create_publisher(
            topic.type, topic.named(**parts), topic.quality.profile(), event_callbacks=events
        )
        if awaited:
            self._offered.append((topic, publisher))
        return publisher

    def undiscovered(self) -> list[str]:
        """Name the topics of this node that some node of the session does not hear yet.

        Discovery is pairwise: that every node hears the supervisor does not mean that safety hears
        the policy, and what is said before that is lost.
        """
        unheard = [
            publisher.topic_name
            for topic, publisher in self._offered
            if publisher.get_subscription_count() < self._listeners(topic, publisher)
        ]
        # A node that was started again is not yet known to those who count its predecessor still.
        unsaid = [one.topic_name for one in self._expected if not one.get_publisher_count()]
        return sorted({*unheard, *unsaid})

    def _listeners(self, topic: topics.Topic, publisher: Publisher) -> int:
        """Count the nodes of the session that are to hear a publisher of this node."""
        relayed = publisher.topic_name.endswith(topics.FAULTLESS)  # heard by the faults node alone
        return 1 if relayed else topic.listeners(self.session_nodes)

    def listen(
        self,
        topic: topics.Topic,
        callback: Callable[[Any], None],
        *,
        depth: int = 1,
        raw: bool = False,
        awaited: bool = True,
        **parts: str,
    ) -> Subscription:
        """Subscribe to a topic of the table; depth 1 keeps only the newest message.

        A session goes on when this node knows who says it, unless it is not `awaited`.
        """
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda _: self.problem(f"{topic.name}: a publisher's QoS is refused")
        )
        subscription = self.create_subscription(
            topic.type,
            topic.named(**parts),
            callback,
            topic.quality.profile(depth),
            event_callbacks=events,
            raw=raw,
        )
        if awaited and topic.said_by(self.session_nodes):
            self._expected.append(subscription)
        return subscription

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        """The subscriptions that the executor looks after, which asks for them here."""
        return (one for one in super().subscriptions if one not in self._unwatched)

    def mailbox(
        self, topic: topics.Topic, *, depth: int, awaited: bool = True, **parts: str
    ) -> Mailbox:
        """Subscribe to a topic of the table without being woken by it."""
        subscription = self.listen(
            topic, _never_called, depth=depth, raw=True, awaited=awaited, **parts
        )
        self._unwatched.append(subscription)
        return Mailbox(subscription)

    def every(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back on the steady clock, whatever the simulated time does."""
        return self.create_timer(seconds, callback, clock=self._steady)

    def problem(self, text: str) -> None:
        """Report that something is wrong: in diagnostics for two seconds, and in the log.

        The log takes the same text, whatever its numbers, once in ten seconds: a fault that lasts
        a night must not fill the disk.
        """
        now = time.monotonic()
        key = re.sub(r"[0-9]+", "#", text)
        if now - self._logged.get(key, -LOG_PERIOD) >= LOG_PERIOD:
            self._logged[key] = now
            self.get_logger().warning(text)
        self._problem, self._problem_time = text, now

    def close(self) -> None:
        """Finish what must not be left half-done; called once before the node is destroyed."""

    def _report_health(self) -> None:
        if self._problem and time.monotonic() - self._problem_time > 2.0:
            self._problem = ""
        level = DiagnosticStatus.WARN if self._problem else DiagnosticStatus.OK
        # The process id lets the supervisor tell a restarted node from one that went on.
        values = {
            "pid": str(os.getpid()),
            "host": socket.gethostname(),
            "undiscovered": ",".join(self.undiscovered()),
            **self.health,
        }
        message = self._problem or "ok"
        now = self.get_clock().now().nanoseconds
        self._diagnostics.publish(status_message(now, self.get_name(), message, values, level))


def _never_called(_message: bytes) -> None:
    raise AssertionError("a mailbox is emptied by its node alone")


def _finish_before_waking() -> None:
    """Let a thread that publishes go on before the readers that it wakes take its core.

    Paced, nobody waits for the wall clock, and being interrupted by each of five readers of each of
    ten joint states costs more than it brings. Not for real time. Threads that start later inherit
    it.
    """
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may have ended; elsewhere it is not allowed
            os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))


def _make_executor() -> Executor:
    """Return the quickest executor this rclpy has.

    The events executor hands a message over in a quarter of the time that building a wait set in
    Python takes (`spin_once` only: its `spin` never fired a timer). Older releases lack it.
    """
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def run(make_node: Callable[[], GraphNode], argv: list[str] | None = None) -> int:
    """Run one node until SIGINT, SIGTERM or its own `exit_code`; return the exit status.

    A UserError while the node is made or runs is printed as one line and gives status 2, a
    LostProgramError status 1.
    """
    return run_together([make_node], argv)


def run_together(
    make_nodes: Sequence[Callable[[], GraphNode]], argv: list[str] | None = None
) -> int:
    """Run nodes in one process; the first one that ends, ends all. See `run`."""
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    # Our own handlers: rclpy's would take the context away before close() has published.
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    nodes: list[GraphNode] = []
    try:
        executor = _make_executor()
        for make_node in make_nodes:
            nodes.append(make_node())
            nodes[-1].tell_end(stopped)
            executor.add_node(nodes[-1])
        # What modules and nodes are made of stays: the garbage collector need not look through it.
        gc.collect()
        gc.freeze()
        try:
            while not stopped:
                executor.spin_once(timeout_sec=0.1)
        finally:  # also where a node failed: a robot that it moves is to be brought to rest
            for node in nodes:
                node.close()
        return next((node.exit_code for node in nodes if node.exit_code), 0)
    except (UserError, LostProgramError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, UserError) else 1
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
        gc.unfreeze()  # or libraries complain, as the last lines of the log, of what is left behind
