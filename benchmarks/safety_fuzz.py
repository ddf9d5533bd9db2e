"""Sends hostile commands through the safety filter and checks all that comes out of it.

Streams of commands (`hostile.py`) go through the checks of what comes over the network, or straight
past them, into the filter that a robot's YAML asks for, in whole periods and as they arrive. What
is sent is checked by other means than the filter's own (`sent.py`): position limits, divided
differences up to the third order against velocity, acceleration and jerk, and along the driver's
straight lines distances, workspace and tool speed, the stops included. In a physics simulation,
the measured joints must stay inside their position limits too. The last line is JSON.
"""

import math
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from common import Goal, Result, options, report
from hostile import Arrival, Attacker
from numpy.typing import NDArray
from sent import CLOSEST, RELATIVE, Findings, Surroundings, Track, Whole, check_joints

from rl_robot.robots.cartesian import Motion
from rl_robot.robots.commands import interface_motion
from rl_robot.robots.description import Robot, load_robot
from rl_robot.safety.chain import make_filter
from rl_robot.safety.checks import CommandRefused, check_command
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

Array = NDArray[np.float64]

ROBOTS = ("arm", "arm7")
PERIOD, SUBSTEPS = 0.1, 5  # s, samples
MAX_AGE = 0.25  # s, of a command's capture and arrival
RUN = 250  # commands between two resets
SIMULATED = 50  # one command in so many is sent to the simulation
TAILS = 4  # the stop after one command in so many is checked by itself
AT_REST = 3  # samples after a stop that belong to it
ASIDE = {"block": (0.8, 0.55, 0.0)}  # where the robot does not reach
ELAPSED = (0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.02, 0.05, PERIOD, 0.15, 0.25, -0.05, -1e308, 10.0, 1e6)
NONSENSE = (math.nan, math.inf, -math.inf, 1e308, 1e7)
EFFORTS = (0.0, 1.0, -40.0, 40.0, 1e308, -1e308, math.nan, math.inf, -math.inf)  # N m or N
PROMISES = {
    "finite": "numbers that are not finite",
    "position": "position",
    "velocity": "velocity",
    "acceleration": "acceleration",
    "jerk": "jerk",
    "self": "distance between links",
    "obstacles": "distance to obstacles",
    "workspace": "workspace",
    "tool_speed": "tool speed",
    "gripper_force": "gripper closed on too much force",
    "preview": "previews that were not what was sent",
    "exceptions": "exceptions",
}
MEASURED = "measured position"
GOALS = (
    Goal("violations", at_most=0.0),
    Goal("measured_violations", at_most=0.0),
)
QUICK_ENOUGH = Goal("p99_ms", at_most=1.0)


@dataclass
class Outcome:
    """What one robot's runs gave.

    Attributes:
        commands: how many were sent.
        refused: how many of these were refused by the checks.
        changed: to how many the filter made an intervention.
        milliseconds: processor time of the checks and the filter, by command.
        findings: what was checked.
        simulated: commands sent to the simulation.
        measured: the findings there.
    """

    commands: int = 0
    refused: int = 0
    changed: int = 0
    milliseconds: list[float] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    simulated: int = 0
    measured: Findings = field(default_factory=Findings)


class Driver:
    """What a driver was sent and has played: it goes on to the stop until something else comes."""

    def __init__(self, positions: Array) -> None:
        self.now = 0.0  # s since the reset
        self._last = np.zeros(1), positions[None]
        self._times, self._positions = np.zeros(1), positions[None]

    def send(self, motion: Motion, tail: Motion) -> None:
        """Take a motion and its stop, to be played from now on."""
        self._times = np.concatenate([motion.times, tail.times])
        self._positions = np.vstack([motion.positions, tail.positions])

    def ahead(self) -> tuple[Array, Array]:
        """Return what will be played if nothing else comes: times (K,) from now, positions."""
        return self._times, self._positions

    def play(self, elapsed: float, arrived: Array) -> tuple[Array, Array]:
        """Return what was played in ``elapsed`` s: the sample before, the new ones, ``arrived``.

        ``arrived`` (n,) is where the filter takes the driver to be then; it is left out where a
        sample is so close that it says nothing.
        """
        elapsed = min(max(elapsed, 0.0), self._times[-1] + PERIOD)
        played = self._times <= elapsed
        times = [self._last[0], self.now + self._times[played]]
        positions = [self._last[1], self._positions[played]]
        self.now += elapsed
        if self.now - np.concatenate(times)[-1] >= CLOSEST:
            times.append(np.array([self.now]))
            positions.append(arrived[None])
        way = np.concatenate(times), np.vstack(positions)
        self._last = way[0][-1:], way[1][-1:]
        return way


