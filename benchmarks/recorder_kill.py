"""What is missing on disk when the recorder is killed in the midst of an episode, at real time.

The recorder is the real node, over the real middleware; this process says what a graph would say,
at its rates: joint states and clock at 100 Hz, pictures of 320x240 with noise and all that belongs
to a tick at 10 Hz. In each trial an episode is recorded to its end, then another, in which the
recorder is killed (SIGKILL) at a random time. What had been published of it before the kill is
compared with what the bag without an end gives to whoever reads it from its beginning.

A message is on disk once its chunk, of at most 256 KB, was written out, half a second after it was
begun at the latest. It comes into its chunk when the tick before it was decided to be acted on, or,
where it takes its stamp from another topic, a control period later (0.1 s). To that come the steps
of the joint states (10 ms) and of the recorder's looks (5 ms), and however long the machine keeps
it waiting. Loss and holes are counted per topic: what is missing may only be its end.
The last line is JSON.
"""

import argparse
import hashlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rclpy
from common import Goal, Result, options, own_domain, report
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Metadata
from mcap.stream_reader import StreamReader
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from rl_robot.bags import BagReader
from rl_robot.bags.cdr import image_bytes, numbers_bytes, pose_bytes, trajectory_bytes
from rl_robot.bags.metadata import CUSTOM
from rl_robot.bringup.graph import NodeSpec
from rl_robot.bringup.process import NodeProcess, node_command
from rl_robot.errors import UserError
from rl_robot.experience.runs import RunFolder
from rl_robot.nodes.recorder import recorded_topics
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.ros.messages import camera_info_message, status_message, to_time
from rl_robot.supervision.session import ENDED, RESETTING, RUNNING, TRUNCATED, Episode
from rl_robot.tasks import load_task

TRIALS, QUICK_TRIALS = 100, 10
PATIENCE = 60.0  # s for the recorder to come up, or to close a bag
SENSED_PERIOD = 0.01  # s
TICKS = 10  # of those from one tick to the next
BOUND = 0.65  # s: chunk 0.5, period 0.1, joint states 0.01, two looks 0.01, 0.03 for the machine
GOALS = [
    Goal("lost_seconds_worst", at_most=BOUND),
    Goal("holes", at_most=0),
    Goal("foreign", at_most=0),
    Goal("closed_bags_harmed", at_most=0),
    Goal("without_metadata", at_most=0),
]


class Said(NamedTuple):
    """A message as it was published. Times in ns; ``stamp_ns`` is where it belongs."""

    topic: str
    digest: bytes
    size: int
    stamp_ns: int
    published_ns: int


