"""One policy, the same starts: as a Gymnasium environment, and as a graph of nodes.

Both run the same task, perception, safety and policy code; here it shows whether they also come to
the same result: successes with 95 % intervals (E. B. Wilson, 1927), episode lengths, and on how
many starts both end alike after the same number of steps. The graph is paced and run by the bare
runner; its results are read from its bags. The last line is JSON.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import Goal, Result, options, report, run_session

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import run_episode
from rl_robot.evaluation.statistics import intervals_overlap, wilson
from rl_robot.policies import load_policy
from rl_robot.supervision.session import Session, SessionPlan

POLICIES = ("weak_script", "script")
LENGTHS_APART = 0.1  # of the graph's mean episode length
SPLIT = "test"


@dataclass(frozen=True)
class Ended:
    """How one episode ended."""

    success: bool
    steps: int


def in_environment(policy_name: str, task: str, starts: int) -> list[Ended]:
    """Run the policy in the environment that sees by its camera, seeded as a session does."""
    env = RobotEnv(task=task, perception="camera")
    policy = load_policy(policy_name, env.task, env.robot)
    ended = []
    for index in range(starts):
        plan = SessionPlan(robot=env.robot.name, policy=policy_name, split=SPLIT, first=index)
        episode = Session(plan, env.task).begin(0)
        result = run_episode(env, policy, SPLIT, index, seed=episode.seed)
        ended.append(Ended(result.success, result.steps))
    env.close()
    return ended


def in_graph(policy_name: str, task: str, starts: int) -> list[Ended]:
    """Run the policy through the paced graph."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_session(
            Path(folder) / "parity",
            task=task,
            policy=policy_name,
            pace="paced",
            episodes=starts,
            split=SPLIT,
        )
    rows = sorted(result["episode_table"], key=lambda row: row["index"])
    return [
        Ended(row["outcome"] == "success", row["steps"])
        for row in rows
        if row["outcome"] != "broken"
    ]


def compare(policy: str, environment: Sequence[Ended], graph: Sequence[Ended]) -> Result:
    """Return the figures of one policy."""
    result: Result = {"policy": policy, "starts": len(graph)}
    intervals = []
    for name, ended in (("environment", environment), ("graph", graph)):
        successes = sum(one.success for one in ended)
        intervals.append(wilson(successes, len(ended)))
        result[name] = {
            "successes": successes,
            "interval": [intervals[-1].low, intervals[-1].high],
            "mean_steps": float(np.mean([one.steps for one in ended])),
        }
    lengths = [result[name]["mean_steps"] for name in ("environment", "graph")]
    pairs = list(zip(environment, graph, strict=True))
    return result | {
        "overlap": intervals_overlap(*intervals),
        "lengths_apart": abs(lengths[0] - lengths[1]) / lengths[1],
        "same_outcome": sum(a.success == b.success for a, b in pairs),
        "same_outcome_and_steps": sum(a == b for a, b in pairs),
        "steps_apart": [a.steps - b.steps for a, b in pairs],
    }


def measure(given: argparse.Namespace) -> Result:
    """Compare every policy asked for."""
    starts = 20 if given.quick else given.starts
    compared = [
        compare(
            policy,
            in_environment(policy, given.task, starts),
            in_graph(policy, given.task, starts),
        )
        for policy in given.policy
    ]
    apart = [
        f"{one['policy']}'s intervals do not overlap" for one in compared if not one["overlap"]
    ]
    return {
        "task": given.task,
        "split": SPLIT,
        "policies": compared,
        "lengths_apart": max(one["lengths_apart"] for one in compared),
        "missed": apart,
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    rows = []
    for one in result["policies"]:
        rows.append(f"{one['policy']} on {one['starts']} starts of {result['split']}:")
        rows.append(f"  {'':12}{'successes':>10}{'95 % interval':>18}{'mean steps':>12}")
        for name in ("environment", "graph"):
            side = one[name]
            low, high = (100 * bound for bound in side["interval"])
            interval = f"{low:.1f} to {high:.1f} %"
            rows.append(
                f"  {name:12}{side['successes']:>10}{interval:>18}{side['mean_steps']:>12.2f}"
            )
        rows.append(
            f"  lengths {100 * one['lengths_apart']:.1f} % apart; on {one['same_outcome']} starts "
            f"the same outcome, on {one['same_outcome_and_steps']} after the same steps"
        )
    return "\n".join(rows)


def main() -> int:
    """Run the benchmark; 1 with --check when the two differ."""
    parser = options(__doc__, quick="20 starts")
    parser.add_argument("--starts", type=int, default=100, help="how many starts")
    parser.add_argument("--task", default="grasp")
    parser.add_argument("--policy", nargs="+", default=POLICIES, help="names or files")
    given = parser.parse_args()
    if given.starts < 1:
        parser.error("--starts must be at least 1")
    goals = (Goal("lengths_apart", at_most=LENGTHS_APART),)
    return report(lambda: measure(given), table, goals, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
