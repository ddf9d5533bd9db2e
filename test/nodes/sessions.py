"""What tests of whole sessions share: sessions are processes that nobody waits for blindly."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 240.0  # s: a bound for a busy machine, not a measure


def finish(session: subprocess.Popen[str]) -> str:
    """Wait for the session's end and return what it printed."""
    output, _ = session.communicate(timeout=PATIENCE)
    return output


def until(
    condition: Callable[[], bool], session: subprocess.Popen[str], every: float = 0.02
) -> None:
    """Wait until the condition holds, as long as the session runs."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert session.poll() is None, f"the session ended early: {finish(session)}"
        assert time.monotonic() < deadline, "in vain"
        time.sleep(every)


def node_process(session: subprocess.Popen[str], node: str) -> int:
    """Return the process of one node, a child of the session's runner, as soon as it runs."""
    found: list[int] = []

    def runs() -> bool:
        children = Path(f"/proc/{session.pid}/task/{session.pid}/children").read_text().split()
        found[:] = [int(child) for child in children if _is_of(child, node)]
        return bool(found)

    until(runs, session)
    return found[0]


def _is_of(process: str, node: str) -> bool:
    try:
        return f"rl_robot.nodes.{node}" in Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # ended since
        return False
