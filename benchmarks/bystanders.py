"""Whole sessions at real time, in which a process is hit that does not move the robot.

Trainer, reward and recorder: the robot goes on being moved until the supervisor ends the episode,
the episode is marked, the node comes back, the next episode runs, and what was recorded stays.
"""

import hashlib
import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import sweep
from common import launch_command, node_pids, running, session_command
from diagnostic_msgs.msg import DiagnosticArray
from mcap.exceptions import McapError
from mcap.records import Message
from mcap.stream_reader import StreamReader
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from rl_robot.bags import BagReader
from rl_robot.bags.stamps import header_frame
from rl_robot.errors import UserError
from rl_robot.experience.runs import RunFolder
from rl_robot.ros import topics
from rl_robot.ros.messages import stamp_ns, status_values
from rl_robot.supervision.session import BROKEN, ENDED, RUNNING, Episode

BYSTANDERS = ("trainer", "reward", "recorder")
PATIENCE = 120.0  # s for the session to get on
POLICY = "policy"  # who moves the robot in an episode that runs


@dataclass(frozen=True)
class Trial:
    """One hit. Times in s from the hit, until the episode ended, the node and an episode ran again.

    Attributes:
        others: who else than the policy moved the robot before the episode ended.
        gap: longest time (s) between two executed commands until then.
        end: the episode as it ended.
    """

    ended: float
    back: float
    next: float
    others: tuple[str, ...]
    gap: float
    end: Episode


