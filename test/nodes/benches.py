"""A node of a test's own among the nodes under test, which are real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from rl_robot.bringup.domain import claim_domain
from rl_robot.ros import topics
from rl_robot.ros.messages import status_values

PATIENCE = 60.0  # s: a bound for a machine that is busy, not a measure


class Bench:
    """A node of the test's own, and the processes of the nodes under test."""

    def __init__(self, domain: int, folder: Path) -> None:
        self._environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"}
        self.domain = domain
        self._folder = folder
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("bench", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.health: dict[str, dict[str, str]] = {}
        self.problems: list[str] = []
        self.hear(topics.DIAGNOSTICS, self._take_health, depth=100)

    def start(
        self, name: str, *, code: str | None = None, **parameters: object
    ) -> subprocess.Popen[bytes]:
        """Start a node, or code that stands in for it, and return its process."""
        arguments = [f"{key}:={value}" for key, value in parameters.items()]
        module = ["-m", f"rl_robot.nodes.{name}"]
        command = [sys.executable, *(module if code is None else ["-c", code])]
        if arguments:
            command += ["--ros-args"]
            for argument in arguments:
                command += ["-p", argument]
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def publisher(self, topic: topics.Topic, **parts: str) -> Any:
        profile = topic.quality.profile()
        return self.node.create_publisher(topic.type, topic.named(**parts), profile)

    def hear(
        self, topic: topics.Topic, callback: Callable[[Any], None], depth: int = 50, **parts: str
    ) -> None:
        profile = topic.quality.profile(depth)
        self.node.create_subscription(topic.type, topic.named(**parts), callback, profile)

    def collect(self, topic: topics.Topic, **parts: str) -> list[Any]:
        """Return the list that the messages of a topic are appended to."""
        heard: list[Any] = []
        self.hear(topic, heard.append, **parts)
        return heard

    def until(self, condition: Callable[[], Any], doing: Callable[[], None] | None = None) -> None:
        """Spin until the condition holds; `doing` is repeated meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"in vain: {condition}; problems: {self.problems}")
            if doing is not None:
                doing()
            self._executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        """Spin for a while, for what must not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service and return its reply."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def _take_health(self, message: Any) -> None:
        for status in message.status:
            self.health[status.name] = status_values(status)
            if status.message != "ok":
                self.problems.append(status.message)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self.processes:
            try:
                process.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.node.destroy_node()
        self._context.shutdown()


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """Give a bench in a ROS domain of its own."""
    domain = claim_domain()
    made = Bench(domain.number, folder)
    try:
        yield made
    finally:
        made.close()
        domain.close()
