"""Runs gzserver, and an X server for it, and leaves nothing behind: a program of its own.

Its orders are one JSON object on standard input: ``parent`` (process id), ``command``, ``home``
(a folder, removed at the end), ``leavings`` (folders that are removed when the parent is gone),
``new_display`` (whether to start an X server) and ``environment`` (the command's; the X server runs
in this program's own).

It ends what it started when it gets SIGTERM, and when its parent is gone, also if that was killed.
The kernel's own way to that (PR_SET_PDEATHSIG) holds for the *thread* that starts a program: a
server made in a worker thread would die with that thread. This program has one thread, so what it
starts can be bound to it; and it can remove the home folder, which nobody else would do then.

The first line that it prints is JSON: ``{"pid": gzserver's}`` or ``{"error": "..."}``. Standard
library only; it ends with gzserver's exit status, 128 + n where that died by signal n.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
# How often to look whether the parent is still there, in seconds.
_PERIOD = 0.2
_DISPLAY_TIMEOUT = 15.0
# Together well below the 3 s within which everything has to be gone.
_SERVER_GRACE = 1.8
_DISPLAY_GRACE = 0.4
_XVFB = ("Xvfb", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset")


def main(orders: dict[str, Any]) -> int:
    """Run the command until it ends or has to; return its exit status."""
    home, environment = orders["home"], orders["environment"] | {"HOME": orders["home"]}
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    display = None
    try:
        if orders["new_display"]:
            display, environment["DISPLAY"] = start_display()
        server = subprocess.Popen(
            orders["command"],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=_bound_to_me(),
        )
        _say(pid=server.pid)
        watch(server, orders["parent"])
        return end(server, _SERVER_GRACE)
    except (OSError, RuntimeError) as error:
        _say(error=str(error))
        return 2
    finally:
        if display is not None:
            end(display, _DISPLAY_GRACE)
        shutil.rmtree(home, ignore_errors=True)
        if os.getppid() != orders["parent"]:
            for folder in orders["leavings"]:
                shutil.rmtree(folder, ignore_errors=True)


def start_display() -> tuple[subprocess.Popen, str]:
    """Start an X server on a free display; return it with the display's name.

    Raises:
        RuntimeError: it did not come up.
    """
    ready, theirs = os.pipe()
    try:
        command = [*_XVFB, "-displayfd", str(theirs)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=[theirs],
            preexec_fn=_bound_to_me(),
        )
    finally:
        os.close(theirs)
    with os.fdopen(ready) as numbers:
        readable, _, _ = select.select([numbers], [], [], _DISPLAY_TIMEOUT)
        number = numbers.readline().strip() if readable else ""
    if not number.isdigit():
        end(process, 0.0)
        raise RuntimeError("Xvfb does not start")
    return process, f":{number}"


def watch(server: subprocess.Popen, parent: int) -> None:
    """Return when the server has ended, the parent is gone, or a signal says to end."""
    while server.poll() is None and os.getppid() == parent:
        received = signal.sigtimedwait(_WATCHED, _PERIOD)
        if received is not None and received.si_signo != signal.SIGCHLD:
            return


def end(process: subprocess.Popen, grace: float) -> int:
    """End a process, by force after ``grace`` seconds; return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return 128 - process.returncode if process.returncode < 0 else process.returncode


def _bound_to_me() -> Callable[[], None]:
    """Return what a child runs before its program: it is killed when this process is gone."""
    guardian = os.getpid()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:  # gone before prctl was called
            os._exit(1)

    return prepare


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
