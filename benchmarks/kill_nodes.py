"""What a robot in motion does when the processes around it die or hang, at real time.

First table: policy, camera, perception, joint states and the safety filter, each killed (SIGKILL)
and made to hang (SIGSTOP) while the robot moves. Measured is the time from just before the signal
to the last joint state (100 Hz, the simulator's own) in which a joint is faster than 0.1 % of its
velocity limit: the servos' ringing dies out below that. It is the robot's time, by the stamps of
the joint states: now and then a process dies or is stopped while it holds a lock of the middleware
and blocks the simulator, and with it the simulated robot, for a second. The time by the wall clock
and the longest silence of the joint states stand beside it. The robot has to stand within

    timeout + stopping time + 2 control periods,

the timeout being 2.5 control periods, for the safety filter the driver's of the robot's YAML, and
the stopping time that of the joints' greatest speeds from the signal to the timeout, under their
limits of acceleration and jerk, from the worst acceleration. The peaks are the greatest measured
speed and acceleration, as shares of the limits, from the signal until the robot has moved again for
a third of a second, the wake-up of the process or its successor included; beside them those of
undisturbed motion.

Second table: whole sessions, in which trainer, reward and recorder are hit. The policy has to go
on moving the robot until the supervisor ends the episode, the episode has to be marked, node and
session have to come back, and no bag may be lost. A trial takes half a minute, so there are fewer.
The last line is JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy
from bystanders import BYSTANDERS, Bystanders, readable, session_of
from common import Result, options, own_domain, report
from stops import SIGNALS, VICTIMS, Rig, Trial

from rl_robot.experience.runs import RunFolder

QUICK_TRIALS, QUICK_HITS = 5, 2
UNDISTURBED = "undisturbed"  # the row that the peaks are compared with


@contextmanager
def ros() -> Iterator[None]:
    """Have ROS in this process, in a domain of its own."""
    with own_domain(real_time=True):
        rclpy.init()
        try:
            yield
        finally:
            rclpy.try_shutdown()


def say(text: str) -> None:
    """Say how far it is, where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


# --- those that move the robot ------------------------------------------------------------------


def measure_stops(rows: list[str], trials: int, kept: Path | None, minutes: float) -> Result:
    """Return the figures of the first table, as far as it came within so many minutes.

    The trials in the file ``kept`` count, and new ones are added to it.
    """
    done = _read_trials(kept)
    until = time.monotonic() + 60.0 * minutes

    def behind() -> str:  # they take turns, so that the machine's moods meet all of them
        return min(rows, key=lambda row: len(done[row]))

    if len(done[behind()]) < trials:
        with ros(), tempfile.TemporaryDirectory() as folder:
            rig = Rig(Path(folder))
            try:
                _keep(kept, done, UNDISTURBED, rig.undisturbed())
                while len(done[row := behind()]) < trials and time.monotonic() < until:
                    _keep(kept, done, row, rig.run_trial(*row.split()))
            finally:
                rig.close()
    peaks = _highest(done.pop(UNDISTURBED))
    return {
        "undisturbed": peaks,
        "rows": {row: stop_figures(done[row]) for row in rows if done[row]},
    }


def _read_trials(kept: Path | None) -> dict[str, list[Trial]]:
    """Return the trials in a file, by row."""
    done: dict[str, list[Trial]] = defaultdict(list)
    if kept is not None and kept.exists():
        for line in kept.read_text().splitlines():
            row, values = json.loads(line)
            done[row].append(Trial(**values))
    return done


def _keep(kept: Path | None, done: dict[str, list[Trial]], row: str, trial: Trial) -> None:
    """Add a trial to its row, and to the file."""
    done[row].append(trial)
    line = json.dumps([row, trial._asdict()])
    say(line)
    if kept is not None:
        with kept.open("a") as file:
            file.write(line + "\n")


def _highest(trials: list[Trial]) -> Result:
    """Return the highest peaks of trials."""
    return {
        "speed": max(trial.speed for trial in trials),
        "acceleration": max(trial.acceleration for trial in trials),
    }


def stop_figures(trials: list[Trial]) -> Result:
    """Return the figures of one row."""
    closest = max(trials, key=lambda trial: trial.stopped - trial.bound)
    return {
        "n": len(trials),
        "median": statistics.median(trial.stopped for trial in trials),
        "worst": max(trial.stopped for trial in trials),
        "closest": closest.stopped,
        "closest_bound": closest.bound,
        "worst_wall": max(trial.wall for trial in trials),
        "silence": max(trial.silence for trial in trials),
        "violations": sum(trial.stopped > trial.bound for trial in trials),
        "peaks": _highest(trials),
    }


def stops_table(stops: Result) -> list[str]:
    """Return the first table's lines."""
    head = f"{'hit':24}{'n':>5}{'median':>9}{'worst':>8}{'closest to its bound':>22}"
    head += f"{'violations':>12}{'by the wall':>13}{'silence':>9}{'peak speed, acceleration':>26}"
    lines = [head]
    for name, row in stops["rows"].items():
        closest = f"{row['closest']:.3f} of {row['closest_bound']:.3f}"
        lines.append(
            f"{name:24}{row['n']:5}{row['median']:9.3f}{row['worst']:8.3f}{closest:>22}"
            f"{row['violations']:12}{row['worst_wall']:13.3f}{row['silence']:9.3f}"
            f"{_peaks(row['peaks']):>26}"
        )
    return [*lines, f"{UNDISTURBED:24}{_peaks(stops['undisturbed']):>104}"]


