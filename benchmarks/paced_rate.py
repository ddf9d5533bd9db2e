"""Control steps per second of wall time of the whole paced graph, beside a bare chain.

The graph: all nodes, every episode reset, judged and recorded; its rate counts the resets' steps
and the pauses between episodes. The bare chain: four processes that hand on the same messages and
do nothing else, with a recorder that takes everything raw. They take turns.

Wall time depends on what else the machine does, so the processor time of each process per control
step is shown as well. The last line is JSON.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import (
    Goal,
    Result,
    cpu_seconds,
    node_pids,
    options,
    own_domain,
    read_json,
    report,
    running_session,
)
from raw_chain import EXECUTORS, raw_chain

from rl_robot.errors import UserError

GOAL = 150.0  # control steps per second
WARM_UP = 200  # periods of the bare chain
PATIENCE = 300.0  # s of wall time for one episode


def graph_rate(policy: str, episodes: int, **arguments: object) -> Result:
    """Return steps per second and processor milliseconds per step, from after the first episode."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "rate"
        session = running_session(
            run, policy=policy, pace="paced", split="test", episodes=episodes + 1, **arguments
        )
        with session as process:
            first = _wait_for_episode(run, 1, process)
            pids = node_pids(process.pid)
            began = cpu_seconds(pids)
            last = _wait_for_episode(run, episodes, process)
            ended = cpu_seconds(pids)
    steps = last["control_steps"] - first["control_steps"]
    result = _rate(steps, last["wall_seconds"] - first["wall_seconds"], began, ended)
    return result | {"lost_periods": last["lost_periods"]}


def _wait_for_episode(run: Path, done: int, process: subprocess.Popen[bytes]) -> Result:
    """Return what the session says of itself once so many episodes are done."""
    deadline = time.monotonic() + PATIENCE * (done + 1)
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "session.json").exists():
            session = read_json(run / "session.json")
            if session["episodes"] >= done:
                return session
        time.sleep(0.01)
    raise UserError(f"the graph did not finish {done} episodes: run it alone to see why")


def chain_rate(executor: str, steps: int) -> Result:
    """Return the same figures of the bare chain."""
    with own_domain(), raw_chain(executor=executor, paced=True) as chain:
        before = chain.wait_for_periods(WARM_UP)
        began, began_at = cpu_seconds(chain.pids), time.perf_counter()
        after = chain.wait_for_periods(before + steps)
        seconds = time.perf_counter() - began_at
        return _rate(after - before, seconds, began, cpu_seconds(chain.pids))


def _rate(
    steps: int, seconds: float, began: Mapping[str, float], ended: Mapping[str, float]
) -> Result:
    used = {name: 1e3 * (ended[name] - began[name]) / steps for name in began}
    return {"steps_per_second": steps / seconds, "cpu_ms": used}


def measure(given: argparse.Namespace) -> Result:
    """Let graph and bare chains take turns; return the medians."""
    rounds, episodes, steps = (1, 8, 1000) if given.quick else (given.rounds, given.episodes, 3000)
    turns: dict[str, list[Result]] = {"graph": [], **{name: [] for name in EXECUTORS}}
    for _ in range(rounds):
        turns["graph"].append(graph_rate(given.policy, episodes))
        for executor in EXECUTORS:
            turns[executor].append(chain_rate(executor, steps))
    sides = {name: _median(results) for name, results in turns.items()}
    return {
        "policy": given.policy,
        "rounds": rounds,
        **sides,
        "steps_per_second": sides["graph"]["steps_per_second"],
        "lost_periods": max(result["lost_periods"] for result in turns["graph"]),
    }


def _median(results: Sequence[Result]) -> Result:
    names = results[0]["cpu_ms"]
    cpu = {name: statistics.median(one["cpu_ms"][name] for one in results) for name in names}
    rate = statistics.median(one["steps_per_second"] for one in results)
    return {"steps_per_second": rate, "cpu_ms": cpu, "cpu_ms_in_all": sum(cpu.values())}


def table(result: Result) -> str:
    """Return the figures for people."""
    rows = [f"{'':28}{'steps/s':>10}{'CPU ms per step':>18}"]
    titles = {"graph": "the paced graph", **{name: f"bare chain, {name}" for name in EXECUTORS}}
    for key, title in titles.items():
        side = result[key]
        rows.append(f"{title:28}{side['steps_per_second']:10.1f}{side['cpu_ms_in_all']:18.2f}")
        used = sorted(side["cpu_ms"].items(), key=lambda item: -item[1])
        rows += [f"    {name:34}{value:18.2f}" for name, value in used]
    rows.append(f"control periods lost: {result['lost_periods']}")
    return "\n".join(rows)


def main() -> int:
    """Run the benchmark; 1 with --check when the graph is too slow."""
    parser = options(__doc__, quick="one turn of 8 episodes")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--episodes", type=int, default=20, help="of the graph in one turn")
    parser.add_argument("--policy", default="script")
    given = parser.parse_args()
    if given.rounds < 1 or given.episodes < 2:
        parser.error("--rounds must be at least 1 and --episodes at least 2")
    goals = (Goal("steps_per_second", at_least=GOAL), Goal("lost_periods", at_most=0))
    return report(lambda: measure(given), table, goals, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
