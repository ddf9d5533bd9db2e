"""Which bags are meant by a bag, its file, a folder of bags, and a run."""

from pathlib import Path

import pytest

from rl_robot.bags.found import find_bags, is_bag


def make(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    return folder


def test_several_files_are_one_bag_only_with_their_metadata(tmp_path: Path) -> None:
    alone = make(tmp_path / "alone", "one.mcap")
    split = make(tmp_path / "split", "one_0.mcap", "one_1.mcap", "metadata.yaml")
    loose = make(tmp_path / "loose", "one.mcap", "two.db3", "notes.txt")
    inner = make(loose / "three", "three.mcap")
    assert [is_bag(path) for path in (alone, split, loose)] == [True, True, False]
    assert find_bags([loose]) == [loose / "one.mcap", inner, loose / "two.db3"]
    assert find_bags([split, loose / "two.db3"]) == [split, loose / "two.db3"]


def test_of_a_run_what_was_repaired_is_meant_when_it_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = ("episode_000001", "episode_000001.repaired", "episode_000002.part", "notes")
    old, new, part, _ = (make(run / "episodes" / name, "bag.mcap") for name in names)
    (run / "episodes" / "episode_000003").mkdir()
    assert find_bags([run]) == [old]
    assert find_bags([run], unfinished=True) == [old, part]
    assert find_bags([new, part]) == [new, part]


@pytest.mark.parametrize("name", ["bag", "bag.part"])
def test_what_is_in_the_making_is_left_out_of_folders(tmp_path: Path, name: str) -> None:
    bag = make(tmp_path / "bags" / name, "bag.mcap")
    assert is_bag(bag) == (name == "bag")
    assert find_bags([tmp_path / "bags"], unfinished=True) == [bag]
