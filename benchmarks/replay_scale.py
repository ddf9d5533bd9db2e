"""Whether the replay stays as it is when it grows: memory, time to add, time to sample.

Episodes of 50 steps, 40 floats observed and 6 done, half demonstrated, are added to a replay on
disk, and batches of 256 transitions over 3 steps drawn from it. Each size has a process of its own,
whose resident memory is looked at in the end: the anonymous part (its own) and the part that are
pages of files, which it may share. Beside it, with as many transitions: the n-step replay buffer of
Stable-Baselines3, which is in memory and adds step by step, and the floor, `numpy.take` of as many
bytes from an array in memory. A second, smaller row of sizes has pictures, 64 x 64 RGB, of which
each batch has 256 before and 256 after. The files stay in the page cache as far as there is room;
what a disk adds is not measured. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import Goal, Result, options, report

from rl_robot.experience.replay import Replay
from rl_robot.experience.ring import Layout
from rl_robot.experience.sources import DEMONSTRATION, ONLINE, Mixture, Source
from rl_robot.experience.store import ReplayStore
from rl_robot.experience.transitions import EpisodeTransitions

STEPS, OBSERVED, DONE, BATCH, N_STEP = 50, 40, 6, 256, 3
PICTURE = (64, 64, 3)
SIZES = (100, 1_000, 3_000, 10_000, 30_000, 100_000)
PICTURE_SIZES = (100, 300, 1_000, 3_000)
BASE = 1_000  # episodes that larger sizes are compared with; at 100, files are mapped
CHUNK = 50  # episodes that are timed together
GOALS = (
    Goal("resident_ratio", at_most=1.2),
    Goal("ingest_ratio", at_most=1.5),
    Goal("sample_ratio", at_most=2.0),
)


def episode(seed: int, *, pictures: bool = False) -> EpisodeTransitions:
    """Return an episode of noise."""
    random = np.random.default_rng(seed)
    shapes = {
        "observations": (STEPS + 1, OBSERVED),
        "proposed": (STEPS, DONE),
        "executed": (STEPS, DONE),
        "rewards": (STEPS,),
    }
    floats = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    seen = {"camera": random.integers(0, 256, (STEPS + 1, *PICTURE), np.uint8)} if pictures else {}
    return EpisodeTransitions(**floats, terminated=True, pictures=seen)


def measure_ours(episodes: int, *, pictures: bool = False) -> Result:
    """Fill a replay on disk and sample from it."""
    layout = Layout(OBSERVED, DONE, pictures={"camera": PICTURE} if pictures else {})
    made = [episode(seed, pictures=pictures) for seed in range(CHUNK)]
    sources = [Source(kind, "arm", "grasp") for kind in (DEMONSTRATION, ONLINE)]
    times = []
    with tempfile.TemporaryDirectory() as folder:
        store = ReplayStore.write(Path(folder), layout, capacity=(STEPS + 1) * SIZES[-1])
        for begin in range(0, episodes, CHUNK):
            began = time.perf_counter()
            for number in range(begin, begin + CHUNK):
                store.add(sources[number % 2], made[number % CHUNK])
            times.append((time.perf_counter() - began) / CHUNK)
        names = ["camera"] if pictures else []
        replay = Replay(store, discount=0.97, n_step=N_STEP, pictures=names)
        mixture = Mixture.demonstrated(0.5)
        sampled = timed(lambda: replay.sample(BATCH, mixture), 30 if pictures else 300)
        result = {
            "ingest_us": float(np.median(times)) * 1e6,
            "ingest_mean_us": float(np.mean(times)) * 1e6,
            "sample_us": sampled,
            **resident(),
            "megabytes": episodes * (STEPS + 1) * layout.row_bytes / 1e6,
        }
        store.close()
    return result


def measure_pictures(episodes: int) -> Result:
    """Do the same with a picture in each row."""
    return measure_ours(episodes, pictures=True)


def measure_peer(episodes: int) -> Result:
    """Fill the buffer in memory; time the adding of some episodes, and sampling from all."""
    from gymnasium.spaces import Box
    from stable_baselines3.common.buffers import NStepReplayBuffer

    buffer = NStepReplayBuffer(
        episodes * STEPS,
        Box(-1, 1, (OBSERVED,)),
        Box(-1, 1, (DONE,)),
        n_steps=N_STEP,
        gamma=0.97,
        device="cpu",
    )
    one = episode(0)
    before, after = one.observations[:-1], one.observations[1:]
    began = time.perf_counter()
    for _ in range(min(episodes, CHUNK)):
        for t in range(STEPS):
            done = np.array([t == STEPS - 1])
            buffer.add(before[t], after[t], one.executed[t], one.rewards[t], done, [{}])
    ingest = (time.perf_counter() - began) / min(episodes, CHUNK)
    for begin in range(0, episodes * STEPS, STEPS):  # the rest as fast as numpy can
        own = slice(begin, begin + STEPS)
        buffer.observations[own, 0], buffer.next_observations[own, 0] = before, after
        buffer.actions[own, 0], buffer.rewards[own, 0] = one.executed, one.rewards
        buffer.dones[begin + STEPS - 1, 0] = 1.0
    buffer.pos, buffer.full = 0, True
    sampled = timed(lambda: buffer.sample(BATCH), 300)
    return {"ingest_us": ingest * 1e6, "sample_us": sampled, **resident()}


def measure_floor(episodes: int) -> Result:
    """Copy as many bytes as a batch is gathered from, from random places in memory."""
    size = Layout(OBSERVED, DONE).row.itemsize
    rows = np.ones(episodes * (STEPS + 1) * size, np.uint8).view(f"V{size}")
    random = np.random.default_rng(0)

    def gather() -> object:
        starts = random.integers(0, len(rows) - N_STEP - 1, BATCH)
        return np.take(rows, starts[:, None] + np.arange(N_STEP + 1))

    return {"sample_us": timed(gather, 300), **resident()}


def timed(work: Callable[[], object], times: int) -> float:
    """Return the median time of ``work`` in microseconds."""
    for _ in range(times // 10):
        work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e6


def resident() -> Result:
    """Return this process's resident memory in MB: its own, and pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if "kB" in line}
    return {
        "anonymous_mb": kilobytes["RssAnon"] * 1024 / 1e6,
        "files_mb": (kilobytes["RssFile"] + kilobytes["RssShmem"]) * 1024 / 1e6,
    }


