"""What smooth exploration noise, a low-pass on actions and a jerk penalty each do for the grasp.

The grasp is trained in the Gymnasium environment with all three, with each one left out, and with
none, on the same budget. Printed are the mean squared jerk of the arm's joints, as commanded, while
exploring and on held-out starts, and the success there. `--results` keeps each training as a line
of JSON, and none that it holds is run again. The last line is JSON.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean

import cv2
import torch
from common import Result, options, report
from matplotlib.figure import Figure

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import EpisodeResult
from rl_robot.environments.training import Training, run_episodes
from rl_robot.evaluation.statistics import wilson
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.learners import make_learner
from rl_robot.policies import load_policy
from rl_robot.tasks import Grasp


@dataclass(frozen=True)
class Variant:
    """What a training is smoothed by."""

    noise_correlation: float
    action_cutoff: float  # Hz
    jerk_weight: float


ALL = Variant(noise_correlation=0.7, action_cutoff=1.0, jerk_weight=0.01)
VARIANTS = {
    "all three": ALL,
    "white noise": replace(ALL, noise_correlation=0.0),
    "no low-pass": replace(ALL, action_cutoff=0.0),
    "no jerk penalty": replace(ALL, jerk_weight=0.0),
    "none of them": Variant(0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Budget:
    """How much each training is given, in episodes, updates and control steps."""

    demonstrations: int = 100
    pretraining: int = 2000
    steps: int = 3000
    tests: int = 100


@cache
def shown(jerk_weight: float, count: int) -> list[EpisodeTransitions]:
    """Return demonstrations, judged by that weight."""
    env = RobotEnv(Grasp(jerk_weight=jerk_weight))
    weak = load_policy("weak_script", env.task, env.robot)
    results = run_episodes(env, weak, "train", range(count), explore=True)
    env.close()
    return [result.transitions for result in results]


def train(variant: Variant, seed: int, budget: Budget) -> Result:
    """Train once; return what exploration and the held-out test were like."""
    demonstrations = shown(variant.jerk_weight, budget.demonstrations)
    env = RobotEnv(Grasp(jerk_weight=variant.jerk_weight))
    learner = make_learner(
        "sac",
        env.task,
        env.robot,
        seed=seed,
        noise_correlation=variant.noise_correlation,
        action_cutoff=variant.action_cutoff,
    )
    training = Training(env, learner, demonstrations, seed=seed)
    training.update(budget.pretraining)
    explored = training.explore(budget.steps)
    tested = run_episodes(env, learner.policy(training.updates), "test", range(budget.tests))
    env.close()
    return {
        "exploration": _figures(explored),
        "test": _figures(tested),
        "seconds": [r.steps * env.task.period for r in tested if r.success],
    }


def _figures(results: Sequence[EpisodeResult]) -> Result:
    """Return episodes, successes and the mean squared jerk over all their time, rad^2/s^6."""
    steps = sum(result.steps for result in results)
    return {
        "episodes": len(results),
        "successes": sum(result.success for result in results),
        "jerk": sum(result.squared_jerk * result.steps for result in results) / steps,
    }


def trainings(seeds: int, budget: Budget, kept: Path | None, most: int) -> Iterator[Result]:
    """Yield a result of every variant and seed; at most ``most`` are made, the others were kept."""
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    known = {_key(line): line for line in map(json.loads, lines)}
    for seed in range(1, seeds + 1):
        for name, variant in VARIANTS.items():
            made = {"name": name, "seed": seed, **asdict(variant), **asdict(budget)}
            if _key(made) not in known:
                if not most:
                    continue
                most -= 1
                made |= train(variant, seed, budget)
                if kept is not None:
                    with kept.open("a") as file:
                        file.write(json.dumps(made) + "\n")
                print(f"{name}, seed {seed}: {made['test']}", file=sys.stderr)
                known[_key(made)] = made
            yield known[_key(made)]


def _key(made: Result) -> tuple[float, ...]:
    return tuple(made[name] for name in ("seed", *asdict(ALL), *asdict(Budget())))


def measure(seeds: int, budget: Budget, kept: Path | None, most: int) -> Result:
    """Return the figures of each variant, pooled over its seeds."""
    rows = list(trainings(seeds, budget, kept, most))
    found = {name: [row for row in rows if row["name"] == name] for name in VARIANTS}
    return {"variants": {name: _pooled(mine) for name, mine in found.items() if mine}}


def _pooled(rows: Sequence[Result]) -> Result:
    successes = sum(row["test"]["successes"] for row in rows)
    episodes = sum(row["test"]["episodes"] for row in rows)
    explored = sum(row["exploration"]["successes"] for row in rows)
    interval = wilson(successes, episodes)
    seconds = [value for row in rows for value in row["seconds"]]
    return {
        "exploration_jerk": [row["exploration"]["jerk"] for row in rows],
        "exploration_success": explored / sum(row["exploration"]["episodes"] for row in rows),
        "test_jerk": [row["test"]["jerk"] for row in rows],
        "successes": [row["test"]["successes"] for row in rows],
        "tests": episodes,
        "success": successes / episodes,
        "interval": [interval.low, interval.high],
        "seconds": fmean(seconds) if seconds else math.nan,
    }


def table(result: Result) -> str:
    """Return the figures for people, as Markdown."""
    lines = [
        "| trained with | mean squared jerk exploring, rad^2/s^6 | on held-out starts | successes "
        "| 95 % interval | by seed | seconds to success | successes exploring |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["variants"].items():
        low, high = row["interval"]
        by_seed = ", ".join(str(count) for count in row["successes"])
        lines.append(
            f"| {name} | {_range(row['exploration_jerk'])} | {_range(row['test_jerk'])} "
            f"| {sum(row['successes'])} of {row['tests']} | {low:.0%} to {high:.0%} | {by_seed} "
            f"| {row['seconds']:.2f} | {row['exploration_success']:.0%} |"
        )
    return "\n".join(lines)


def _range(values: Sequence[float]) -> str:
    return f"{fmean(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def draw(result: Result, path: Path) -> None:
    """Draw jerk and success of each variant; a dot is a seed."""
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    exploring, testing, success = figure.subplots(1, 3, sharey=True)
    for place, row in enumerate(result["variants"].values()):
        for axes, values in ((exploring, row["exploration_jerk"]), (testing, row["test_jerk"])):
            axes.barh(place, fmean(values), color="#4878a8", alpha=0.5)
            axes.plot(values, [place] * len(values), "o", color="#23405c", markersize=4)
        low, high = row["interval"]
        success.plot([low, high], [place, place], color="#4878a8", linewidth=3)
        success.plot(row["success"], place, "o", color="#23405c")
    testing.set_title("mean squared jerk, held-out starts", fontsize=10, loc="left")
    exploring.set_title("mean squared jerk, exploring", fontsize=10, loc="left")
    success.set_title("successes on held-out starts", fontsize=10, loc="left")
    for axes in (exploring, testing):
        axes.set_xlim(left=0)
        axes.set_xlabel("rad²/s⁶", fontsize=9)
    success.set_xlabel("with 95 % interval", fontsize=9)
    success.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    exploring.set_yticks(range(len(result["variants"])), list(result["variants"]))
    exploring.invert_yaxis()
    figure.savefig(path, dpi=160)


def main() -> int:
    """Run the benchmark."""
    parser = options(__doc__, quick="1 seed, a tenth of the exploration, judged on 10 starts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="file that keeps each training, as JSON lines")
    parser.add_argument("--most", type=int, default=10**9, help="trainings in this call, at most")
    parser.add_argument("--plot", type=Path, help="picture to draw")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    budget = Budget(demonstrations=20, steps=400, tests=10) if given.quick else Budget()
    seeds = 1 if given.quick else given.seeds

    def show(result: Result) -> str:
        if given.plot:
            draw(result, given.plot)
        return table(result)

    return report(
        lambda: measure(seeds, budget, given.results, given.most), show, (), check=given.check
    )


if __name__ == "__main__":
    sys.exit(main())
