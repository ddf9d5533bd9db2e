"""A run folder belongs to one live session; its files change in one step."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rl_robot.errors import UserError
from rl_robot.experience.runs import RunFolder, write_atomically, write_json

HOLD = """
import sys, time
from pathlib import Path
from rl_robot.experience.runs import RunFolder
lock = RunFolder(Path(sys.argv[1])).lock()
print("held", flush=True)
time.sleep(60)
"""


def test_layout(tmp_path: Path) -> None:
    run = RunFolder.create("first", root=tmp_path)
    assert run.path == tmp_path / "first"
    assert run.name == "first"
    assert run.episodes.is_dir()
    assert run.log.is_dir()
    assert run.episode_path(7) == tmp_path / "first" / "episodes" / "episode_000007"
    assert RunFolder.open("first", root=tmp_path).path == run.path
    assert RunFolder.open(run.path).path == run.path
    assert RunFolder.open(str(run.path), root="elsewhere").path == run.path


def test_episodes_are_numbered_on(tmp_path: Path) -> None:
    run = RunFolder.create("first", root=tmp_path)
    assert run.next_episode() == 0
    for name in ("episode_000002", "episode_000010", "episode_000011.part", "notes"):
        (run.episodes / name).mkdir()
    assert [path.name for path in run.list_episodes()] == ["episode_000002", "episode_000010"]
    assert [path.name for path in run.unfinished_episodes()] == ["episode_000011.part"]
    assert run.next_episode() == 12


def test_what_was_repaired_counts_once_it_has_the_place_of_the_damaged_one(tmp_path: Path) -> None:
    run = RunFolder.create("first", root=tmp_path)
    for name in ("episode_000001", "episode_000001.repaired", "episode_000002.repair.part"):
        (run.episodes / name).mkdir()
    assert run.list_episodes() == [run.episode_path(1)]
    assert run.unfinished_episodes() == []
    assert run.next_episode() == 3  # which whoever repairs may want to give its name to
    run.episode_path(1).rename(tmp_path / "damaged")
    assert run.list_episodes() == []
    (run.episodes / "episode_000001.repaired").rename(run.episode_path(1))
    assert run.list_episodes() == [run.episode_path(1)]


def test_unknown_run_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no run .*nothing: .* holds no runs"):
        RunFolder.open("nothing", root=tmp_path)
    RunFolder.create("b", root=tmp_path)
    RunFolder.create("a", root=tmp_path)
    with pytest.raises(UserError, match=r"the runs in .* are a, b"):
        RunFolder.open("nothing", root=tmp_path)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder.create("run", root=tmp_path / "file")
    with pytest.raises(UserError, match="needs a name"):
        RunFolder.create(" ", root=tmp_path)


def test_second_session_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    run = RunFolder.create("first", root=tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        pid = (run.path / "lock").read_text().strip()
        with pytest.raises(UserError, match=f"is in use by process {pid}: stop that session"):
            run.lock()
        os.kill(int(pid), signal.SIGKILL)
    finally:
        holder.kill()
        holder.communicate()
    with run.lock():  # a lock goes with its process, however that ends
        assert (run.path / "lock").read_text() == f"{os.getpid()}\n"
    with run.lock():
        pass


def test_session_file(tmp_path: Path) -> None:
    run = RunFolder.create("first", root=tmp_path)
    assert run.read_session() == {}
    run.write_session({"policy": "script", "seed": 3})
    run.write_session({"policy": "script", "seed": 4})
    assert run.read_session() == {"policy": "script", "seed": 4}
    for text in ("{", "[1]"):
        (run.path / "session.json").write_text(text)
        with pytest.raises(UserError, match=r"session\.json is damaged"):
            run.read_session()


def test_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