class Fuzzer:
    """Fuzzes the filter of one robot. A run repeats by the seed and its number alone."""

    def __init__(self, robot: Robot, seed: int) -> None:
        self._robot, self._seed = robot, seed
        self._around = Surroundings.of(robot)
        self._whole = Whole(robot, self._around, interval=PERIOD / SUBSTEPS)
        self._filter = make_filter(robot, period=PERIOD, substeps=SUBSTEPS)
        assert robot.gripper is not None
        self._gripper = robot.joint_names.index(robot.gripper.joint)
        self._force = float(robot.safety.get("gripper_force", {}).get("limit", math.inf))
        self._effort = 0.0  # measured last at the gripper
        self._watching = True  # the whole robot, too
        self.outcome = Outcome()

    def run(self, number: int, commands: int) -> None:
        """Reset, send ``commands``, and check all that was sent."""
        random = np.random.default_rng([self._seed, number])
        where = f"--robot {self._robot.name} --seed {self._seed} --run {number}"
        track, tails = Track(len(self._robot.joints)), Track(len(self._robot.joints))
        with self._watch_exceptions(where):
            self._reset(random)
            self._send_all(random, commands, track, tails, where)
        findings = self.outcome.findings
        check_joints(self._robot, self._around.margins, track, findings, where)
        check_joints(self._robot, self._around.margins, tails, findings, f"{where}, a stop")

    def simulate(self, number: int, commands: int, simulator: Simulator) -> None:
        """Send ``commands`` in whole periods to the simulation, and check what is measured."""
        random = np.random.default_rng([self._seed, number])
        simulator.reset(ASIDE)
        with self._watch_exceptions(f"run {number} in simulation"):
            self._filter.reset(self._robot.home_positions)
            self._simulate_all(random, number, commands, simulator)
        self.outcome.simulated += commands

    # --- sending ---------------------------------------------------------------------------

    def _simulate_all(
        self, random: np.random.Generator, number: int, commands: int, simulator: Simulator
    ) -> None:
        attacker = Attacker(self._robot, PERIOD, random)
        span = self._robot.upper - self._robot.lower
        for index in range(commands):
            motion = self._accept(attacker.next(self._filter.state), unchecked=False)
            sent = self._filter.step(motion).motion
            for interface in self._robot.interfaces:
                part = interface_motion(interface, sent, PERIOD)
                simulator.command(interface.name, part.times, part.positions)
            samples = simulator.advance(PERIOD)
            self._filter.measure(samples[-1].positions, samples[-1].efforts)
            where = f"run {number} in simulation, command {index}"
            measured = np.array([sample.positions for sample in samples])
            beyond = np.maximum(self._robot.lower - measured, measured - self._robot.upper) / span
            row, joint = np.unravel_index(int(beyond.argmax()), beyond.shape)
            self.outcome.measured.look(
                MEASURED,
                float(beyond[row, joint]),
                f"{where}, {self._robot.joint_names[joint]}",
                broken=int((beyond > 0.0).sum()),
            )

    def _reset(self, random: np.random.Generator) -> None:
        """Start at rest and clear of everything, or from whatever else may be measured."""
        robot, count = self._robot, len(self._robot.joints)
        if random.random() < 0.1:
            nonsense = random.choice(NONSENSE, count)
            for measured in ((nonsense,), (nonsense[:-1],), (robot.home_positions, nonsense)):
                self._must_refuse(partial(self._filter.reset, *measured))
        kind = random.choice(["free", "home", "anywhere", "outside"], p=[0.55, 0.15, 0.2, 0.1])
        positions = robot.home_positions
        while kind != "home":
            positions = random.uniform(robot.lower, robot.upper)
            if kind == "outside":
                aside = 10.0 ** random.uniform(-10, 0)
                ends = np.where(positions > 0.0, robot.upper + aside, robot.lower - aside)
                positions = np.where(random.random(count) < 0.3, ends, positions)
            if kind != "free" or self._whole.free(positions):
                break
        moving = random.random() < 0.3
        velocities = random.uniform(-2.0, 2.0, count) * robot.velocity if moving else None
        self._filter.reset(positions, velocities)
        self._filter.measure(positions, np.full(count, np.nan))
        self._effort = math.nan
        # Measured moving, it may be too late for the whole robot to stop in time.
        self._watching = not moving
        self._whole.begin(positions)

    def _send_all(
        self, random: np.random.Generator, commands: int, track: Track, tails: Track, where: str
    ) -> None:
        attacker = Attacker(self._robot, PERIOD, random)
        paced, bursts = random.random() < 0.5, random.random() < 0.3
        start = self._filter.state.positions
        driver = Driver(start)
        track.add(np.zeros(1), start[None])
        elapsed, sent = 0.0, False
        for index in range(commands):
            here = f"{where}, command {index}"
            self.outcome.commands += 1
            arrival = attacker.next(self._filter.state)
            self._measure(random)
            unchecked = random.random() < 0.4
            previewed = random.random() < 0.05
            if not paced:
                elapsed = max(elapsed, 0.0) + self._wait(random, bursts=bursts)
            began = time.thread_time()
            motion = self._accept(arrival, unchecked=unchecked)
            if not paced and arrival is not None and motion is None and random.random() < 0.5:
                continue  # refused, and nothing sent instead: the driver plays on
            if not paced:
                self._filter.interrupt(elapsed)
            checked = time.thread_time()
            arrived = self._filter.state
            seen = self._filter.preview(motion) if previewed else None
            resumed = time.thread_time()
            safe, tail = self._filter.step(motion), self._filter.tail()
            ended = time.thread_time()
            self.outcome.milliseconds.append(1e3 * (ended - resumed + checked - began))
            if sent:
                way = driver.play(PERIOD if paced else elapsed, arrived.positions)
                track.add(way[0][1:], way[1][1:])
                self._follow(*way, still=not arrived.velocities.any(), where=here)
            planned = driver.ahead()[1]
            driver.send(safe.motion, tail)
            elapsed, sent = 0.0, True
            if not np.isfinite(safe.motion.positions).all():
                return  # a violation; from there nothing can be said
            self.outcome.changed += bool(safe.interventions)
            if seen is not None and not np.array_equal(
                seen.motion.positions, safe.motion.positions
            ):
                self._found("preview", 1.0, here, broken=1)
            if not arrived.velocities[self._gripper]:
                self._check_force(arrived.positions, safe.motion, planned, here)
            if index % TAILS == 0:
                self._check_stop(driver, arrived.positions, tails, here)

    def _accept(self, arrival: Arrival | None, *, unchecked: bool) -> Motion | None:
        """Return the motion that a command asks for; None where there is none, or it is refused."""
        if arrival is None:
            return None
        if unchecked:
            return arrival.unchecked()
        try:
            return check_command(
                arrival.command,
                joints=self._robot.joint_names,
                now_ns=arrival.now_ns,
                received_age=arrival.received_age,
                max_age=MAX_AGE,
                max_received_age=MAX_AGE,
                max_future=0.02,
            )
        except CommandRefused:
            self.outcome.refused += 1
            return None

    def _wait(self, random: np.random.Generator, *, bursts: bool) -> float:
        """Return how long it takes until a command arrives; nonsense has to be refused."""
        if random.random() < 0.01:
            for nonsense in (math.nan, math.inf, -math.inf):
                self._must_refuse(partial(self._filter.interrupt, nonsense))
        if bursts or random.random() < 0.5:
            return float(random.uniform(0.0, PERIOD / 3.0 if bursts else 2.0 * PERIOD))
        return float(random.choice(ELAPSED))

    def _measure(self, random: np.random.Generator) -> None:
        """Now and then, tell the filter that something else is measured."""
        if random.random() < 0.8:
            return
        count = len(self._robot.joints)
        efforts = random.choice(EFFORTS, count)
        self._filter.measure(random.choice([*NONSENSE, 0.0], count), efforts)
        self._effort = float(efforts[self._gripper])

    @contextmanager
    def _watch_exceptions(self, where: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            *_, last = traceback.extract_tb(error.__traceback__)
            words = f"{where}: {error!r} at {last.name}: {last.line}"
            self._found("exceptions", 1.0, words, broken=1)

    def _must_refuse(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except ValueError:
            return
        raise AssertionError("nonsense was not refused")

    # --- checking --------------------------------------------------------------------------

    def _follow(self, times: Array, positions: Array, *, still: bool, where: str) -> None:
        if self._watching:
            self._whole.follow(times, positions, self.outcome.findings, where)
        elif still:
            self._watching = True
            self._whole.begin(positions[-1])

    def _check_force(self, start: Array, motion: Motion, planned: Array, where: str) -> None:
        """A gripper that stands and presses too hard must not move on in that direction.

        No further than was ``planned`` (K, n) before: where the arm can't stop at once, all joints
        stop as they were to.
        """
        if not abs(self._effort) >= self._force:
            return
        column, direction = self._gripper, np.sign(self._effort)
        before = direction * (planned[:, column] - start[column])
        way = direction * (motion.positions[:, column] - start[column])
        further = float(way.max() - max(before.max(initial=0.0), 0.0))
        self._found("gripper_force", further, where, broken=int(further > 1e-9))

    def _check_stop(self, driver: Driver, start: Array, tails: Track, where: str) -> None:
        """The driver's samples up to the stop, and on at rest, must keep the limits too."""
        times, positions = driver.ahead()
        rest = times[-1] + PERIOD / SUBSTEPS * np.arange(1, AT_REST + 1)
        tails.add(
            np.concatenate([[0.0], times, rest]),
            np.vstack([start, positions, *[positions[-1:]] * AT_REST]),
        )
        tails.cut()

    def _found(self, promise: str, excess: float, where: str, *, broken: int) -> None:
        self.outcome.findings.look(promise, excess, where, broken=broken)


def fuzz(name: str, commands: int, simulated: int, seed: int, only: int | None) -> Outcome:
    """Fuzz one robot's filter: ``commands``, and on top ``simulated`` ones in simulation."""
    robot = load_robot(name)
    fuzzer = Fuzzer(robot, seed)
    runs = [only] if only is not None else range(math.ceil(commands / RUN))
    told = time.monotonic()
    for number in runs:
        fuzzer.run(number, RUN if only is not None else min(RUN, commands - number * RUN))
        if time.monotonic() - told > 10.0:
            told = time.monotonic()
            broken = sum(fuzzer.outcome.findings.broken.values())
            done = fuzzer.outcome.commands
            print(f"{name}: {done} of {commands} commands, {broken} violations", file=sys.stderr)
    if simulated and only is None:
        simulator = Simulator(robot, load_scene("table"), seed=seed)
        for number in range(math.ceil(simulated / RUN)):
            fuzzer.simulate(number, min(RUN, simulated - number * RUN), simulator)
    return fuzzer.outcome


def measure(
    robots: Sequence[str], commands: int, simulated: int, seed: int, only: int | None
) -> Result:
    """Fuzz the robots, each in a process of its own, and return the figures."""
    share = commands // len(robots), simulated // len(robots)
    with ProcessPoolExecutor(len(robots), multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(fuzz, name, *share, seed, only) for name in robots]
        outcomes = [job.result() for job in jobs]
    findings, measured = Findings(), Findings()
    for outcome in outcomes:
        findings.merge(outcome.findings)
        measured.merge(outcome.measured)
    return {
        "robots": list(robots),
        "seed": seed,
        "commands": sum(outcome.commands for outcome in outcomes),
        "refused": sum(outcome.refused for outcome in outcomes),
        "changed": sum(outcome.changed for outcome in outcomes),
        "violations": findings.broken.total(),
        "broken": dict(findings.broken),
        "worst": findings.worst,
        "rounding": findings.allowance,
        "first": findings.first | measured.first,
        "simulated": sum(outcome.simulated for outcome in outcomes),
        "measured_violations": measured.broken.total(),
        "measured_worst": measured.worst.get(MEASURED, -1.0),
        **_times(robots, outcomes),
    }


def _times(robots: Sequence[str], outcomes: Sequence[Outcome]) -> Result:
    """Return the filter's times in ms by robot, and the largest of each kind."""
    by_robot = {
        name: {
            "p50_ms": float(np.percentile(outcome.milliseconds, 50)),
            "p99_ms": float(np.percentile(outcome.milliseconds, 99)),
            "max_ms": float(np.max(outcome.milliseconds)),
        }
        for name, outcome in zip(robots, outcomes, strict=True)
    }
    kinds = ("p50_ms", "p99_ms", "max_ms")
    return {"times": by_robot} | {
        kind: max(times[kind] for times in by_robot.values()) for kind in kinds
    }


def table(result: Result) -> str:
    """Return the figures for people."""
    commands, robots = result["commands"], " and ".join(result["robots"])
    rows = [
        f"{commands} commands to {robots}, seed {result['seed']}: {result['refused']} refused, "
        f"{result['changed']} changed",
        "",
        f"{'broken':36}{'times':>8}{'worst excess':>15}",
    ]
    for promise, words in PROMISES.items():
        worst = result["worst"].get(promise)
        excess = "" if worst is None else f"{worst:.2g}"
        rows.append(f"{words:36}{result['broken'].get(promise, 0):8}{excess:>15}")
    rows.append(
        f"{'measured position, in simulation':36}{result['measured_violations']:8}"
        f"{result['measured_worst']:15.2g}   ({result['simulated']} commands)"
    )
    rounding = ", ".join(f"{name} {part:.1g}" for name, part in result["rounding"].items())
    rows += [
        "",
        f"Excess is relative to the limit (position: to the range; workspace: m); {RELATIVE:g} is "
        "tolerated,",
        "of distances that began too close a micrometre, of a workspace left at first 0.1 mm,",
        f"and on top what rounding of the samples can do, at most {rounding} of the limit.",
        "",
        f"{'processor time, command':24}{'p50':>10}{'p99':>10}{'max':>10}",
    ]
    for name, times in result["times"].items():
        rows.append(f"{name:24}" + "".join(f"{value:10.3f}" for value in times.values()) + "  ms")
    rows += [f"first: {PROMISES.get(name, name)}: {text}" for name, text in result["first"].items()]
    return "\n".join(rows)


def main() -> int:
    """Run the benchmark; 1 when anything was violated, with --check also when it was too slow."""
    parser = options(__doc__, quick="20,000 commands")
    parser.add_argument("--commands", type=int, default=1_000_000, help="in all, over the robots")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--robot", default="both", help=f"any with a gripper; both: {' and '.join(ROBOTS)}"
    )
    parser.add_argument(
        "--dynamics", type=int, help=f"commands in simulation; 1 in {SIMULATED} by default"
    )
    parser.add_argument("--run", type=int, help="only the run with this number, to look into it")
    given = parser.parse_args()
    commands = 20_000 if given.quick else given.commands
    if commands < len(ROBOTS):
        parser.error(f"--commands must be at least {len(ROBOTS)}")
    robots = ROBOTS if given.robot == "both" else (given.robot,)
    simulated = commands // SIMULATED if given.dynamics is None else given.dynamics
    return report(
        lambda: measure(robots, commands, simulated, given.seed, given.run),
        table,
        (*GOALS, QUICK_ENOUGH) if given.check else GOALS,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