class Speaker(Node):
    """Says all that a graph says, in its order and at its rates, at the wall clock's pace."""

    def __init__(self) -> None:
        super().__init__("recorder_kill", start_parameter_services=False)
        self._robot, self._task = load_robot("arm"), load_task("grasp")
        self._table = recorded_topics(self._robot, self._task)
        self._mouths = {
            name: self.create_publisher(topic.type, name, topic.quality.profile())
            for name, topic in self._table.items()
        }
        random_pixels = np.random.default_rng(0)
        self._pictures = [
            random_pixels.integers(100, 116, (240, 320, 3), dtype=np.uint8) for _ in range(20)
        ]
        self._beat = 0
        self._next_at = time.monotonic()
        self.tick_ns = 0
        self.said: list[Said] = []

    @property
    def heard(self) -> bool:
        """Whether somebody hears every topic."""
        return all(one.get_subscription_count() for one in self._mouths.values())

    def speak(self, until: Callable[[], bool]) -> None:
        """Go on until the condition holds.

        Raises:
            UserError: it did not come about.
        """
        deadline = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > deadline:
                raise UserError(f"in vain for {PATIENCE:.0f} s")
            self._next_at += SENSED_PERIOD
            time.sleep(max(self._next_at - time.monotonic(), 0.0))
            self._say_beat()

    def speak_for(self, seconds: float) -> None:
        """Go on for so long."""
        end = time.monotonic() + seconds
        self.speak(lambda: time.monotonic() >= end)

    def say_phase(self, number: int, phase: str) -> int:
        """Say on the next tick that an episode is in this phase; return the tick."""
        before = self.tick_ns
        self.speak(lambda: self.tick_ns != before)
        episode = Episode(
            phase=phase,
            stamp_ns=self.tick_ns,
            id=number,
            index=number,
            split="train",
            start=self._task.start("train", number),
            seed=number,
            robot=self._robot.name,
            task=self._task.name,
            policy="random",
            role="exploration",
            stage="explore 1",
            outcome=TRUNCATED if phase == ENDED else "",
        )
        message = status_message(self.tick_ns, "episode", phase, episode.to_values())
        self._mouths["episode"].publish(message)
        return self.tick_ns

    def _say_beat(self) -> None:
        now = time.time_ns()
        values = dict.fromkeys(self._robot.joint_names, now * 1e-9)
        self._say("joint_states", now, numbers_bytes(values, now))
        clock = self._table["clock"].type(clock=to_time(now))
        self._say("clock", now, clock)
        self._beat += 1
        if self._beat % TICKS == 0:
            self.tick_ns = now
            self._say_tick(now)
        if self._beat % (5 * TICKS) == 3:
            health = status_message(now, "recorder_kill", "ok", {"pid": str(self._beat)})
            self._say("diagnostics", self.tick_ns, health)

    def _say_tick(self, now: int) -> None:
        number = self._beat // TICKS
        camera = self._robot.cameras[0]
        picture = self._pictures[number % len(self._pictures)]
        picture[0, 0] = np.frombuffer(number.to_bytes(3, "little"), np.uint8)
        self._say(f"{camera.name}/image_raw", now, image_bytes(picture, now, camera.frame_id))
        self._say(f"{camera.name}/camera_info", now, camera_info_message(camera, now))
        for name in self._task.objects:
            pose = pose_bytes(now, "base_link", (0.4, 0.0, 0.02), (0.0, 0.0, 0.0, 1.0))
            self._say(f"perception/{name}/pose", now, pose)
            self._say(f"simulator/{name}/pose", now, pose)
        self._say("perception/ages", now, numbers_bytes({"block": 0.0}, now))
        small = np.ascontiguousarray(picture[:64, :64])
        self._say("perception/image", now, image_bytes(small, now, camera.frame_id))
        for topic in ("reward", "policy/action", "safety/margins", "episode/tick"):
            self._say(topic, now, numbers_bytes({"total": 0.1, "step": float(number)}, now))
        self._say_commands(now)

    def _say_commands(self, now: int) -> None:
        names = self._robot.joint_names
        # Controllers' commands carry no stamp: what they hold tells them apart.
        rows = np.full((5, len(names)), now * 1e-9)
        motion = Motion(names, np.linspace(0.02, 0.1, 5), rows)
        for topic in ("policy/command", "safety/command"):
            self._say(topic, now, trajectory_bytes(motion, now, "policy"))
        for interface in self._robot.interfaces:
            if self._table[interface.topic].type_name.endswith("Float64MultiArray"):
                self._say(interface.topic, now, Float64MultiArray(data=[now * 1e-9]))
            else:
                self._say(interface.topic, now, trajectory_bytes(motion, 0))

    def _say(self, topic: str, stamp_ns: int, message: Any) -> None:
        raw = message if isinstance(message, bytes) else _serialized(message)
        self.said.append(Said(topic, _digest(raw), len(raw), stamp_ns, time.time_ns()))
        self._mouths[topic].publish(raw)


def _serialized(message: Any) -> bytes:
    return bytes(rclpy.serialization.serialize_message(message))


def _digest(raw: bytes) -> bytes:
    # Without what fills up the end: rclpy adds other bytes of that than the middleware does.
    return hashlib.blake2b(raw.rstrip(b"\0"), digest_size=16).digest()


