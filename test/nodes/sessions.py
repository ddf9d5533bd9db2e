"""What tests of whole sessions share: sessions are processes that nobody waits for blindly."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 240.0  # s: a bound for a busy machine, not a measure
TINY_TRAINING = {  # of `train.launch.py`: all stages, as little of each as can be
    "task": "reach",
    "policy": "script",
    "demonstrations": 3,
    "steps": 60,
    "blocks": 2,
    "validation": 1,
    "test": 2,
    "imitation_updates": 50,
    "pretraining_updates": 20,
    "run": "tiny",
}


def launch(file: str, root: Path, **arguments: object) -> subprocess.Popen[str]:
    """Start a session by the bare runner, in a process group of its own."""
    command = [sys.executable, "-m", "rl_robot.cli", "launch", file, f"root:={root}"]
    command += [f"{name}:={value}" for name, value in arguments.items()]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


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