class Watch(Node):
    """Hears what a session says of its episodes, its nodes and the commands it executes."""

    def __init__(self) -> None:
        super().__init__("kill_nodes", start_parameter_services=False)
        self.episode: Episode | None = None
        self.ends: dict[int, tuple[int, Episode]] = {}  # number -> wall clock (ns), ended episode
        self.begun: dict[int, int] = {}  # number -> wall clock (ns) since which it runs
        self.spoke: dict[str, dict[str, int]] = {}  # node -> process -> first heard (ns)
        self.executed: list[tuple[int, str]] = []  # wall clock (ns), source
        command, health, state = topics.SAFETY_COMMAND, topics.DIAGNOSTICS, topics.EPISODE
        self.create_subscription(
            command.type, command.name, self._take_command, command.quality.profile(), raw=True
        )
        self.create_subscription(
            health.type, health.name, self._take_health, health.quality.profile(100)
        )
        self.create_subscription(
            state.type, state.name, self._take_episode, state.quality.profile()
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _take_command(self, raw: bytes, info: dict[str, int]) -> None:
        self.executed.append((info["source_timestamp"], header_frame(raw)))

    def _take_health(self, message: DiagnosticArray, info: dict[str, int]) -> None:
        for status in message.status:
            process = status_values(status).get("pid", "")
            self.spoke.setdefault(status.name, {}).setdefault(process, info["source_timestamp"])

    def _take_episode(self, message: DiagnosticArray, info: dict[str, int]) -> None:
        status = message.status[0]
        values = status_values(status)
        self.episode = episode = Episode.from_values(status.message, stamp_ns(message), values)
        said_at = info["source_timestamp"]
        if episode.phase == RUNNING:
            self.begun.setdefault(episode.id, said_at)
        elif episode.phase == ENDED:
            self.ends.setdefault(episode.id, (said_at, episode))

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Listen until the condition holds.

        Raises:
            UserError: it did not come about.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise UserError(f"{what}: in vain for {PATIENCE:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)

    def running(self) -> Episode | None:
        """Return the episode that runs, if one does."""
        episode = self.episode
        return episode if episode is not None and episode.phase == RUNNING else None


class Bystanders:
    """Trials of one node in one session, and what became of the session's bags."""

    def __init__(self, victim: str, session: subprocess.Popen[bytes], run: Path) -> None:
        """Hit ``victim`` of a session (see `session_of`) that records into ``run``."""
        self._victim = victim
        self._runner = session.pid
        self._run = RunFolder(run)
        self._watch = Watch()
        self._random = random.Random(0)
        self._digests: dict[Path, str] = {}  # of the bags that were closed before a hit
        self.trials: list[Trial] = []

    def hit(self, name: str) -> None:
        """Send the node a signal in the midst of an episode, and wait for what comes of it.

        Raises:
            UserError: something that should come about did not.
        """
        watch, victim = self._watch, self._victim
        number = self._settle_into_episode()
        before = set(watch.spoke[victim])
        self._keep_digests()
        watch.executed.clear()
        hit_at = time.time_ns()
        os.kill(node_pids(self._runner)[victim], getattr(signal, name))
        watch.until(lambda: number in watch.ends, f"{victim} hit: the end of the episode")
        watch.until(lambda: set(watch.spoke[victim]) - before, f"{victim} hit: another process")
        watch.until(lambda: max(watch.begun) > number, f"{victim} hit: another episode")
        ended_at, end = watch.ends[number]
        back_at = min(at for process, at in watch.spoke[victim].items() if process not in before)
        next_at = min(at for one, at in watch.begun.items() if one > number)
        executed = [(at, source) for at, source in watch.executed if hit_at <= at <= ended_at]
        times = [hit_at, *(at for at, _ in executed), ended_at]
        self.trials.append(
            Trial(
                ended=(ended_at - hit_at) * 1e-9,
                back=(back_at - hit_at) * 1e-9,
                next=(next_at - hit_at) * 1e-9,
                others=tuple(sorted({source for _, source in executed} - {POLICY})),
                gap=max(b - a for a, b in pairwise(times)) * 1e-9,
                end=end,
            )
        )
        # A start that breaks again and again is given up: let one run to its end in between.
        watch.until(lambda: self._some_whole_end_after(number), "an episode that does not break")

    def _settle_into_episode(self) -> int:
        """Wait for a moment in the midst of an episode; return its number."""
        watch = self._watch
        while True:
            watch.until(lambda: self._victim in watch.spoke, f"{self._victim} up")
            watch.until(watch.running, "an episode")
            begun = watch.running()
            watch.spin(self._random.uniform(1.0, 5.0))
            still = watch.running()
            if begun is not None and still is not None and begun.id == still.id:
                return still.id

    def _some_whole_end_after(self, number: int) -> bool:
        ends = self._watch.ends
        return any(one > number and ends[one][1].outcome != BROKEN for one in ends)

    def _keep_digests(self) -> None:
        for bag in self._run.list_episodes():
            if bag not in self._digests:
                self._digests[bag] = _digest(bag)

    def lost_bags(self) -> list[str]:
        """Name the bags that were closed before a hit and are not what they were, or damaged."""
        lost = [bag.name for bag, digest in self._digests.items() if _digest(bag) != digest]
        for bag in self._run.list_episodes():
            try:
                for _ in BagReader(bag).messages():
                    pass
            except UserError:
                lost.append(bag.name)
        return sorted(set(lost))

    def marked(self) -> int:
        """Count the hits whose episode is marked: in its bag, or by a bag without an end."""
        unfinished = {path.stem for path in self._run.unfinished_episodes()}
        count = 0
        for trial in self.trials:
            path = self._run.episode_path(trial.end.id)
            if path.is_dir():
                count += BagReader(path).episode.outcome == trial.end.outcome
            else:
                count += path.name in unfinished
        return count

    def close(self) -> None:
        """Listen no more."""
        self._watch.destroy_node()


def session_of(victim: str, run: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Start a session at real time, without end, in which the victim has its part."""
    arguments = {"pace": "1.0", "task": sweep.TASK, "policy": sweep.POLICY}
    if victim == "trainer":  # it learns from the demonstrations that go on beside it
        command = launch_command("train", run, demonstrations=1000, **arguments)
    else:
        command = session_command(run, episodes=0, **arguments)
    return running(command, run)


def readable(unfinished: Path) -> int:
    """Count the messages that a bag without an end gives to whoever reads it from its beginning."""
    (file,) = unfinished.glob("*.mcap")
    count = 0
    try:
        with file.open("rb") as stream:
            for record in StreamReader(stream, validate_crcs=True).records:
                count += isinstance(record, Message)
    except (McapError, EOFError, struct.error):  # where its process was killed
        pass
    return count


def _digest(bag: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(bag.iterdir()) if bag.is_dir() else []:
        digest.update(file.read_bytes())
    return digest.hexdigest()
