"""Whole sessions in the real gzserver: grasps, repetition, and what happens when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sessions import TINY_TRAINING, finish, launch, until

from rl_robot.bags import BagReader, compare_bags
from rl_robot.experience.runs import RunFolder
from rl_robot.policies import policy_version


def start(root: Path, run: str, **arguments: object) -> subprocess.Popen[str]:
    """Start a session of the scripted expert in Gazebo, paced unless told otherwise."""
    given = {"policy": "script", "pace": "paced", "split": "test", "run": run}
    return launch("collect.launch.py", root, **(given | {"simulator": "gazebo"} | arguments))


def descendants(pid: int) -> dict[int, str]:
    """Return the programs of all processes that a process started, and those that they did."""
    found = {}
    for child in _children(pid):
        found[child] = _program(child)
        found |= descendants(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(one) for t in threads for one in (t / "children").read_text().split()]
    except OSError:  # ended since
        return []


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def gzserver_of(session: subprocess.Popen[str]) -> int:
    found: list[int] = []

    def runs() -> bool:
        found[:] = [pid for pid, name in descendants(session.pid).items() if name == "gzserver"]
        return bool(found)

    until(runs, session)
    return found[0]


def kill_gzserver(session: subprocess.Popen[str], run: RunFolder, *, after: int = 0) -> None:
    """Kill it as soon as an episode has begun, and not before so many are closed."""
    server = gzserver_of(session)
    until(lambda: run.episodes.is_dir() and len(run.list_episodes()) >= after, session)
    old = {path.name for path in run.unfinished_episodes()}
    until(lambda: bool({p.name for p in run.unfinished_episodes()} - old), session, every=0.002)
    os.kill(server, signal.SIGKILL)


def test_one_seed_gives_the_same_bags_twice_and_the_expert_grasps(tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        session = start(tmp_path, name, episodes=2, seed=3)
        output = finish(session)
        assert session.returncode == 0, output
        runs.append(RunFolder.open(tmp_path / name))
    bags = [run.list_episodes() for run in runs]
    assert [BagReader(bag).episode.outcome for bag in bags[0]] == ["success", "success"]
    for one, other in zip(*bags, strict=True):
        assert compare_bags(one, other) == []


@pytest.mark.parametrize("pace", ["paced", "1.0"])
def test_a_killed_gzserver_breaks_one_episode_and_the_session_goes_on(
    tmp_path: Path, pace: str
) -> None:
    policy = "random" if pace == "paced" else "script"  # an episode that lasts
    session = start(tmp_path, "killed", policy=policy, episodes=2, pace=pace)
    run = RunFolder(tmp_path / "killed")
    kill_gzserver(session, run)
    output = finish(session)
    assert session.returncode == 0, output
    episodes = [BagReader(bag).episode for bag in run.list_episodes()]
    assert [e.index for e in episodes if e.outcome == "broken"] == [0]
    assert [e.index for e in episodes if e.outcome != "broken"] == [0, 1]
    assert json.loads((run.path / "session.json").read_text())["broken"] == 1
    assert "error: Gazebo ended" in output


def test_training_goes_on_to_its_end_after_a_killed_gzserver(tmp_path: Path) -> None:
    few = {"demonstrations": 2, "steps": 30, "blocks": 1, "test": 1}
    given = TINY_TRAINING | few | {"simulator": "gazebo"}
    session = launch("train.launch.py", tmp_path, **given)
    run = RunFolder(tmp_path / "tiny")
    kill_gzserver(session, run, after=2)
    output = finish(session)
    assert session.returncode == 0, output
    assert "error: Gazebo ended" in output
    episodes = [BagReader(path).episode for path in run.list_episodes()]
    assert [e.outcome for e in episodes].count("broken") == 1
    whole = Counter(e.extra["stage"] for e in episodes if e.outcome != "broken")
    assert whole["demonstrations"] == 2
    assert whole["validate 1"] == 1
    assert [whole[f"test {name}"] for name in ("demonstrator", "imitation", "learned")] == [1] * 3
    starts = [(e.extra["stage"], e.index) for e in episodes if e.outcome != "broken"]
    assert len(set(starts)) == len(starts)  # none was run twice
    explored = [e for e in episodes if e.extra["stage"].startswith("explore")]
    assert sum(e.steps for e in explored if e.outcome != "broken") >= 30
    assert policy_version(str(run.policies / "learned.safetensors")) > 0
    assert run.report.is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_that_runs_for_the_session(
    tmp_path: Path, number: signal.Signals
) -> None:
    session = start(tmp_path, "stopped", episodes=50)
    run = RunFolder(tmp_path / "stopped")
    until(lambda: bool(run.unfinished_episodes()), session)
    started = descendants(session.pid)
    assert {"gzserver", "Xvfb"} <= set(started.values())
    session.send_signal(number)
    output = finish(session)
    assert session.returncode == 130
    assert "killed" not in output
    # The kernel may take a moment to take them off its table.
    for _ in range(100):
        left = [name for pid, name in started.items() if _program(pid) == name]
        if not left:
            break
        time.sleep(0.05)
    assert left == []


def test_a_machine_without_gazebo_is_told_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"RL_ROBOT_GAZEBO": str(tmp_path)}
    command = [sys.executable, "-m", "rl_robot.cli", "launch", "collect.launch.py"]
    done = subprocess.run(
        [*command, "simulator:=gazebo", f"root:={tmp_path}", "run:=none"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "gzserver" in done.stderr
    assert not (tmp_path / "none").exists()
