"""The reality gap, with Gazebo for reality: policies learnt in MuJoCo, on the same held-out starts.

Every policy runs through the same paced graph in both simulators: another physics engine, another
renderer, the same topics, task, perception and safety. Successes have Wilson's intervals; the drop
of one policy is a difference of paired proportions (R. G. Newcombe, 1998), that of policies from
several seeds the mean of theirs with Student's t over the seeds, for a policy learnt anew may be
any of these. The scripted expert runs too: what it loses is not for want of learning. Beside that:
how far the perceived block is from the true one, and the arm from where it was told to be.

Without policies some are learnt first, a session per seed. Runs are kept in --root, and one that
is there already, finished, is not run again. The last line is JSON.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import Result, launch_command, options, report, run_session, running
from common import end_of as wait_for
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from rl_robot.bags import BagReader
from rl_robot.bags.pictures import image_pixels
from rl_robot.errors import UserError
from rl_robot.evaluation.comparison import compare, tally
from rl_robot.evaluation.episodes import EpisodeFigures, read_episode, read_outcome, read_run
from rl_robot.evaluation.statistics import mean_interval, paired_difference
from rl_robot.experience.runs import RunFolder
from rl_robot.robots.description import load_robot

SIMULATORS = ("mujoco", "gazebo")
SCRIPT = "script"
SPLIT = "test"
LEARNT_IN = "mujoco"
QUARTER_TURN = math.pi / 2.0  # after which a cube looks the same
BAGS_LOOKED_INTO = 20  # of each run, for the errors
FRAMES = 4


# --- runs ----------------------------------------------------------------------------------------


def learn(root: Path, seed: int) -> Path:
    """Return the policy that a training session learns, running or resuming it if need be."""
    run = root / f"learn-{seed}"
    policy = run / "policies" / "learned.safetensors"
    finished = run / "result.json"
    if not (policy.is_file() and finished.is_file()):
        begun = (run / "session.json").is_file()
        given = {"resume": str(run)} if begun else {"seed": seed, "simulator": LEARNT_IN}
        say(f"learning with seed {seed}: {'going on with' if begun else ''} {run}")
        command = launch_command("train", run, **given)
        if begun:
            command = [part for part in command if not part.startswith(("run:=", "root:="))]
        with running(command, run) as session:
            wait_for(session)
    return policy


def tried(root: Path, name: str, policy: str, simulator: str, episodes: int) -> RunFolder:
    """Return the run of a policy in a simulator, recorded unless it is there already.

    Raises:
        UserError: what is there is another policy's, or was broken off.
    """
    run = root / f"{name}-{simulator}-{episodes}"
    if not run.exists():
        say(f"{name} in {simulator}: {episodes} starts")
        run_session(
            run, policy=policy, simulator=simulator, pace="paced", episodes=episodes, split=SPLIT
        )
    folder = RunFolder.open(run)
    recorded = [read_outcome(bag) for bag in folder.list_episodes()]
    if sum(one.counts for one in recorded) < episodes:  # Ctrl-C leaves a result too, of fewer
        raise UserError(f"{run} was not finished: remove it, or give another --root")
    if any(one.metadata.policy != policy for one in recorded):
        raise UserError(f"{run} is not of {policy}: remove it, or give another --root")
    return folder


def say(text: str) -> None:
    """Say on standard error what is going on, for it takes minutes."""
    print(text, file=sys.stderr, flush=True)


# --- figures -------------------------------------------------------------------------------------


def failure(episode: EpisodeFigures) -> str:
    """Return how far an episode that failed had come."""
    best = episode.best_terms
    if best.get("grasp", 0.0) <= 0.0:
        return "never held it"
    return "held it, and not up to the height" if best.get("lift", 0.0) < 0.05 else "lost it there"


def figures_of(name: str, episodes: Mapping[str, Sequence[EpisodeFigures]]) -> Result:
    """Return the figures of one policy in both simulators, and the drop between them."""
    here, there = (episodes[simulator] for simulator in SIMULATORS)
    paired = compare(here, there)
    drop, interval = paired_difference(
        paired["both"], paired["only_first"], paired["only_second"], paired["neither"]
    )
    sides = {}
    for simulator in SIMULATORS:
        failed = [failure(e) for e in episodes[simulator] if e.counts and not e.succeeded]
        sides[simulator] = tally(episodes[simulator]) | {
            "failures": {kind: failed.count(kind) for kind in sorted(set(failed))}
        }
    return {
        "policy": name,
        **sides,
        "paired": paired,
        "drop": drop,
        "drop_interval": [interval.low, interval.high],
    }


def errors_of(run: RunFolder) -> Result:
    """Return how far perception is from the truth, and joints from their commands, in a run."""
    robot = load_robot(BagReader(run.list_episodes()[0]).episode.robot)
    seen: list[tuple[float, float]] = []
    followed: list[float] = []
    for path in run.list_episodes()[:BAGS_LOOKED_INTO]:
        reader = BagReader(path)
        seen += perception_errors(reader)
        followed += following_errors(reader, robot.arm_joints)
    if not seen or not followed:
        raise UserError(f"{run.path} has no poses or no commands to look at")
    positions, yaws = np.array(seen).T
    return {
        "position_median_mm": 1e3 * float(np.median(positions)),
        "position_p95_mm": 1e3 * float(np.quantile(positions, 0.95)),
        "yaw_median_deg": math.degrees(float(np.median(yaws))),
        "yaw_p95_deg": math.degrees(float(np.quantile(yaws, 0.95))),
        "following_median_rad": float(np.median(followed)),
        "following_p95_rad": float(np.quantile(followed, 0.95)),
    }


def perception_errors(reader: BagReader) -> list[tuple[float, float]]:
    """Return position error (m) and yaw error (rad) of every pose that was seen, not held."""
    truth, errors = {}, []
    for _, _, _, message in reader.decoded(["simulator/block/pose"]):
        truth[_stamp(message)] = _pose(message)
    for stamp, (position, yaw) in {
        _stamp(m): _pose(m) for _, _, _, m in reader.decoded(["perception/block/pose"])
    }.items():
        if stamp in truth:
            true_position, true_yaw = truth[stamp]
            turn = (yaw - true_yaw + QUARTER_TURN / 2.0) % QUARTER_TURN - QUARTER_TURN / 2.0
            errors.append((float(np.linalg.norm(position - true_position)), abs(turn)))
    return errors


def following_errors(reader: BagReader, joints: Sequence[str]) -> list[float]:
    """Return how far each arm joint is (rad) from the end of the motion executed last."""
    told: dict[int, dict[str, float]] = {}
    for _, _, _, message in reader.decoded(["safety/command"]):
        point = message.points[-1]
        after = point.time_from_start.sec * 1_000_000_000 + point.time_from_start.nanosec
        told[_stamp(message) + after] = dict(zip(message.joint_names, point.positions, strict=True))
    errors = []
    for _, _, _, message in reader.decoded(["joint_states"]):
        wanted = told.get(_stamp(message))
        if wanted:
            measured = dict(zip(message.name, message.position, strict=True))
            errors += [abs(measured[joint] - wanted[joint]) for joint in joints]
    return errors


def _stamp(message: object) -> int:
    stamp = message.header.stamp  # type: ignore[attr-defined]
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _pose(message: object) -> tuple[np.ndarray, float]:
    pose = message.pose  # type: ignore[attr-defined]
    p, q = pose.position, pose.orientation
    yaw = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_euler("zyx")[0]
    return np.array([p.x, p.y, p.z]), float(yaw)


# --- a picture -----------------------------------------------------------------------------------


def plot(result: Result, root: Path, path: Path) -> None:
    """Draw one start as both cameras see it at the same moments, and the successes."""
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    strips, successes = figure.subfigures(1, 2, width_ratios=[1.5, 1.0])
    name = result["policies"][-1]["policy"]
    rows = strips.subplots(len(SIMULATORS), FRAMES, squeeze=False)
    for axes, simulator in zip(rows, SIMULATORS, strict=True):
        run = RunFolder.open(root / f"{name}-{simulator}-{result['episodes']}")
        for axis, frame in zip(axes, frames(run.list_episodes()[0]), strict=True):
            axis.imshow(frame)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0].set_ylabel(simulator)
    strips.suptitle(f"{name}, the first held-out start")
    axis = successes.subplots()
    for offset, simulator, colour in ((0.1, SIMULATORS[0], "#2f6fb3"), (-0.1, "gazebo", "#d0893b")):
        for row, one in enumerate(reversed(result["policies"])):
            side = one[simulator]
            low, high = (100.0 * bound for bound in side["success_interval"])
            axis.plot([low, high], [row + offset] * 2, color=colour)
            label = simulator if row == 0 else None
            axis.plot(100.0 * side["success_rate"], row + offset, "o", color=colour, label=label)
    names = [one["policy"] for one in reversed(result["policies"])]
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(f"successes on {result['episodes']} held-out starts, %, 95 % interval")
    axis.legend(loc="upper left")
    figure.savefig(path, dpi=110)


def frames(bag: Path) -> list[npt.NDArray[np.uint8]]:
    """Return pictures (H, W, 3) of an episode, from its first to its last, evenly spread."""
    pictures = [image_pixels(m) for _, _, _, m in BagReader(bag).decoded(["camera/image_raw"])]
    return [pictures[i] for i in np.linspace(0, len(pictures) - 1, FRAMES).round().astype(int)]


# --- the whole -----------------------------------------------------------------------------------


def policies_of(given: argparse.Namespace) -> dict[str, str]:
    """Return the policies to try by name: those given, or learnt ones, and the scripted expert."""
    files = [Path(file) for file in given.policies]
    for file in files:
        if not file.is_file():
            raise UserError(f"policy {file}: no such file; one ends in .safetensors")
    if not files and not given.quick:
        files = [learn(given.root, seed) for seed in given.seeds]
    names = [f"learned-{n}" for n, _ in enumerate(files, 1)]
    return {SCRIPT: SCRIPT} | dict(zip(names, map(str, files), strict=True))


def measure(given: argparse.Namespace) -> Result:
    """Try every policy in both simulators."""
    given.root.mkdir(parents=True, exist_ok=True)
    episodes = 20 if given.quick else given.episodes
    results, errors = [], {}
    for name, policy in policies_of(given).items():
        runs = {s: tried(given.root, name, policy, s, episodes) for s in SIMULATORS}
        outcomes = {s: read_run(run, read_episode)[0] for s, run in runs.items()}
        results.append(figures_of(name, outcomes) | {"file": policy})
        if name == SCRIPT:
            errors = {s: errors_of(run) for s, run in runs.items()}
    learned = [one for one in results if one["policy"] != SCRIPT]
    lost = sum(one[s]["lost_periods"] for one in results for s in SIMULATORS)
    result: Result = {
        "episodes": episodes,
        "policies": results,
        "errors": errors,
        "learned_drop": overall(learned),
        "missed": [f"{lost} control periods were lost"] if lost else [],
    }
    if given.plot:
        plot(result, given.root, given.plot)
    return result


def overall(learned: Sequence[Result]) -> Result | None:
    """Return the mean drop of learned policies, its interval over them; None without any."""
    if not learned:
        return None
    drop, interval = learned[0]["drop"], learned[0]["drop_interval"]
    if len(learned) > 1:
        mean = mean_interval([one["drop"] for one in learned])
        drop, interval = mean.mean, [mean.interval.low, mean.interval.high]
    longer = [one["paired"]["steps"]["ratio"] for one in learned if one["paired"]["steps"]]
    return {
        "policies": len(learned),
        "drop": drop,
        "interval": interval,
        "successes": {s: sum(one[s]["successes"] for one in learned) for s in SIMULATORS},
        "episodes": {s: sum(one[s]["episodes"] for one in learned) for s in SIMULATORS},
        "steps_ratio": float(np.mean(longer)) if longer else None,
    }


def table(result: Result) -> str:
    """Return the figures for people, in Markdown."""
    rows = [
        "| policy | MuJoCo | Gazebo | drop | steps to success in both | failures in Gazebo |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in result["policies"]:
        here, there = (one[simulator] for simulator in SIMULATORS)
        cells = [one["policy"], _share(here), _share(there)]
        cells += [_points(one["drop"], one["drop_interval"]), f"{_steps(here)} / {_steps(there)}"]
        cells += ["; ".join(f"{n} {kind}" for kind, n in there["failures"].items())]
        rows.append(f"| {' | '.join(cells)} |")
    whole = result["learned_drop"]
    if whole is not None:
        sums = (f"{whole['successes'][s]} of {whole['episodes'][s]}" for s in SIMULATORS)
        rows.append(
            f"\n{whole['policies']} learned: {' in MuJoCo, '.join(sums)} in Gazebo; mean drop "
            f"{_points(whole['drop'], whole['interval'])}"
        )
        if whole["steps_ratio"]:
            rows[-1] += f"; {whole['steps_ratio']:.2f} times as many steps where both succeed"
    rows += ["\n| error, expert's runs | MuJoCo | Gazebo |", "| --- | --- | --- |"]
    for key, label, form in (
        ("position", "block's position, median (95th percentile), mm", "{:.2f} ({:.2f})"),
        ("yaw", "block's yaw, degrees", "{:.2f} ({:.2f})"),
        ("following", "joints behind their commands, rad", "{:.4f} ({:.4f})"),
    ):
        unit = {"position": "mm", "yaw": "deg", "following": "rad"}[key]
        cells = [
            form.format(errors[f"{key}_median_{unit}"], errors[f"{key}_p95_{unit}"])
            for errors in (result["errors"][simulator] for simulator in SIMULATORS)
        ]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _share(side: Result) -> str:
    low, high = (100.0 * bound for bound in side["success_interval"])
    return f"{side['successes']} of {side['episodes']} ({low:.0f} to {high:.0f} %)"


def _points(drop: float, interval: Sequence[float]) -> str:
    low, high = (100.0 * bound for bound in interval)
    return f"{100.0 * drop:.1f} points ({low:.1f} to {high:.1f})"


def _steps(side: Result) -> str:
    steps = side["steps_to_success"]
    return f"{steps['mean']:.1f}" if steps else "-"


def main() -> int:
    """Run the benchmark; 1 with --check when a control period was lost."""
    parser = options(__doc__, quick="20 starts; without policies given, the expert's alone")
    parser.add_argument("policies", nargs="*", help=".safetensors files; learnt first without any")
    parser.add_argument("--episodes", type=int, default=100, help="held-out starts of each policy")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[31, 32, 33, 34, 35], help="of what is learnt"
    )
    parser.add_argument("--root", type=Path, default=Path("runs/reality_gap"), help="for the runs")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as .png or .svg")
    given = parser.parse_args()
    if given.episodes < 1:
        parser.error("--episodes must be at least 1")
    return report(lambda: measure(given), table, (), check=given.check)


if __name__ == "__main__":
    sys.exit(main())
