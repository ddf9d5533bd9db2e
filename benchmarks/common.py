"""What the benchmarks share: options, the verdict on the goals, the last line of JSON, runs."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_robot.bringup.runner import bare_environment
from rl_robot.errors import UserError

Result = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What a figure of the result should reach."""

    figure: str
    at_least: float = -math.inf
    at_most: float = math.inf

    def verdict(self, result: Mapping[str, Any]) -> str:
        """Return in words how the figure misses the goal; empty when it does not."""
        value = float(result[self.figure])
        if self.at_least <= value <= self.at_most:
            return ""
        asked = (
            f"at least {self.at_least:g}" if value < self.at_least else f"at most {self.at_most:g}"
        )
        return f"{self.figure} is {value:.4g}, {asked} is asked"


def options(description: str | None, *, quick: str) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark has; ``quick`` says what is done then."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    return parser


def report(
    measure: Callable[[], Result],
    table: Callable[[Result], str],
    goals: Sequence[Goal],
    *,
    check: bool,
) -> int:
    """Measure, print the table, the goals missed and the JSON line; return the exit status.

    The result may hold goals of its own making: "missed", a list of texts.
    """
    try:
        result = measure()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    missed = [*filter(None, (goal.verdict(result) for goal in goals)), *result.get("missed", [])]
    print(table(result))
    for text in missed:
        print(f"beyond the goal: {text}")
    print(json.dumps(result | {"missed": missed}))
    return 1 if check and missed else 0


@contextmanager
def own_domain(*, real_time: bool = False) -> Iterator[None]:
    """Give this process and its children a ROS domain of their own and the bare runner's settings.

    The children find the benchmarks' own tasks and policies.

    Raises:
        UserError: every domain of this machine is in use.
    """
    outside = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
    environment, domain = bare_environment(outside, real_time=real_time)
    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, [here, environment.get("PYTHONPATH")]))
    os.environ.update(environment | {"PYTHONPATH": path})
    try:
        yield
    finally:
        if domain is not None:
            domain.close()


def session_command(run: Path, **arguments: object) -> list[str]:
    """Return the command of a recorded session that ends up in the folder ``run``.

    It is `deploy`, which is `collect` without exploration: policies act as they are judged.
    """
    return launch_command("deploy", run, record="true", **arguments)


def launch_command(graph: str, run: Path, **arguments: object) -> list[str]:
    """Return the command that launches a graph with the run folder ``run``."""
    values = {"run": run.name, "root": str(run.parent), **arguments}
    command = [sys.executable, "-m", "rl_robot.cli", "launch", f"{graph}.launch.py"]
    return command + [f"{name}:={value}" for name, value in values.items()]


def run_session(run: Path, **arguments: object) -> Result:
    """Run a session to its end and return its result.json.

    Raises:
        UserError: it ended with another status than 0.
    """
    with running_session(run, **arguments) as process:
        end_of(process)
    return read_json(run / "result.json")


@contextmanager
def running_session(run: Path, **arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start a session, and end it as Ctrl-C does if it still runs at the end of the block."""
    with running(session_command(run, **arguments), run) as process:
        yield process


@contextmanager
def running(command: Sequence[str], run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start what records into ``run``, and end it as `running_session` does."""
    log = run.parent / f"{run.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()


def end_of(process: subprocess.Popen[bytes]) -> None:
    """Wait for a session that should end by itself.

    Raises:
        UserError: it ended with another status than 0.
    """
    if process.wait():
        raise UserError(f"the session ended with status {process.returncode}: {process.args}")


def read_json(path: Path) -> Result:
    """Return the JSON object in a file."""
    result: Result = json.loads(path.read_text())
    return result


def node_pids(runner: int) -> dict[str, int]:
    """Return the process ids of the bare runner's nodes by their names."""
    pids = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            arguments = (entry / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if parent == runner and len(arguments) > 2:
            pids[arguments[2].removeprefix("rl_robot.nodes.")] = int(entry.name)
    return pids


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the processor time that processes have used so far, all their threads together."""
    per_second = os.sysconf("SC_CLK_TCK")
    used = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = (int(fields[11]) + int(fields[12])) / per_second
    return used
