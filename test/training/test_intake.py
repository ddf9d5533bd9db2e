"""Which bags a trainer takes: each once, also where a repaired one lies beside the damaged one."""

from pathlib import Path

import pytest

from rl_robot.training.intake import Intake


def make(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("episode_000001", "episode_000001.repaired", "episode_000002.part"):
        make(tmp_path / "run" / "episodes" / name, "bag.mcap")
    return tmp_path / "run"


@pytest.mark.parametrize("own", [True, False])
def test_of_a_run_its_finished_episodes(run: Path, tmp_path: Path, own: bool) -> None:
    intake = Intake(run) if own else Intake(make(tmp_path / "mine" / "episodes").parent, [run])
    assert intake.new() == [run / "episodes" / "episode_000001"]
    assert intake.new() == []
    (run / "episodes" / "episode_000002.part").rename(run / "episodes" / "episode_000002")
    assert intake.new() == [run / "episodes" / "episode_000002"]


def test_a_file_is_a_bag_and_so_is_each_of_several(run: Path, tmp_path: Path) -> None:
    loose = make(tmp_path / "loose", "a.mcap", "b.mcap")
    file = make(tmp_path / "file", "one.db3") / "one.db3"
    intake = Intake(run, [file, loose])
    expected = [file, loose / "a.mcap", loose / "b.mcap", run / "episodes" / "episode_000001"]
    assert intake.new() == expected
    assert intake.new() == []


def test_of_a_folder_that_is_no_run_every_bag(run: Path, tmp_path: Path) -> None:
    names = ("anything", "episode_000001", "episode_000001.repaired")
    bags = [make(tmp_path / "bags" / name, "bag.mcap") for name in names]
    assert Intake(run, [tmp_path / "bags"]).new()[:-1] == bags
