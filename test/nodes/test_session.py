"""Whole sessions on the bare runner: every node, real DDS, real bags."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader
from sessions import finish, node_process, until

from rl_robot.bags import BagReader, compare_bags
from rl_robot.experience.runs import RunFolder


def start(
    root: Path, run: str, *, before: Sequence[str] = (), **arguments: object
) -> subprocess.Popen[str]:
    """Start a session of the scripted expert, paced; ``before`` is what runs the command."""
    given = {"policy": "script", "pace": "paced", "split": "test", "run": run, "root": root}
    given |= arguments
    command = [*before, sys.executable, "-m", "rl_robot.cli", "launch", "collect.launch.py"]
    command += [f"{name}:={value}" for name, value in given.items()]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def processes_of(run: Path) -> list[int]:
    """Processes that were started for the run (its folder, or its root and name)."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_text()
            except OSError:
                continue
            if "rl_robot.nodes" in command and str(run) in command:
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """The same session twice: two episodes of the weakened expert, whose noise is seeded."""
    root = tmp_path_factory.mktemp("twice")
    runs = []
    for name in ("first", "second"):
        session = start(root, name, policy="weak_script", episodes=2, seed=3)
        output = finish(session)
        assert session.returncode == 0, output
        runs.append(RunFolder.open(root / name))
    return runs


def test_a_session_leaves_one_whole_bag_per_episode(twice: list[RunFolder]) -> None:
    run = twice[0]
    bags = run.list_episodes()
    assert [bag.name for bag in bags] == ["episode_000000", "episode_000001"]
    assert not run.unfinished_episodes()
    for number, bag in enumerate(bags):
        reader = BagReader(bag)
        episode = reader.episode
        assert (episode.robot, episode.task, episode.policy) == ("arm", "grasp", "weak_script")
        assert (episode.episode, episode.index, episode.split) == (number, number, "test")
        assert episode.outcome in ("success", "truncated")
        assert episode.lost_periods == 0
        counts = reader.counts
        steps = episode.steps
        # One of each for every tick: the first tick is seen but not judged, the last not acted on.
        assert counts["camera/image_raw"] == counts["perception/ages"] == steps + 1
        assert counts["reward"] == steps
        assert counts["policy/action"] == counts["policy/command"] == steps
        assert counts["safety/command"] == steps
        assert counts["arm_controller/joint_trajectory"] == steps
        assert counts["joint_states"] == 10 * steps + 1
        assert counts["simulator/block/pose"] == steps + 1


def test_stock_readers_open_the_bags(twice: list[RunFolder]) -> None:
    with AnyReader([twice[0].list_episodes()[0]]) as reader:
        decoded = {connection.topic for connection, _, raw in reader.messages()
                   if reader.deserialize(raw, connection.msgtype)}  # fmt: skip
    assert {"/camera/image_raw", "/joint_states", "/reward", "/safety/command"} <= decoded


def test_one_policy_and_seed_give_the_same_bags_twice(twice: list[RunFolder]) -> None:
    first, second = (run.list_episodes() for run in twice)
    assert len(first) == len(second) == 2
    for one, other in zip(first, second, strict=True):
        assert compare_bags(one, other) == []


def test_two_episodes_are_not_the_same(twice: list[RunFolder]) -> None:
    """What the test above would miss if the comparison saw nothing."""
    first, second = twice[0].list_episodes()
    assert compare_bags(first, second) != []


def test_the_report_has_the_numbers_of_the_bags(twice: list[RunFolder]) -> None:
    run = twice[0]
    result = json.loads(run.result.read_text())
    outcomes = [BagReader(bag).episode.outcome for bag in run.list_episodes()]
    assert result["episodes"] == 2
    assert result["successes"] == outcomes.count("success")
    assert result["lost_periods"] == 0
    assert "<html" in run.report.read_text()


@pytest.mark.parametrize(
    ("node", "pace"), [("policy", "1.0"), ("recorder", "1.0"), ("container", "paced")]
)
def test_a_killed_node_breaks_one_episode_and_the_session_goes_on(
    tmp_path: Path, node: str, pace: str
) -> None:
    # Episodes that last long enough to be hit: at real time, or by a policy that never succeeds.
    policy = "random" if pace == "paced" else "script"
    session = start(tmp_path, "killed", policy=policy, episodes=2, pace=pace)
    run = RunFolder(tmp_path / "killed")
    # Paced, an episode lasts half a second: who is to be killed is known before it begins.
    process = node_process(session, node)
    until(lambda: bool(run.unfinished_episodes()), session, every=0.002)
    os.kill(process, signal.SIGKILL)
    output = finish(session)
    assert session.returncode == 0, output
    episodes = [BagReader(bag).episode for bag in run.list_episodes()]
    whole = [episode for episode in episodes if episode.outcome != "broken"]
    broken = [episode for episode in episodes if episode.outcome == "broken"]
    assert [episode.index for episode in whole] == [0, 1]
    if node == "recorder":  # its bag died with it
        assert len(run.unfinished_episodes()) == 1
    else:
        assert [episode.index for episode in broken] == [0]
        # Whichever is noticed first: that it died, or that its commands are missing.
        assert "policy" in broken[0].reason or node == "container"
    assert json.loads((run.path / "session.json").read_text())["broken"] == 1
    assert node in output  # the runner says who died


