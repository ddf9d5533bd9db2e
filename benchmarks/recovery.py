"""Brings simulated robots into random unsafe states, and shows how recovery gets them out.

Three ways into trouble, each with a source that goes on pushing until recovery takes over:
`driven` goes from home towards random postures, many of them out of reach, until it is held back;
`placed` starts at rest in a random posture that is too close to something, without any memory of
how it came there, and pushes further in; `blocked` drives into the table, which its filter was not
told of. Recovered is a robot that was handed back at rest, measured clear of everything,
or by half the clearance where there is no more room. All that was sent is checked by other means
than the filter's own (`sent.py`). The last line is JSON.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from common import Goal, Result, options, report
from numpy.typing import NDArray
from sent import Findings, Surroundings, Track, Whole, check_joints

from rl_robot.evaluation.statistics import wilson
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.commands import interface_motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.safety.chain import make_filter, make_recovery
from rl_robot.safety.unsafe import Unsafe
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

Array = NDArray[np.float64]

ROBOTS = ("arm", "arm7")
PERIOD, SUBSTEPS = 0.1, 5  # s, samples
ASIDE = {"block": (0.8, 0.55, 0.0)}  # where the robot does not reach
UNAWARE = ("obstacles", "workspace")  # what the filter of a blocked robot does not keep
SPEED = 0.5  # of the joints' velocity limits at which sources push
PUSH = 100  # control periods within which a source should have got into trouble
LONGEST = 120  # control periods that recovery is watched for
TOLERANCE = 0.02  # rad between where a robot was placed and where it is
DEEPEST = 1.2  # parts of the clearance that a posture may lack; 1 is at the limit itself
SLACK = 0.6  # of the clearance; half of it is enough where there is no more, drives may be off
GOALS = (
    Goal("recovered", at_least=0.99),
    Goal("violations", at_most=0.0),
)


@dataclass
class Outcome:
    """What the trials of one robot and one way into trouble gave."""

    trials: int = 0
    recovered: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Trial:
    """One robot, its filter with recovery, and the simulation, from one start."""

    def __init__(self, robot: Robot, simulator: Simulator, off: Sequence[str] = ()) -> None:
        self.robot, self.simulator = robot, simulator
        self.filter = make_filter(robot, period=PERIOD, substeps=SUBSTEPS, off=off)
        self.recovery = make_recovery(robot, self.filter, off=off)
        self.way: list[Array] = []

    def begin(self) -> None:
        """Start at rest where the robot is."""
        measured = self.simulator.joint_sample().positions
        self.filter.reset(measured)
        self.recovery.restart()
        self.way = [measured]

    def step(self, motion: Motion | None) -> None:
        """Play one control period."""
        sample = self.simulator.joint_sample()
        self.filter.measure(sample.positions, sample.efforts)
        self.recovery.measure(sample.positions)
        sent = self.recovery.step(motion).motion
        self.way.extend(sent.positions)
        for interface in self.robot.interfaces:
            part = interface_motion(interface, sent, PERIOD)
            self.simulator.command(interface.name, part.times, part.positions)
        self.simulator.advance(PERIOD)

    def towards(self, goal: Array) -> Motion:
        """Return a period of the source's motion, straight towards a posture (n,)."""
        state = self.filter.state.positions
        way = goal - state
        most = SPEED * PERIOD * self.robot.velocity
        way /= max(float((np.abs(way) / most).max()), 1.0)
        return Motion(self.filter.names, np.array([PERIOD]), (state + way)[None])

    def watch(self) -> tuple[float, str]:
        """Let recovery go on; return how long it took, in s, and why it failed, if it did."""
        for periods in range(1, LONGEST):
            self.step(None)
            if self.recovery.failure:
                return periods * PERIOD, self.recovery.failure
            if self.recovery.active is None:
                return periods * PERIOD, ""
        return LONGEST * PERIOD, "it did not end"


