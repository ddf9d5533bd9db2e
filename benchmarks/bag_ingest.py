"""From a bag to transitions: ours, beside two readers that only decode the same messages.

A synthetic episode of a robot with seven joints and a camera of 64x64: joint states at 100 Hz,
pictures, actions, executed trajectories, rewards at 10 Hz, as our recorder writes them. Ours reads,
verifies and aligns: arrays of observations with their ages, actions, rewards, latencies. The peers
(mcap-ros2-support, rosbags) read the same topics and decode each message to an object, no more. All
take turns. The floor is a plain read of the file, from the disk and from the page cache.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import Goal, Result, options, report
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader

from rl_robot.bags import EpisodeMetadata, EpisodeWriter
from rl_robot.bags.cdr import image_bytes, joint_state_bytes, numbers_bytes, trajectory_bytes
from rl_robot.experience.aligning import align
from rl_robot.experience.bag_map import BagMap, Source
from rl_robot.robots.cartesian import Motion

JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
ACTIONS = ("x", "y", "z", "yaw", "gripper")
PERIOD_NS = 100_000_000
PER_STEP = 10  # joint states
TYPES = {
    "joint_states": "sensor_msgs/msg/JointState",
    "perception/image": "sensor_msgs/msg/Image",
    "policy/action": "sensor_msgs/msg/JointState",
    "safety/command": "trajectory_msgs/msg/JointTrajectory",
    "reward": "sensor_msgs/msg/JointState",
}
MAP = BagMap(
    observations={
        "joints": Source("joint_states", fields=("position", "velocity", "effort")),
        "picture": Source("perception/image"),
    },
    action=Source("safety/command"),
    proposed=Source("policy/action"),
    reward=Source("reward", names=("total",)),
    ticks="perception/image",
)
GOALS = (Goal("times_as_fast", at_least=3.0),)


def write_bag(path: Path, steps: int) -> Path:
    """Write an episode of so many control steps."""
    chance = np.random.default_rng(0)
    writer = EpisodeWriter(path, TYPES)
    start_ns = 10**9
    joints = np.zeros(len(JOINTS))
    shade = np.linspace(60, 180, 64, dtype=np.float64)[:, None, None]
    for step in range(steps + 1):
        tick_ns = start_ns + step * PERIOD_NS
        for part in range(PER_STEP if step else 1):
            stamp_ns = tick_ns - (PER_STEP - 1 - part) * PERIOD_NS // PER_STEP
            joints = joints + chance.normal(0.0, 0.01, len(JOINTS))
            raw = joint_state_bytes(JOINTS, stamp_ns, joints, joints, joints)
            writer.write("joint_states", raw, stamp_ns, stamp_ns)
        picture = np.clip(shade + chance.normal(0.0, 4.0, (64, 64, 3)), 0, 255).astype(np.uint8)
        writer.write("perception/image", image_bytes(picture, tick_ns, "camera"), tick_ns, tick_ns)
        if step:
            verdict = {"total": -0.1, "success": 0.0, "terminated": 0.0}
            writer.write("reward", numbers_bytes(verdict, tick_ns), tick_ns, tick_ns + 1000)
        if step < steps:
            action = dict(zip(ACTIONS, chance.uniform(-1, 1, len(ACTIONS)).tolist(), strict=True))
            writer.write("policy/action", numbers_bytes(action, tick_ns), tick_ns, tick_ns + 2000)
            motion = Motion(JOINTS, np.linspace(0.02, 0.1, 5), np.tile(joints, (5, 1)))
            raw = trajectory_bytes(motion, tick_ns, "policy")
            writer.write("safety/command", raw, tick_ns, tick_ns + 3000)
    return writer.close(
        EpisodeMetadata(
            episode=0,
            robot="seven_joints",
            task="synthetic",
            split="train",
            index=0,
            start="{}",
            policy="random",
            policy_version="0",
            seed=0,
            outcome="truncated",
            steps=steps,
        )
    )


def read_ours(bag: Path) -> int:
    """Return the number of steps in the transitions."""
    [episode] = align(bag, MAP)
    return len(episode)


def read_with_mcap(bag: Path) -> int:
    """Return the number of messages that mcap-ros2-support decodes."""
    with (bag / f"{bag.name}.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        topics = [f"/{name}" for name in TYPES]
        return sum(1 for _ in reader.iter_decoded_messages(topics=topics))


def read_with_rosbags(bag: Path) -> int:
    """Return the number of messages that rosbags decodes."""
    with AnyReader([bag]) as reader:
        wanted = [c for c in reader.connections if c.topic.lstrip("/") in TYPES]
        decoded = (
            reader.deserialize(raw, connection.msgtype)
            for connection, _, raw in reader.messages(wanted)
        )
        return sum(1 for _ in decoded)


def read_plain(bag: Path, *, cached: bool) -> int:
    """Return the bytes of the file, read once from its beginning to its end."""
    file = os.open(bag / f"{bag.name}.mcap", os.O_RDONLY)
    try:
        if not cached:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return sum(map(len, _blocks(file)))
    finally:
        os.close(file)


def _blocks(file: int) -> Iterator[bytes]:
    while block := os.read(file, 1 << 20):
        yield block


def measure(steps: int, turns: int) -> Result:
    """Let all read the same bag in turns; return medians in seconds and what follows from them."""
    readers: dict[str, Callable[[Path], int]] = {
        "ours": read_ours,
        "mcap-ros2-support": read_with_mcap,
        "rosbags": read_with_rosbags,
        "plain read, page cache": lambda bag: read_plain(bag, cached=True),
        "plain read, disk": lambda bag: read_plain(bag, cached=False),
    }
    times: dict[str, list[float]] = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as folder:
        bag = write_bag(Path(folder) / "episode_000000", steps)
        size = (bag / f"{bag.name}.mcap").stat().st_size
        messages = read_with_rosbags(bag)
        if (read_ours(bag), read_with_mcap(bag)) != (steps, messages):
            raise AssertionError("the readers don't agree on what is in the bag")
        for turn in range(turns):
            if sys.stderr.isatty():
                print(f"\rturn {turn + 1} of {turns}", end="", file=sys.stderr)
            for name, read in readers.items():
                began = time.perf_counter()
                read(bag)
                times[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    faster = min(seconds["mcap-ros2-support"], seconds["rosbags"])
    ratios = [
        min(mcap, rosbags) / ours
        for ours, mcap, rosbags in zip(
            times["ours"], times["mcap-ros2-support"], times["rosbags"], strict=True
        )
    ]
    return {
        "steps": steps,
        "messages": messages,
        "bytes": size,
        "turns": turns,
        "seconds": seconds,
        "times_as_fast": faster / seconds["ours"],
        "times_as_fast_by_turn": [min(ratios), max(ratios)],
        "part_of_disk_rate": seconds["plain read, disk"] / seconds["ours"],
    }


def table(result: Result) -> str:
    """Return the result as a table."""
    size, messages, steps = result["bytes"], result["messages"], result["steps"]
    lines = [
        f"{steps} control steps, {messages} messages, {size / 1e6:.1f} MB; "
        f"medians of {result['turns']} turns",
        f"{'':24} {'seconds':>9} {'us/message':>11} {'steps/s':>9} {'MB/s':>8}",
    ]
    for name, seconds in result["seconds"].items():
        lines.append(
            f"{name:24} {seconds:9.4f} {seconds / messages * 1e6:11.1f} "
            f"{steps / seconds:9.0f} {size / seconds / 1e6:8.0f}"
        )
    low, high = result["times_as_fast_by_turn"]
    lines.append(
        f"ours is {result['times_as_fast']:.1f} times as fast as the faster decoder "
        f"({low:.1f} to {high:.1f} over the turns), at {result['part_of_disk_rate']:.2f} of the "
        "disk's plain read rate"
    )
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark."""
    parser = options(__doc__, quick="an episode of 600 steps, 10 turns")
    given = parser.parse_args()
    steps, turns = (600, 10) if given.quick else (3000, 20)
    return report(lambda: measure(steps, turns), table, GOALS, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
