"""From the camera's picture to the executed command, at real time, beside a raw chain.

What is measured, for the graph and for the chain alike, by one listener on this machine: from the
moment at which the picture is published (DDS source time stamp) to the arrival of the command that
answers it on the controller's topic (DDS reception time stamp). Both are read from the middleware,
so the listener's own delays do not count. A picture's stamp is its capture; the milliseconds that a
simulated camera then needs to draw it are not counted.

The raw chain hands on the same messages over as many hops (a 320x240 picture, a pose, a
trajectory, a trajectory) and does nothing else: once with rclpy's usual executor, once with its
quicker one. They take turns. The graph may take 1.5 times a chain's 99th percentile plus the
policy's inference, as the policy node reports it; shown for both, the goal is by the quicker one.
The last line is JSON.
"""

import argparse
import sys
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from common import Goal, Result, options, own_domain, report, running_session
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from raw_chain import COMMAND, EXECUTORS, PICTURE, POSE, SAFE_COMMAND, raw_chain
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from rl_robot.bags.stamps import header_frame, header_stamp_ns
from rl_robot.errors import UserError
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_values

FACTOR = 1.5  # of the raw chain's 99th percentile
PEER = "events"  # the quicker of the raw chain's executors
HOPS = ("perception", "policy", "safety", "controller")
QUEUE = 100
SILENCE = 60.0  # s without a command after which a side counts as dead
WARM_UP = 10  # commands at the start of a turn


@dataclass(frozen=True)
class Side:
    """Topics that one side's pictures run through, and where the executed command arrives.

    ``stages`` are picture, pose, command and safe command, all with the picture's stamp.
    """

    stages: tuple[tuple[str, type], ...]
    controller: str
    source: str = ""  # frame_id that a safe command must have


def graph_side() -> Side:
    """Return the topics of the graph."""
    robot = load_robot("arm")
    picture = topics.IMAGE_RAW.named(camera=robot.cameras[0].name)
    stages = (
        (picture, Image),
        (topics.PERCEPTION_AGES.name, JointState),
        (topics.POLICY_COMMAND.name, JointTrajectory),
        (topics.SAFETY_COMMAND.name, JointTrajectory),
    )
    return Side(stages, robot.interfaces[0].topic, source="policy")


CHAIN = Side(
    (
        (PICTURE, Image),
        (POSE, PoseStamped),
        (COMMAND, JointTrajectory),
        (SAFE_COMMAND, JointTrajectory),
    ),
    SAFE_COMMAND,
)


class Listener(Node):
    """Hears one side, and keeps the times (ns, wall clock) that the middleware gives."""

    def __init__(self, side: Side) -> None:
        super().__init__("control_latency", start_parameter_services=False)
        self._side = side
        # topic -> stamp of the picture -> when it was published
        self._published: dict[str, dict[int, int]] = defaultdict(dict)
        self._executed: list[tuple[int, int]] = []  # a controller's command: published, arrived
        self._reported: dict[str, list[float]] = defaultdict(list)  # ms, by name
        for topic, kind in side.stages:
            self.create_subscription(kind, topic, partial(self._take, topic), QUEUE, raw=True)
        self.create_subscription(
            JointTrajectory, side.controller, self._take_executed, QUEUE, raw=True
        )
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS.name, self._hear, QUEUE)

    def listen(self, commands: int) -> Result:
        """Return what was measured over so many commands.

        Raises:
            UserError: silence.
        """
        executor = SingleThreadedExecutor()
        executor.add_node(self)
        last, _ = self._side.stages[-1]
        count, since = 0, time.monotonic()
        while count < commands + WARM_UP:
            executor.spin_once(timeout_sec=0.1)
            if len(self._published[last]) > count:
                count, since = len(self._published[last]), time.monotonic()
            elif time.monotonic() - since > SILENCE:
                raise UserError(f"nothing on {last} for {SILENCE:.0f} s: run that side alone")
        for _ in range(5):  # the last command is still on its way to the controller's topic
            executor.spin_once(timeout_sec=0.1)
        return self._measured()

    def _take(self, topic: str, raw: bytes, info: dict[str, int]) -> None:
        is_last = topic == self._side.stages[-1][0]
        if not is_last or header_frame(raw) == self._side.source:
            self._published[topic].setdefault(header_stamp_ns(raw), info["source_timestamp"])

    def _take_executed(self, raw: bytes, info: dict[str, int]) -> None:
        self._executed.append((info["source_timestamp"], info["received_timestamp"]))

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for name, value in status_values(status).items():
                if name in ("inference_ms", "detection_ms"):
                    self._reported[name].append(float(value))

    def _measured(self) -> Result:
        """Return milliseconds: in all and per hop, one value per command; and the reported ones."""
        executed = sorted(self._executed)
        stages = [self._published[topic] for topic, _ in self._side.stages]
        hops = []
        for stamp in sorted(stages[-1])[WARM_UP:]:
            if not all(stamp in published for published in stages):
                continue  # the listener joined in between
            times = [published[stamp] for published in stages]
            place = bisect_left(executed, (times[-1], 0))
            if place < len(executed):
                hops.append(np.diff([*times, executed[place][1]]) * 1e-6)
        return {"hops": hops, **self._reported}