class Runs:
    """All trials of one robot. They repeat by the seed."""

    def __init__(self, name: str, seed: int) -> None:
        self._robot = load_robot(name)
        self._random = np.random.default_rng([seed, ROBOTS.index(name)])
        self._simulator = Simulator(self._robot, load_scene("table"), seed=seed)
        self._around = Surroundings.of(self._robot)
        self._whole = Whole(self._robot, self._around, interval=PERIOD / SUBSTEPS)
        self._aware = Trial(self._robot, self._simulator)
        self._unaware = Trial(self._robot, self._simulator, UNAWARE)
        self._arm = len(self._robot.arm_joints)
        self._room = self._aware.recovery.room
        self.findings = Findings()

    def run(self, way: str, trials: int) -> Outcome:
        """Run ``trials`` that got into trouble in one way."""
        start: Callable[[], Trial | None] = getattr(self, f"_{way}")
        outcome = Outcome()
        while outcome.trials < trials:
            trial = start()
            if trial is not None:
                unsafe = trial.recovery.active
                assert unsafe is not None
                self._finish(trial, unsafe, outcome, f"{self._robot.name} {way} {outcome.trials}")
        return outcome

    # --- into trouble ----------------------------------------------------------------------

    def _driven(self) -> Trial | None:
        self._home()
        self._aware.begin()
        return self._drive(self._aware)

    def _blocked(self) -> Trial | None:
        self._home()
        self._unaware.begin()
        trial = self._drive(self._unaware)
        unsafe = trial.recovery.active if trial is not None else None
        return trial if unsafe is not None and unsafe.kind == "contact" else None

    def _placed(self) -> Trial | None:
        """Have the servos go to a posture that is too close to something, if they can."""
        posture = self._posture(0.0)
        if not self._is_close(posture):
            return None
        self._home()
        for interface in self._robot.interfaces:
            columns = [self._robot.joint_names.index(name) for name in interface.joints]
            self._simulator.command(interface.name, [0.0], posture[None, columns])
        self._simulator.advance(2.0)
        measured = self._simulator.joint_sample().positions
        if np.abs(measured - posture)[: self._arm].max() > TOLERANCE or not self._is_close(
            measured
        ):
            return None  # something was in the way
        self._aware.begin()
        for _ in range(PUSH):
            self._aware.step(self._aware.towards(self._deeper(self._aware.filter.state.positions)))
            if self._aware.recovery.active:
                return self._aware
        return None

    def _home(self) -> None:
        self._simulator.reset(ASIDE)
        self._simulator.advance(PERIOD)

    def _drive(self, trial: Trial) -> Trial | None:
        """Push towards postures until recovery takes over."""
        goal = self._posture(0.3)
        for _ in range(PUSH):
            trial.step(trial.towards(goal))
            if trial.recovery.active:
                return trial
        return None

    def _posture(self, beyond: float) -> Array:
        """Return a random posture, up to ``beyond`` rad outside the limits; the gripper is open."""
        robot = self._robot
        posture = self._random.uniform(robot.lower - beyond, robot.upper + beyond)
        posture[self._arm :] = robot.home_positions[self._arm :]
        return posture

    def _is_close(self, posture: Array) -> bool:
        """Whether a posture is too close to something and not in it, and the limits are kept."""
        lacking = self._room.lacking(posture)
        return bool(lacking) and max(lacking.values()) < DEEPEST

    def _deeper(self, state: Array) -> Array:
        """Return a posture further in."""
        probes = 1e-3 * np.eye(len(state))[: self._arm]
        loss = [self._room.penalty(state + by) - self._room.penalty(state - by) for by in probes]
        way = np.zeros(len(state))
        way[: self._arm] = loss
        return state + way / max(float(np.abs(way).max()), 1e-12)

    # --- out of it -------------------------------------------------------------------------

    def _finish(self, trial: Trial, unsafe: Unsafe, outcome: Outcome, where: str) -> None:
        seconds, failure = trial.watch()
        lacking = trial.recovery.room.lacking(self._simulator.joint_sample().positions)
        off = [name for name, part in lacking.items() if part > SLACK]
        if off and not failure:
            failure = f"handed back too close to {', '.join(off)}"
        self._check(trial, where)
        outcome.trials += 1
        outcome.kinds[unsafe.kind] += 1
        outcome.seconds.append(seconds)
        outcome.recovered += not failure
        if failure:
            outcome.failures.append(f"{where} ({unsafe.kind} {unsafe.where}): {failure}")

    def _check(self, trial: Trial, where: str) -> None:
        """Check what was sent since the trial began."""
        positions = np.array(trial.way)
        times = PERIOD / SUBSTEPS * np.arange(len(positions))
        track = Track(len(self._robot.joints))
        track.add(times, positions)
        check_joints(self._robot, self._around.margins, track, self.findings, where)
        if trial is self._aware:
            self._whole.begin(positions[0])
            self._whole.follow(times, positions, self.findings, where)


def measure(robots: Sequence[str], trials: int, seed: int) -> Result:
    """Run all trials and return the figures."""
    findings, rows, failures = Findings(), [], []
    for name in robots:
        runs = Runs(name, seed)
        for way in ("driven", "placed", "blocked"):
            outcome = runs.run(way, trials)
            interval = wilson(outcome.recovered, outcome.trials)
            p50, p95 = np.percentile(outcome.seconds, [50, 95]).tolist()
            rows.append(
                {
                    "robot": name,
                    "way": way,
                    "trials": outcome.trials,
                    "recovered": outcome.recovered,
                    "interval": [interval.low, interval.high],
                    "kinds": dict(outcome.kinds),
                    "p50_s": p50,
                    "p95_s": p95,
                    "max_s": max(outcome.seconds),
                }
            )
            failures += outcome.failures
        findings.merge(runs.findings)
    return {
        "seed": seed,
        "rows": rows,
        "recovered": sum(row["recovered"] for row in rows) / sum(row["trials"] for row in rows),
        "failures": failures,
        "violations": findings.broken.total(),
        "broken": dict(findings.broken),
        "first": findings.first,
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    lines = [f"{'robot':8}{'way':10}{'recovered':>16}{'95 %':>18}{'p50':>8}{'p95':>8}{'max':>8}  s"]
    for row in result["rows"]:
        low, high = (100.0 * bound for bound in row["interval"])
        share = f"{row['recovered']} of {row['trials']}"
        kinds = ", ".join(f"{kind} {count}" for kind, count in row["kinds"].items())
        lines.append(
            f"{row['robot']:8}{row['way']:10}{share:>16}{f'{low:.1f} to {high:.1f} %':>18}"
            f"{row['p50_s']:8.1f}{row['p95_s']:8.1f}{row['max_s']:8.1f}     {kinds}"
        )
    lines.append(f"violations of limits or constraints in what was sent: {result['violations']}")
    lines += [f"first: {name}: {where}" for name, where in result["first"].items()]
    return "\n".join([*lines, *result["failures"]])


def main() -> int:
    """Run the benchmark."""
    parser = options(__doc__, quick="10 trials of each kind")
    parser.add_argument("--trials", type=int, default=100, help="of each robot and way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--robot", choices=[*ROBOTS, "both"], default="both")
    given = parser.parse_args()
    trials = 10 if given.quick else given.trials
    robots = ROBOTS if given.robot == "both" else (given.robot,)
    return report(lambda: measure(robots, trials, given.seed), table, GOALS, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
