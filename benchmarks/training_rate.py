"""Control steps per second of wall time of the whole paced graph while its trainer learns.

The graph: a training session, its trainer making one update per control step of exploration on the
same cores; resets and the pauses between episodes count. The bare chains of `raw_chain.py` run
beside a process that makes as many updates per second as the trainer did meanwhile. They take
turns. The last line is JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import Goal, Result, options, own_domain, read_json, report
from raw_chain import EXECUTORS, raw_chain

from rl_robot.errors import UserError

GOAL = 100.0  # control steps per second
WARM_UP = 200  # periods of the bare chain
PRETRAINING = 300  # updates before there are weights to explore with
PATIENCE = 900.0  # s of wall time for one session


def session_rate(demonstrations: int, steps: int) -> Result:
    """Return what a session's exploration took, from its first reset to its last bag."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "rate"
        arguments = {
            "run": run.name,
            "root": run.parent,
            "demonstrations": demonstrations,
            "steps": steps,
            "blocks": 1,
            "validation": 1,
            "test": 1,
            "compare": "false",
            "pretraining_updates": PRETRAINING,
        }
        command = [sys.executable, "-m", "rl_robot.cli", "launch", "train.launch.py"]
        command += [f"{name}:={value}" for name, value in arguments.items()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise UserError(f"the session ended with {done.returncode}: {done.stderr[-300:]}")
        explored = next(
            row for row in read_json(run / "session.json")["stages"] if row["name"] == "explore 1"
        )
        updates = _updates_between(run, explored)
    seconds = explored["wall_seconds"]
    return {
        "steps_per_second": explored["control_steps"] / seconds,
        "updates_per_second": updates / seconds,
        "lost_periods": explored["lost_periods"],
    }


def _updates_between(run: Path, explored: Result) -> float:
    """Updates that the stage's exploration brought about, as far as they were made."""
    metrics = (run / "trainer" / "metrics.jsonl").read_text().splitlines()
    made = max(int(json.loads(line)["updates"]) for line in metrics if '"sac"' in line)
    return min(made - PRETRAINING, explored["steps"])


def chain_rate(executor: str, steps: int, updates_per_second: float) -> Result:
    """Return the rate of a bare chain beside a process that learns."""
    with (
        own_domain(),
        learning(updates_per_second),
        raw_chain(executor=executor, paced=True) as chain,
    ):
        before = chain.wait_for_periods(WARM_UP)
        began = time.perf_counter()
        after = chain.wait_for_periods(before + steps)
        return {"steps_per_second": (after - before) / (time.perf_counter() - began)}


@contextmanager
def learning(updates_per_second: float) -> Iterator[None]:
    """Make updates in another process, at this rate if the machine can."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--learn", str(updates_per_second)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    try:
        yield
    finally:
        process.kill()
        process.wait()


def learn(updates_per_second: float) -> None:
    """Make updates of the learner until killed."""
    import numpy as np
    import torch

    from rl_robot.experience.sources import DEMONSTRATION, ONLINE, Source
    from rl_robot.experience.transitions import EpisodeTransitions
    from rl_robot.learners import make_learner, new_replay, sample
    from rl_robot.robots.description import load_robot
    from rl_robot.tasks import flat_size, load_task

    torch.set_num_threads(1)
    task, robot = load_task("grasp"), load_robot("arm")
    learner = make_learner("sac", task, robot, seed=0)
    replay = new_replay(learner.config, task, 0)
    size, actions = flat_size(task.observation_spec), len(task.action_names)
    made_up = np.random.default_rng(0)
    for kind in (DEMONSTRATION, ONLINE):
        steps = 1000
        replay.store.add(
            Source(kind, robot.name, task.name),
            EpisodeTransitions(
                made_up.uniform(-1, 1, (steps + 1, size)).astype(np.float32),
                made_up.uniform(-1, 1, (steps, actions)).astype(np.float32),
                made_up.uniform(-1, 1, (steps, actions)).astype(np.float32),
                made_up.uniform(-1, 1, steps).astype(np.float32),
                True,
            ),
        )
    print("learning", flush=True)
    due = time.perf_counter()
    while True:
        learner.update(sample(learner.config, replay))
        due += 1.0 / updates_per_second
        time.sleep(max(0.0, due - time.perf_counter()))


def measure(given: argparse.Namespace) -> Result:
    """Let the session and the bare chains take turns; return the medians."""
    rounds, demonstrations, steps = (1, 10, 600) if given.quick else (given.rounds, 20, 1500)
    turns: dict[str, list[Result]] = {"graph": [], **{name: [] for name in EXECUTORS}}
    for _ in range(rounds):
        turns["graph"].append(session_rate(demonstrations, steps))
        updates = turns["graph"][-1]["updates_per_second"]
        for executor in EXECUTORS:
            turns[executor].append(chain_rate(executor, 2000, updates))
    rates = {
        name: statistics.median(one["steps_per_second"] for one in results)
        for name, results in turns.items()
    }
    return {
        "rounds": rounds,
        "rates": rates,
        "steps_per_second": rates["graph"],
        "updates_per_second": statistics.median(
            one["updates_per_second"] for one in turns["graph"]
        ),
        "lost_periods": max(one["lost_periods"] for one in turns["graph"]),
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    rows = [
        f"{'':36}{'steps/s':>10}",
        f"{'the graph, training':36}{result['rates']['graph']:10.1f}",
    ]
    rows += [
        f"{f'bare chain beside a trainer, {name}':36}{result['rates'][name]:10.1f}"
        for name in EXECUTORS
    ]
    rows.append(f"updates per second meanwhile: {result['updates_per_second']:.0f}")
    rows.append(f"control periods lost: {result['lost_periods']}")
    return "\n".join(rows)


def main() -> int:
    """Run the benchmark; 1 with --check when the graph is too slow."""
    parser = options(__doc__, quick="one turn of 600 control steps")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--learn", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.learn:
        learn(given.learn)
    goals = (Goal("steps_per_second", at_least=GOAL), Goal("lost_periods", at_most=0))
    return report(lambda: measure(given), table, goals, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