def turn(side: Side, running: AbstractContextManager[Any], commands: int) -> Result:
    """Run one side and listen to it."""
    with running:
        listener = Listener(side)
        try:
            return listener.listen(commands)
        finally:
            listener.destroy_node()


def measure(given: argparse.Namespace) -> Result:
    """Let the graph and the raw chains take turns; return the percentiles."""
    rounds, commands = (1, 150) if given.quick else (given.rounds, given.commands)
    turns: dict[str, list[Result]] = defaultdict(list)
    with own_domain(real_time=True), tempfile.TemporaryDirectory() as folder:
        rclpy.init()
        for index in range(rounds):
            session = running_session(
                Path(folder) / f"latency{index}",
                policy=given.policy,
                pace="1.0",
                split="test",
                episodes=0,
            )
            turns["graph"].append(turn(graph_side(), session, commands))
            for executor in EXECUTORS:
                chain = raw_chain(executor=executor, paced=False)
                turns[executor].append(turn(CHAIN, chain, commands))
        rclpy.shutdown()
    sides = {name: _percentiles(results) for name, results in turns.items()}
    inference = _joined(turns["graph"], "inference_ms")
    allowed = {name: FACTOR * sides[name]["p99"] + inference["p99"] for name in EXECUTORS}
    parts = {name: sides["graph"]["p99"] / allowed[name] for name in EXECUTORS}
    return {
        "policy": given.policy,
        **sides,
        "inference_ms": inference,
        "detection_ms": _joined(turns["graph"], "detection_ms"),
        "allowed_p99": allowed,
        "parts_of_allowed": parts,
        "part_of_allowed": parts[PEER],
    }


def _percentiles(results: list[Result]) -> Result:
    hops = np.array([hop for result in results for hop in result["hops"]])
    return {
        "commands": len(hops),
        **_statistics(hops.sum(axis=1)),
        "hops": {name: _statistics(hops[:, column]) for column, name in enumerate(HOPS)},
    }


def _joined(results: list[Result], name: str) -> Result:
    return _statistics(np.array([value for result in results for value in result.get(name, [])]))


def _statistics(values: np.ndarray) -> Result:
    p50, p99 = np.percentile(values, (50, 99)) if len(values) else (np.nan, np.nan)
    return {"p50": float(p50), "p99": float(p99)}


def table(result: Result) -> str:
    """Return the figures for people."""
    rows = [
        "milliseconds from the picture's publication to the executed command, p50 / p99:",
        f"{'':28}{'in all':>15}" + "".join(f"{'to ' + name:>18}" for name in HOPS),
    ]
    titles = {"graph": "the graph", **{name: f"raw chain, {name}" for name in EXECUTORS}}
    for key, title in titles.items():
        side = result[key]
        cells = "".join(f"{_cell(side['hops'][name]):>18}" for name in HOPS)
        rows.append(f"{title:28}{_cell(side):>15}{cells}")
    rows.append(
        f"of that, the policy's inference {_cell(result['inference_ms'])}, "
        f"perception's work on the picture {_cell(result['detection_ms'])}"
    )
    for name, part in result["parts_of_allowed"].items():
        rows.append(
            f"the graph's p99 is {part:.2f} of the {result['allowed_p99'][name]:.1f} ms allowed "
            f"by the raw chain, {name}"
        )
    return "\n".join(rows)


def _cell(percentiles: Result) -> str:
    return f"{percentiles['p50']:.1f} / {percentiles['p99']:.1f}"


def main() -> int:
    """Run the benchmark; 1 with --check when the graph is too slow."""
    parser = options(__doc__, quick="one turn of 150 commands each")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--commands", type=int, default=300, help="commands in one turn")
    parser.add_argument("--policy", default="script")
    given = parser.parse_args()
    if given.rounds < 1 or given.commands < 10:
        parser.error("--rounds must be at least 1 and --commands at least 10")
    goals = (Goal("part_of_allowed", at_most=1.0),)
    return report(lambda: measure(given), table, goals, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