def _peaks(peaks: Result) -> str:
    return f"{peaks['speed']:.2f}, {peaks['acceleration']:.2f}"


def stops_missed(stops: Result) -> list[str]:
    """Say which rows of the first table hold trials beyond their bounds."""
    return [
        f"{name}: {row['violations']} of {row['n']} stops took longer than they may"
        for name, row in stops["rows"].items()
        if row["violations"]
    ]


# --- bystanders ---------------------------------------------------------------------------------


def measure_bystander(victim: str, hits: int) -> Result:
    """Return the rows of the second table for one node, by signal."""
    rows = {}
    # A trainer that hangs holds nobody up until a stage waits for it: it is not started again.
    for name in SIGNALS if victim != "trainer" else SIGNALS[:1]:
        with ros(), tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / victim
            with session_of(victim, run) as session:
                trials = Bystanders(victim, session, run)
                for _ in range(hits):
                    trials.hit(name)
                    say(f"{victim} {name}: {trials.trials[-1]}")
            rows[f"{victim} {name}"] = bystander_figures(trials, RunFolder(run))
            trials.close()
    return rows


def bystander_figures(trials: Bystanders, run: RunFolder) -> Result:
    """Return the figures of one row, when the session is over."""
    done = trials.trials
    return {
        "n": len(done),
        "stopped": sum(bool(trial.others) for trial in done),
        "gap": max(trial.gap for trial in done),
        "marked": trials.marked(),
        "outcomes": sorted({f"{t.end.outcome}: {t.end.reason}" for t in done}),
        "ended": max(trial.ended for trial in done),
        "back": max(trial.back for trial in done),
        "next": max(trial.next for trial in done),
        "bags": len(run.list_episodes()),
        "lost_bags": trials.lost_bags(),
        "unfinished": [readable(part) for part in run.unfinished_episodes()],
    }


def bystanders_table(rows: Result) -> list[str]:
    """Return the second table's lines."""
    head = f"{'hit':24}{'n':>5}{'stopped':>9}{'gap':>7}{'marked':>8}{'ended':>8}{'back':>8}"
    lines = [f"{head}{'next':>8}{'bags':>6}{'lost':>6}  how the episodes ended"]
    for name, row in rows.items():
        lines.append(
            f"{name:24}{row['n']:5}{row['stopped']:9}{row['gap']:7.2f}{row['marked']:8}"
            f"{row['ended']:8.2f}{row['back']:8.2f}{row['next']:8.2f}{row['bags']:6}"
            f"{len(row['lost_bags']):6}  {'; '.join(row['outcomes'])}"
        )
        if row["unfinished"]:
            counts = ", ".join(map(str, row["unfinished"]))
            lines.append(f"{'':24}messages that can be read of the bags cut short: {counts}")
    return lines


def bystanders_missed(rows: Result) -> list[str]:
    """Say which rows of the second table are not as they should be."""
    missed = []
    for name, row in rows.items():
        if row["stopped"]:
            missed.append(f"{name}: {row['stopped']} of {row['n']} times the robot was stopped")
        if row["marked"] < row["n"]:
            missed.append(f"{name}: {row['n'] - row['marked']} episodes are not marked")
        if row["lost_bags"]:
            missed.append(f"{name}: lost or damaged {', '.join(row['lost_bags'])}")
    return missed


# --- both ---------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> Result:
    """Return the figures of what is asked for."""
    trials = QUICK_TRIALS if given.quick else given.trials
    hits = QUICK_HITS if given.quick else given.hits
    result: Result = {"missed": []}
    victims = [name for name in VICTIMS if name in given.only]
    if victims:
        rows = [f"{victim} {name}" for name in SIGNALS for victim in victims]
        result["stops"] = measure_stops(rows, trials, given.keep, given.minutes)
        result["missed"] += stops_missed(result["stops"])
    bystanders = [name for name in BYSTANDERS if name in given.only]
    if bystanders:
        result["bystanders"] = {}
        for victim in bystanders:
            result["bystanders"] |= measure_bystander(victim, hits)
        result["missed"] += bystanders_missed(result["bystanders"])
    return result


def table(result: Result) -> str:
    """Return the figures for people; times in s from the signal."""
    lines = []
    if "stops" in result:
        lines += stops_table(result["stops"])
    if "bystanders" in result:
        lines += ["", *bystanders_table(result["bystanders"])]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; 1 with --check when the robot did not stop, or stopped, as it should."""
    parser = options(__doc__, quick=f"{QUICK_TRIALS} trials of each, {QUICK_HITS} of bystanders")
    names = [*VICTIMS, *BYSTANDERS]
    parser.add_argument("--trials", type=int, default=100, help="of each of the first table")
    parser.add_argument("--hits", type=int, default=10, help="of each of the second table")
    parser.add_argument("--keep", type=Path, help="file of trials of the first table to go on with")
    parser.add_argument("--minutes", type=float, default=90.0, help="most for the first table")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    given = parser.parse_args()
    if given.trials < 1 or given.hits < 1:
        parser.error("--trials and --hits must be at least 1")
    return report(lambda: measure(given), table, (), check=given.check)


if __name__ == "__main__":
    sys.exit(main())
