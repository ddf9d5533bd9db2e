"""The bare runner: a graph as processes of this machine, without `launch`."""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rl_robot.bringup.domain import Domain, claim_domain
from rl_robot.bringup.environment import bare_defaults, unset_defaults
from rl_robot.bringup.graph import BAD_INPUT, NodeSpec
from rl_robot.bringup.process import NodeProcess, describe_exit, node_command
from rl_robot.errors import UserError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL = 0.05  # s
_LEAD = 2.0  # s that the required node has to wind down while the others still answer
_PATIENCE = 4.3  # s from the wish to end until what still runs is killed
_FIRST_BACKOFF = 0.25  # s, doubled with each death in the window
_DEATHS = 5  # deaths of one node ...
_WINDOW = 30.0  # ... within this many seconds end the graph
_LINES_SHOWN = 12
_LINES_SEARCHED = 200


@dataclass
class _Place:
    """One node of the graph, through all its processes."""

    spec: NodeSpec
    process: NodeProcess | None = None
    start_at: float = 0.0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=_DEATHS))


class Runner:
    """Runs the nodes of a graph until its required node ends or a signal asks for the end."""

    def __init__(
        self,
        nodes: Sequence[NodeSpec],
        log_folder: Path,
        environment: Mapping[str, str],
        *,
        command: Callable[[NodeSpec], list[str]] = node_command,
    ) -> None:
        self._places = [_Place(spec) for spec in nodes]
        self._log_folder = log_folder
        self._environment = dict(environment)
        self._command = command
        self._signals = 0
        self._impatient_at = 2  # signals after which nothing is waited for

    def run(self) -> int:
        """Run to the end; return the exit status of what ended the graph.

        SIGINT, SIGTERM and SIGHUP end the graph within five seconds, a second one at once.

        Raises:
            UserError: the log folder cannot be made.
        """
        try:
            self._log_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"no logs can be kept in {self._log_folder}: {error}") from error
        previous = {s: signal.signal(s, self._on_signal) for s in _SIGNALS}
        try:
            return self._run()
        finally:
            for place in self._places:
                if place.process is not None:
                    place.process.kill()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _run(self) -> int:
        while not self._signals:
            now = time.monotonic()
            for place in self._places:
                code = self._look_after(place, now)
                if code is not None:
                    self._stop()
                    return code
            time.sleep(_POLL)
        self._stop()
        required = [p.process for p in self._places if p.spec.required and p.process is not None]
        return next((process.poll() or 0 for process in required), 0)

    def _look_after(self, place: _Place, now: float) -> int | None:
        """Start the node, or judge how it ended; return an exit status to end the graph with."""
        if place.process is None:
            if now >= place.start_at:
                self._start(place)
            return None
        code = place.process.poll()
        if code is None or (place.spec.once and code == 0):
            return None
        if place.spec.required:
            if code:
                self._report(place, code, "")
            return code
        if code == BAD_INPUT or place.spec.once or not place.spec.respawn:
            self._report(place, code, "")
            return code
        place.deaths.append(now)
        if len(place.deaths) == _DEATHS and now - place.deaths[0] < _WINDOW:
            self._report(place, code, f", {_DEATHS} times within {_WINDOW:.0f} s: giving up")
            return code or 1
        recent = sum(now - death < _WINDOW for death in place.deaths)
        backoff = _FIRST_BACKOFF * 2 ** (recent - 1)
        self._report(place, code, f": starting it again in {backoff:g} s")
        place.process.kill()  # what it may have left behind
        place.process = None
        place.start_at = now + backoff
        return None

    def _start(self, place: _Place) -> None:
        place.process = NodeProcess(
            self._command(place.spec),
            self._log_folder / f"{place.spec.name}.log",
            {**self._environment, **place.spec.environment},
            show_output=place.spec.required or place.spec.shown,
        )

    def _stop(self) -> None:
        """End every process: the required node first, so that it can end its work properly."""
        begun = time.monotonic()
        self._impatient_at = max(2, self._signals + 1)
        running = [place for place in self._places if place.process is not None]
        required = [p.process for p in running if p.spec.required and p.process is not None]
        others = [p.process for p in running if not p.spec.required and p.process is not None]
        for process in required:
            process.interrupt()
        self._wait(required, begun + _LEAD)
        for process in others:
            process.interrupt()
        self._wait([*required, *others], begun + _PATIENCE)
        for place in running:
            assert place.process is not None
            if place.process.poll() is None:
                say(f"{place.spec.name} did not end when asked to: killed")
            place.process.kill()

    def _wait(self, processes: Sequence[NodeProcess], deadline: float) -> None:
        """Wait for the end of processes until the deadline or an impatient signal."""
        while any(process.poll() is None for process in processes):
            if time.monotonic() >= deadline or self._signals >= self._impatient_at:
                return
            time.sleep(_POLL)

    def _report(self, place: _Place, code: int, consequence: str) -> None:
        """Say on standard error how a node ended, with the reason it gave."""
        assert place.process is not None
        written = place.process.last_lines(_LINES_SEARCHED)
        # Libraries may have the last word, on what they find undone at the interpreter's end.
        reasons = [line for line in written if line.startswith("error: ")][-1:]
        lines = reasons or [line for line in written[-_LINES_SHOWN:] if line.strip()]
        if code == BAD_INPUT and lines:
            say(lines[-1])
            return
        say(
            f"{place.spec.name} ended ({describe_exit(code)}){consequence}; see {place.process.log}"
        )
        for line in lines:
            say(f"    {line}")


def say(text: str) -> None:
    """Write a line to standard error, over a progress line if one stands there."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{start}{text}", file=sys.stderr, flush=True)


def bare_environment(
    environment: Mapping[str, str], *, real_time: bool
) -> tuple[dict[str, str], Domain | None]:
    """Return the environment of a bare run's nodes, and the ROS domain claimed for it.

    A domain that the environment names is taken as it is: then None is claimed.
    """
    result = dict(environment)
    result |= unset_defaults(result, bare_defaults(real_time=real_time))
    if "ROS_DOMAIN_ID" in result:
        return result, None
    domain = claim_domain()
    return result | {"ROS_DOMAIN_ID": str(domain.number)}, domain


def run_bare(nodes: Sequence[NodeSpec], log_folder: Path) -> int:
    """Run a graph on this machine, in a ROS domain of its own unless ROS_DOMAIN_ID is set."""
    real_time = any(spec.real_time for spec in nodes)
    environment, domain = bare_environment(os.environ, real_time=real_time)
    try:
        print(
            f"ROS domain {environment['ROS_DOMAIN_ID']}, logs in {log_folder}",
            file=sys.stderr,
            flush=True,
        )
        return Runner(nodes, log_folder, environment).run()
    finally:
        if domain is not None:
            domain.close()
