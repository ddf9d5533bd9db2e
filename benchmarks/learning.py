"""How well and how fast the grasp is learnt: demonstrator, imitation and learned side by side.

In the Gymnasium environment with camera, without a graph, one process and one thread. Each seed
learns from the same demonstrations; all are judged on held-out test starts, and times are compared
on the starts that both solve. The last line is JSON.
"""

import math
import sys
import time
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from common import Goal, Result, options, report

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import EpisodeResult
from rl_robot.environments.training import Training, run_episodes, time_ratio
from rl_robot.learners import make_learner
from rl_robot.learners.bc import BehaviorCloning, BehaviorCloningConfig, Imitation
from rl_robot.policies import load_policy

GOALS = (
    Goal("worst_success", at_least=0.95),
    Goal("worst_time_ratio", at_most=0.7),  # of the demonstrator's steps to the grasp
    Goal("updates_per_second", at_least=250),
)


def measure(seeds: int, demonstrations: int, pretraining: int, steps: int, tests: int) -> Result:
    """Return success and steps to success of demonstrator, imitation and each learned policy."""
    env = RobotEnv("grasp")
    demonstrator = load_policy("weak_script", env.task, env.robot)
    shown = [
        result.transitions
        for result in run_episodes(env, demonstrator, "train", range(demonstrations), explore=True)
    ]
    shown_test = run_episodes(env, demonstrator, "test", range(tests))
    rows, rates = [], []
    for seed in range(seeds):
        learner = make_learner("sac", env.task, env.robot, seed=seed)
        training = Training(env, learner, shown, seed=seed)
        cloning = BehaviorCloning(env.task, env.robot, BehaviorCloningConfig(), seed=seed)
        imitation = Imitation(cloning, training.replay.store, env.task, seed=seed)
        while not imitation.done:
            imitation.step()
        imitated = run_episodes(env, imitation.policy(), "test", range(tests))
        began = time.perf_counter()
        training.update(pretraining)
        rates.append(pretraining / (time.perf_counter() - began))
        training.explore(steps)
        learned = run_episodes(env, learner.policy(training.updates), "test", range(tests))
        rows.append(
            {
                "seed": seed,
                "imitation": _against(imitated, shown_test),
                "learned": _against(learned, shown_test),
            }
        )
        print(rows[-1], file=sys.stderr)
    env.close()
    return {
        "demonstrator": _against(shown_test, shown_test),
        "seeds": rows,
        "worst_success": min(row["learned"]["success"] for row in rows),
        "worst_time_ratio": max(row["learned"]["time_ratio"] for row in rows),
        "updates_per_second": float(np.median(rates)),
    }


def _against(results: Sequence[EpisodeResult], others: Sequence[EpisodeResult]) -> Result:
    """Return success and steps to it, and the ratio to others' steps where both succeed."""
    solved = [result.steps for result in results if result.success]
    return {
        "success": len(solved) / len(results),
        "steps": float(np.mean(solved)) if solved else math.nan,
        "time_ratio": time_ratio(results, others),
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    lines = [f"{'':24}{'success':>10}{'steps':>10}{'ratio':>10}"]
    named = [("demonstrator", result["demonstrator"])]
    for row in result["seeds"]:
        named += [(f"{kind}, seed {row['seed']}", row[kind]) for kind in ("imitation", "learned")]
    for name, figures in named:
        lines.append(
            f"{name:24}{figures['success']:10.0%}{figures['steps']:10.1f}"
            f"{figures['time_ratio']:10.2f}"
        )
    lines.append(f"{result['updates_per_second']:.0f} updates/s")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; 1 with --check when a goal is missed."""
    parser = options(__doc__, quick="1 seed, judged on 30 starts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--pretraining", type=int, default=2000, help="updates before exploring")
    parser.add_argument("--steps", type=int, default=4000, help="control steps of exploration")
    parser.add_argument("--tests", type=int, default=100, help="test starts to be judged on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    seeds, tests = (1, 30) if given.quick else (given.seeds, given.tests)
    return report(
        lambda: measure(seeds, given.demonstrations, given.pretraining, given.steps, tests),
        table,
        GOALS,
        check=given.check,
    )


if __name__ == "__main__":
    sys.exit(main())