KINDS: dict[str, Callable[[int], Result]] = {
    "ours": measure_ours,
    "peer": measure_peer,
    "floor": measure_floor,
    "pictures": measure_pictures,
}


def in_a_process(kind: str, episodes: int) -> Result:
    """Measure one kind at one size."""
    command = [sys.executable, __file__, "--measure", kind, "--episodes", str(episodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind} {episodes}: {result}", file=sys.stderr)
    return result


def measure(given: argparse.Namespace) -> Result:
    """Measure all sizes, each kind in turn, and compare the largest with `BASE`."""
    sizes = [size for size in SIZES if not given.quick or size <= 10_000]
    picture_sizes = [size for size in PICTURE_SIZES if not given.quick or size <= 300]
    rows: dict[str, dict[int, Result]] = {kind: {} for kind in KINDS}
    for size in sizes:
        for kind in ("ours", "peer", "floor"):
            rows[kind][size] = in_a_process(kind, size)
    for size in picture_sizes:
        rows["pictures"][size] = in_a_process("pictures", size)
    base, largest = rows["ours"][BASE], rows["ours"][sizes[-1]]
    return {
        "rows": rows,
        "resident_ratio": _resident(largest) / _resident(base),
        "ingest_ratio": largest["ingest_us"] / base["ingest_us"],
        "sample_ratio": max(rows["ours"][size]["sample_us"] for size in sizes if size >= BASE)
        / base["sample_us"],
    }


def _resident(row: Result) -> float:
    return float(row["anonymous_mb"] + row["files_mb"])


def table(result: Result) -> str:
    """Return the figures for people."""
    lines = [
        f"{'':9}{'episodes':>9}{'data MB':>9}{'anonymous MB':>14}{'of files MB':>13}"
        f"{'add us':>9}{'(mean)':>9}{'sample us':>11}"
    ]
    for kind, sizes in result["rows"].items():
        for size, row in sizes.items():
            figures = (row.get(name, float("nan")) for name in ("ingest_us", "ingest_mean_us"))
            add, mean = figures
            lines.append(
                f"{kind:9}{size:9}{row.get('megabytes', float('nan')):9.0f}"
                f"{row['anonymous_mb']:14.0f}{row['files_mb']:13.0f}{add:9.0f}{mean:9.0f}"
                f"{row['sample_us']:11.0f}"
            )
    lines.append(
        f"largest to {BASE} episodes: resident memory {result['resident_ratio']:.2f}, "
        f"adding {result['ingest_ratio']:.2f}, sampling {result['sample_ratio']:.2f}"
    )
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; 1 with --check when a goal is missed."""
    parser = options(__doc__, quick="up to 10,000 episodes, 300 with pictures")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--episodes", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.measure:
        print(json.dumps(KINDS[given.measure](given.episodes)))
        return 0
    return report(lambda: measure(given), table, GOALS, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
