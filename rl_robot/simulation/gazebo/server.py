"""gzserver as a process of ours: on loopback, with a port and a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rl_robot.errors import LostProgramError, UserError
from rl_robot.simulation.gazebo.installation import Installation

_GUARDIAN = Path(__file__).resolve().parent / "guardian.py"
_HOST = "127.0.0.1"
# Seconds. A machine under load takes long to start; everything has to be gone within 3 s.
_START_TIMEOUT = 60.0
_CLOSE_TIMEOUT = 2.6
_TAIL_BYTES = 16_384
_LINE_LENGTH = 200
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The first topic of a world: its master tells everyone who connects.
_READY = b"/world_stats"
_PORT_TAKEN = "Address already in use"
_NO_WORLD = "Falling back on"


class _PortTakenError(Exception):
    """Somebody else took the port between our choice and gzserver's start."""


class GazeboServer:
    """A running gzserver, with an X server of its own where there is no ``DISPLAY``.

    It is up when the constructor returns. It ends with ``close``, and by itself when this process
    is gone, whatever ended that.

    Attributes:
        port: of Gazebo's master, on 127.0.0.1.
        pid: gzserver's process id.
        log: what it writes.
    """

    def __init__(
        self,
        installation: Installation,
        world: Path,
        log: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = ("--lockstep",),
        leavings: Sequence[Path] = (),
    ) -> None:
        """Start gzserver and wait until it runs the world.

        Args:
            installation: the Gazebo to run.
            world: an SDF file.
            log: file that its output is appended to.
            port: for its master; a free one by default.
            options: further ones of gzserver.
            leavings: folders of this process that are removed when it is gone without doing so.

        Raises:
            UserError: the world can't be read, the port is taken, or a program is missing.
            LostProgramError: gzserver ended or did not come up.
        """
        world = world.absolute()
        if not world.is_file():
            raise UserError(f"no such world: {world}")
        if not os.environ.get("DISPLAY") and not shutil.which("Xvfb"):
            raise UserError("Gazebo draws on an X display, and there is none: apt-get install xvfb")
        self.log = log
        self._leavings = [str(folder.absolute()) for folder in leavings]
        for _ in range(3):
            try:
                self._start(installation, world, port or _free_port(), options)
                return
            except _PortTakenError:
                if port:
                    break
        raise UserError(f"port {self.port} is taken: name another for Gazebo")

    @property
    def uri(self) -> str:
        """The master's address, as Gazebo's ``GAZEBO_MASTER_URI`` wants it."""
        return f"http://{_HOST}:{self.port}"

    def poll(self) -> int | None:
        """Return the exit status if gzserver has ended: 128 + n if by signal n."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def last_lines(self, count: int) -> list[str]:
        """Return up to ``count`` last lines that this server wrote to its log."""
        return self._output().splitlines()[-count:]

    def close(self) -> None:
        """End gzserver, by force if need be, and what was started for it. Takes 3 s at most."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_CLOSE_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> GazeboServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(
        self, installation: Installation, world: Path, port: int, options: Sequence[str]
    ) -> None:
        self.port = port
        environment = {"USER": "rl_robot", **installation.environment()}
        environment["GAZEBO_MASTER_URI"] = self.uri
        # Two servers of one user would hear each other.
        environment["IGN_PARTITION"] = f"rl_robot-{uuid.uuid4().hex}"
        orders = {
            "parent": os.getpid(),
            "command": [str(installation.server), "--verbose", *options, str(world)],
            "new_display": not os.environ.get("DISPLAY"),
            "environment": environment,
            "leavings": self._leavings,
        }
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._home = tempfile.mkdtemp(prefix="rl_robot-gazebo-")
            self._process = subprocess.Popen(
                # Without site: what is installed in this Python is not the guardian's business.
                [sys.executable, "-I", "-S", str(_GUARDIAN)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._order(orders | {"home": self._home})
            self.pid = self._server_pid()
            self._wait_until_up()
        except BaseException:
            self.close()
            raise

    def _order(self, orders: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(json.dumps(orders).encode())

    def _server_pid(self) -> int:
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline() or b'{"error": "its guardian died"}')
        if "error" in said:
            raise UserError(f"Gazebo does not start: {said['error']} (log: {self.log})")
        return int(said["pid"])

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._has_world(deadline):
            code = self.poll()
            if code is not None:
                if _PORT_TAKEN in self._output():
                    raise _PortTakenError
                what = f"gzserver ended at its start (exit status {code})"
                raise LostProgramError(self._with_reason(what))
            if time.monotonic() > deadline:
                what = f"gzserver did not come up within {_START_TIMEOUT:.0f} s"
                raise LostProgramError(self._with_reason(what))
            time.sleep(0.05)
        if _NO_WORLD in self._output():
            raise UserError(self._with_reason("gzserver can't read the world"))

    def _has_world(self, deadline: float) -> bool:
        """Tell whether the master, while a connection to it lasts, names the world's topics."""
        try:
            link = socket.create_connection((_HOST, self.port), 1.0)
        except OSError:
            return False
        heard = b""
        with link:
            while _READY not in heard and self.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    piece = link.recv(4096)
                    if not piece:
                        return False
                    heard = heard[-len(_READY) :] + piece
        return _READY in heard

    def _output(self) -> str:
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - _TAIL_BYTES))
            return _COLOURS.sub("", file.read().decode(errors="replace"))

    def _with_reason(self, what: str) -> str:
        lines = [line.strip() for line in self._output().splitlines() if line.strip()]
        chosen = [line for line in lines if "Err" in line] or lines
        said = " / ".join(line[:_LINE_LENGTH] for line in chosen[-3:]) or "it said nothing"
        return f"{what}: {said} (log: {self.log})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