def test_ctrl_c_ends_everything_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    session = start(tmp_path, "stopped", episodes=50)
    run = RunFolder(tmp_path / "stopped")
    until(lambda: run.episodes.is_dir() and len(run.list_episodes()) >= 1, session)
    until(lambda: bool(run.unfinished_episodes()), session)
    session.send_signal(signal.SIGINT)
    output = finish(session)
    assert session.returncode == 130
    assert processes_of(run.path) == []
    assert not run.unfinished_episodes(), output
    bags = [BagReader(bag) for bag in run.list_episodes()]
    assert bags[-1].episode.outcome in ("broken", "success")
    assert run.report.is_file()


def test_a_run_folder_in_use_is_refused(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "taken").lock():
        session = start(tmp_path, "taken", episodes=1)
        output = finish(session)
    assert session.returncode == 2
    assert f"in use by process {os.getpid()}" in output


def test_reach_runs_in_a_namespace_with_its_goal(tmp_path: Path) -> None:
    session = start(tmp_path, "reach", task="reach", namespace="lab/left", episodes=1)
    output = finish(session)
    assert session.returncode == 0, output
    reader = BagReader(RunFolder.open(tmp_path / "reach").list_episodes()[0])
    assert reader.namespace == "/lab/left"
    assert reader.counts["goal"] >= 1
    assert reader.episode.outcome == "success"


def test_without_room_on_the_disk_no_episode_begins(tmp_path: Path) -> None:
    session = start(tmp_path, "full", episodes=2, reserve="900TB")
    output = finish(session)
    assert session.returncode == 1, output
    assert f"the disk of {tmp_path / 'full'} is full" in output
    assert "Traceback" not in output
    run = RunFolder.open(tmp_path / "full")
    assert run.list_episodes() == run.unfinished_episodes() == []


def test_a_disk_that_gets_full_ends_the_session_in_words(tmp_path: Path) -> None:
    """A real one, of 12 MB, with room for one episode."""
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=12m tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run([*own, mount], check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk of his own")
    script = f'{mount} && "$@"; status=$?; ls {disk}/small/*; exit $status'
    given = {"policy": "random", "episodes": 3, "reserve": "0B"}
    session = start(disk, "small", before=[*own, script, "sh"], **given)
    output = finish(session)
    assert session.returncode == 1, output
    assert f"the disk of {disk / 'small'} is full: No space left on device" in output
    assert f"report: {disk / 'small' / 'report.html'}" in output
    assert "Traceback" not in output
    assert "episode_000000\n" in output  # closed before
    assert "episode_000001" not in output  # given up


def test_a_quota_removes_the_oldest_exploration_and_keeps_what_it_said(tmp_path: Path) -> None:
    given = {"task": "reach", "policy": "random", "split": "train", "episodes": 3}
    session = start(tmp_path, "small", **given, quota="4MB", pictures="jpeg")
    output = finish(session)
    assert session.returncode == 0, output
    run = RunFolder.open(tmp_path / "small")
    bags = run.list_episodes()
    assert [bag.name for bag in bags] == ["episode_000001", "episode_000002"]
    assert [one.name for one in run.removed_episodes()] == ["episode_000000"]
    result = json.loads(run.result.read_text())
    assert (result["episodes"], result["removed"]) == (3, 1)
    assert result["control_steps"] == sum(e.steps for e in run.closed_episodes())
    assert "bags of 1 of them were removed" in run.report.read_text()
    assert run.report.read_text().count("data:image/jpeg") == 8  # pictures of a bag that is there

    reader = BagReader(bags[0])
    steps = reader.episode.steps
    counts = reader.counts
    assert counts["camera/image_raw/compressed"] == counts["perception/image"] == steps + 1
    assert counts["camera/image_raw"] == 0
    stamps = [m.log_ns for m in reader.messages(["perception/ages"])]
    assert [m.log_ns for m in reader.messages(["camera/image_raw/compressed"])] == stamps
    assert reader.episode.extra["start_ns"] == str(stamps[0])
    assert reader.episode.extra["end_ns"] == str(stamps[-1])


def test_at_real_time_a_grasp_takes_its_time(tmp_path: Path) -> None:
    session = start(tmp_path, "real", pace="1.0", episodes=1)
    output = finish(session)
    assert session.returncode == 0, output
    reader = BagReader(RunFolder.open(tmp_path / "real").list_episodes()[0])
    assert reader.episode.outcome in ("success", "truncated")
    stamps = [message.log_ns for message in reader.messages(["perception/ages"])]
    assert (stamps[-1] - stamps[0]) * 1e-9 == pytest.approx(0.1 * reader.episode.steps, abs=0.06)