@dataclass(frozen=True)
class Trial:
    """One kill.

    Attributes:
        after: seconds from the first tick to the kill.
        lost_seconds: from the oldest message that is missing to the kill.
        lost_bytes: of all messages that are missing.
        lost_numbers_bytes: of those but pictures.
        kept: messages on disk.
        holes: messages that are missing and older than one of their topic that is there.
        foreign: messages on disk that were never said so.
        without_metadata: whether the bag does not say what it was.
    """

    after: float
    lost_seconds: float
    lost_bytes: int
    lost_numbers_bytes: int
    kept: int
    holes: int
    foreign: int
    without_metadata: bool


class Rig:
    """The speaker and, one after the other, the recorders that are killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run = RunFolder.create(folder / "run")
        self._speaker = Speaker()
        self._random = random.Random(0)
        self._digests: dict[Path, bytes] = {}
        self._number = 0

    def run_trial(self) -> Trial:
        """Record an episode whole, kill the recorder in the next one, and see what is there."""
        speaker = self._speaker
        parameters = {"run": str(self._run.path), "pace": "1.0", "reserve": "0B"}
        spec = NodeSpec("recorder", "recorder", parameters)
        log = self._folder / "recorder.log"
        process = NodeProcess(node_command(spec), log, os.environ, show_output=False)
        try:
            speaker.speak(lambda: speaker.heard)
            self._record_whole()
            self._number += 1
            speaker.said.clear()
            start_ns = speaker.say_phase(self._number, RUNNING)
            speaker.speak_for(self._random.uniform(0.3, 4.0))
            time.sleep(self._random.uniform(0.0, SENSED_PERIOD))
            killed_ns = time.time_ns()
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
        said = [one for one in speaker.said if start_ns <= one.stamp_ns]
        self._number += 1
        return self._judge(said, start_ns, killed_ns)

    def _record_whole(self) -> None:
        speaker, path = self._speaker, self._run.episode_path(self._number)
        speaker.say_phase(self._number, RESETTING)
        speaker.say_phase(self._number, RUNNING)
        speaker.speak_for(0.5)
        speaker.say_phase(self._number, ENDED)
        speaker.speak(path.is_dir)
        self._digests[path] = _contents(path)

    def _judge(self, said: list[Said], start_ns: int, killed_ns: int) -> Trial:
        (part,) = [
            p for p in self._run.unfinished_episodes() if int(p.stem[-6:]) == self._number - 1
        ]
        on_disk, metadata = read_part(next(part.glob("*.mcap")))
        known = {(one.topic, one.digest) for one in said}
        missing = [one for one in said if one.digest not in on_disk[one.topic]]
        newest_kept: dict[str, int] = defaultdict(int)
        for one in said:
            if one.digest in on_disk[one.topic]:
                newest_kept[one.topic] = max(newest_kept[one.topic], one.published_ns)
        kept = [(topic, digest) for topic, digests in on_disk.items() for digest in digests]
        own = [one for one in kept if one[0] not in ("episode", "diagnostics")]
        oldest = min((one.published_ns for one in missing), default=killed_ns)
        numbers = [one.size for one in missing if not one.topic.endswith(("image_raw", "/image"))]
        return Trial(
            after=(killed_ns - start_ns) * 1e-9,
            lost_seconds=(killed_ns - oldest) * 1e-9,
            lost_bytes=sum(one.size for one in missing),
            lost_numbers_bytes=sum(numbers),
            kept=len(kept),
            holes=sum(one.published_ns < newest_kept[one.topic] for one in missing),
            foreign=sum(one not in known for one in own),
            without_metadata=metadata.get("episode") != str(self._number - 1),
        )

    def harmed(self) -> int:
        """Count the closed bags that are not what they were when they were closed, or damaged."""
        count = 0
        for path, digest in self._digests.items():
            try:
                whole = bool(list(BagReader(path).messages()))
            except UserError:
                whole = False
            count += not whole or _contents(path) != digest
        return count

    def close(self) -> None:
        """Say nothing more."""
        self._speaker.destroy_node()


def read_part(file: Path) -> tuple[dict[str, set[bytes]], dict[str, str]]:
    """The digests of each topic's messages in a bag without an end, and what it says of itself."""
    found: dict[str, set[bytes]] = defaultdict(set)
    names: dict[int, str] = {}
    metadata: dict[str, str] = {}
    with file.open("rb") as stream:
        try:
            for record in StreamReader(stream, validate_crcs=True).records:
                if isinstance(record, Channel):
                    names[record.id] = record.topic.removeprefix("/")
                elif isinstance(record, Message):
                    found[names[record.channel_id]].add(_digest(record.data))
                elif isinstance(record, Metadata) and record.name == CUSTOM:
                    metadata = record.metadata
        except (McapError, EOFError):  # where its process was killed
            pass
    return found, metadata


