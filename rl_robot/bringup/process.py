"""One node as a process: started with its own log, ended with everything it started."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rl_robot.bringup.graph import OWN_PACKAGE, PROGRAM, NodeSpec
from rl_robot.bringup.packages import package_executable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_TAIL_BYTES = 16_384


def node_command(spec: NodeSpec) -> list[str]:
    """Return the command that runs a node: of this package with this Python.

    Raises:
        UserError: another package's executable is not installed.
    """
    if spec.package == PROGRAM:
        return [spec.executable, *spec.arguments]
    if spec.package == OWN_PACKAGE:
        command = [sys.executable, "-m", f"rl_robot.nodes.{spec.executable}"]
    else:
        command = [str(package_executable(spec.package, spec.executable))]
    command += [*spec.members, *spec.arguments, "--ros-args"]
    if spec.package == OWN_PACKAGE and not spec.members:
        command += ["-r", f"__node:={spec.name}"]
    if spec.namespace:
        command += ["-r", f"__ns:=/{spec.namespace}"]
    for old, new in spec.remappings.items():
        command += ["-r", f"{old}:={new}"]
    for name, value in spec.parameters.items():
        # rcl reads values as YAML, of which JSON is a part: a quoted "1.0" stays a string.
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return [*command, "--disable-external-lib-logs"]


def _die_with_parent() -> Callable[[], None]:
    """Return what a child runs before its program: the kernel kills it when its parent is gone."""
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before prctl was called
            os._exit(1)

    return prepare


class NodeProcess:
    """A running node. Its standard error, and its output unless shown, are appended to ``log``."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        show_output: bool,
        asks: bool = False,
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._log_start = file.tell()
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=None if asks else subprocess.DEVNULL,
                stdout=None if show_output else file,
                stderr=file,
                # A session of its own keeps the terminal's Ctrl-C away: the runner decides who
                # stops when. It also is the group that is killed, with whatever the node started.
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status if the process has ended: 128 + n if by signal n."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def interrupt(self) -> None:
        """Ask the process to end, as Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def last_lines(self, count: int) -> list[str]:
        """Return up to ``count`` last lines that this process wrote to its log."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-count:]


def describe_exit(code: int) -> str:
    """Return an exit status in words."""
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit status {code}"