def _contents(bag: Path) -> bytes:
    return _digest(b"".join(file.read_bytes() for file in sorted(bag.iterdir())))


def measure(trials: int) -> Result:
    """Return the figures of so many kills."""
    with own_domain(real_time=True), tempfile.TemporaryDirectory() as folder:
        rclpy.init()
        rig = Rig(Path(folder))
        try:
            done = []
            for number in range(trials):
                done.append(rig.run_trial())
                print(f"{number + 1}/{trials} {done[-1]}", file=sys.stderr, flush=True)
            return figures(done, rig.harmed())
        finally:
            rig.close()
            rclpy.try_shutdown()


def figures(trials: list[Trial], harmed: int) -> Result:
    """Sum up the trials."""
    seconds = sorted(one.lost_seconds for one in trials)
    return {
        "trials": len(trials),
        "bound_seconds": BOUND,
        "lost_seconds_median": statistics.median(seconds),
        "lost_seconds_p95": seconds[int(0.95 * (len(seconds) - 1))],
        "lost_seconds_worst": seconds[-1],
        "lost_kilobytes_median": statistics.median(one.lost_bytes for one in trials) / 1000,
        "lost_kilobytes_worst": max(one.lost_bytes for one in trials) / 1000,
        "lost_numbers_kilobytes_worst": max(one.lost_numbers_bytes for one in trials) / 1000,
        "kept_messages": sum(one.kept for one in trials),
        "holes": sum(one.holes for one in trials),
        "foreign": sum(one.foreign for one in trials),
        "closed_bags_harmed": harmed,
        "without_metadata": sum(one.without_metadata for one in trials),
    }


def table(result: Result) -> str:
    """Return the figures as people read them."""
    return (
        f"{result['trials']} recorders killed in an episode, {result['kept_messages']} messages "
        "on disk\n"
        f"missing, in s before the kill: median {result['lost_seconds_median']:.3f}, 95th "
        f"percentile {result['lost_seconds_p95']:.3f}, worst {result['lost_seconds_worst']:.3f} "
        f"(bound {BOUND})\n"
        f"missing, in kB: median {result['lost_kilobytes_median']:.0f}, worst "
        f"{result['lost_kilobytes_worst']:.0f}; but for pictures worst "
        f"{result['lost_numbers_kilobytes_worst']:.0f}\n"
        f"holes {result['holes']}, messages never said so {result['foreign']}, closed bags harmed "
        f"{result['closed_bags_harmed']}, bags that don't say what they were "
        f"{result['without_metadata']}"
    )


def main() -> int:
    """Run the benchmark."""
    parser = options(__doc__, quick=f"{QUICK_TRIALS} kills")
    parser.add_argument("--trials", type=int, default=TRIALS, help="kills")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    given = parser.parse_args()
    trials = QUICK_TRIALS if given.quick else given.trials
    return report(lambda: measure(trials), table, GOALS, check=given.check)


if __name__ == "__main__":
    raise SystemExit(main())
