"""Room for a run's bags: what a quota removes and what stays, and a disk that is full."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic

from rl_robot.bags import BagReader, EpisodeMetadata, EpisodeWriter
from rl_robot.errors import UserError
from rl_robot.experience import disk_room, removed
from rl_robot.experience.disk_room import (
    Quota,
    Rules,
    Storage,
    parse_size,
    size_text,
    write_failure,
)
from rl_robot.experience.removed import read_removed
from rl_robot.experience.runs import RunFolder


def record(run: RunFolder, number: int, role: str, outcome: str = "success") -> Path:
    """A small bag of an episode."""
    writer = EpisodeWriter(run.episode_path(number), synthetic.TYPES)
    for sent in synthetic.small_step(10_000_000_000, 10**18):
        writer.write(sent.topic, sent.raw, sent.stamp_ns, sent.publish_ns)
    stage = {"role": role, "stage": role}
    return writer.close(synthetic.metadata(number, outcome, 7, split="train", extra=stage))


def is_exploration(metadata: EpisodeMetadata) -> bool:
    return metadata.extra["role"] == "exploration"


def make_run(tmp_path: Path) -> RunFolder:
    """A demonstration, four explorations, a test, and a demonstration that is the newest bag."""
    run = RunFolder.create(tmp_path / "run")
    record(run, 0, "demonstration")
    for number in range(1, 5):
        record(run, number, "exploration")
    record(run, 5, "test")
    record(run, 6, "demonstration")
    return run


def size_of(run: RunFolder) -> int:
    return sum(f.stat().st_size for bag in run.list_episodes() for f in bag.iterdir())


def left(run: RunFolder) -> list[int]:
    return [int(path.name.removeprefix("episode_")) for path in run.list_episodes()]


RULES = Rules(removable=is_exploration, figures=lambda path: {"bag": path.name})


def test_the_oldest_exploration_goes_first_and_no_more_than_needed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    whole = size_of(run)
    over, unlearnt = Quota(run, whole - 1, RULES).enforce()
    assert left(run) == [0, 2, 3, 4, 5, 6]
    assert (over <= 0, unlearnt) == (True, False)
    Quota(run, size_of(run) - 1, RULES).enforce()
    assert left(run) == [0, 3, 4, 5, 6]
    over, _ = Quota(run, 0, RULES).enforce()
    assert left(run) == [0, 5, 6]  # never demonstrations, nor what was held out
    assert over == size_of(run)


def test_what_a_removed_bag_said_of_itself_still_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = sorted(run.closed_episodes(), key=lambda episode: episode.episode)
    Quota(run, 0, RULES).enforce()
    after = sorted(run.closed_episodes(), key=lambda episode: episode.episode)
    assert after == before
    assert [one.figures for one in run.removed_episodes()] == [
        {"bag": f"episode_{number:06d}"} for number in range(1, 5)
    ]
    assert all(one.size > 1000 for one in run.removed_episodes())
    assert not (run.path / "removed").exists()


def test_numbers_of_removed_bags_are_not_used_again(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    record(run, 0, "demonstration")
    record(run, 1, "exploration")
    gone = removed.RemovedEpisode("episode_000001", BagReader(run.episode_path(1)).episode, 1)
    removed.remove_bag(run.path, gone)
    assert left(run) == [0]
    assert run.next_episode() == 2


def test_what_the_trainer_has_not_learnt_from_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    learnt = {"episode_000002"}
    rules = Rules(removable=is_exploration, learnt=lambda: learnt)
    quota = Quota(run, 0, rules)
    over, unlearnt = quota.enforce()
    assert left(run) == [0, 1, 3, 4, 5, 6]
    assert over > 0
    assert unlearnt
    learnt |= {"episode_000001", "episode_000003", "episode_000004"}
    over, unlearnt = quota.enforce()
    assert left(run) == [0, 5, 6]
    assert not unlearnt


def test_the_newest_bag_and_damaged_ones_stay(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    damaged = record(run, 0, "exploration") / "episode_000000.mcap"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    for number in (1, 2):
        record(run, number, "exploration")
    Quota(run, 0, RULES).enforce()
    assert left(run) == [0, 2]
    Quota(run, 0, Rules(removable=is_exploration, learnt=lambda: {"episode_000002"})).enforce()
    assert left(run) == [0]


def fail(error: Exception) -> dict[str, float]:
    raise error


@pytest.mark.parametrize(
    "figures",
    [
        lambda: {"reward": float("nan")},
        lambda: fail(UserError("the bag is damaged")),
        lambda: fail(IndexError("a message is cut short")),
        lambda: {"reward": object()},
    ],
)
def test_a_bag_whose_figures_fail_stays_and_the_others_make_room(
    tmp_path: Path, figures: Callable[[], dict[str, float]]
) -> None:
    run = make_run(tmp_path)
    read: list[str] = []

    def read_figures(path: Path) -> dict[str, float]:
        read.append(path.name)
        return figures() if path.name == "episode_000001" else {}

    quota = Quota(run, size_of(run) - 1, Rules(removable=is_exploration, figures=read_figures))
    over, _ = quota.enforce()
    assert over <= 0
    assert left(run) == [0, 1, 3, 4, 5, 6]
    quota.limit = 0
    room = Storage(run, quota=quota)
    assert left(run) == [0, 1, 5, 6]
    assert "bags that can't be read" in room.full
    assert read.count("episode_000001") == 1


def test_a_disk_that_fails_while_a_bag_is_read_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    failing = OSError(errno.EIO, os.strerror(errno.EIO))
    rules = Rules(removable=is_exploration, figures=lambda _: fail(failing))
    assert "Input/output error" in Storage(run, quota=Quota(run, 0, rules)).full


class KilledError(Exception):
    """The process ends here."""


def killed(*_: object, **__: object) -> None:
    raise KilledError


@pytest.mark.parametrize(
    ("where", "name"), [("os", "fsync"), ("Path", "rename"), ("shutil", "rmtree")]
)
def test_a_kill_between_the_steps_loses_and_doubles_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    run = make_run(tmp_path)
    before = sorted(e.episode for e in run.closed_episodes())
    with monkeypatch.context() as patched:
        patched.setattr(getattr(removed, where), name, killed)
        with pytest.raises(KilledError):
            Quota(run, size_of(run) - 1, RULES).enforce()
    assert sorted(e.episode for e in run.closed_episodes()) == before
    Quota(run, 0, RULES).enforce()
    assert sorted(e.episode for e in run.closed_episodes()) == before
    assert left(run) == [0, 5, 6]
    assert not (run.path / "removed").exists()


def test_lines_that_are_cut_short_or_foreign_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    file = run.path / "removed.jsonl"
    good = removed.RemovedEpisode("episode_000009", synthetic.metadata(9, "success", 3), 5)
    strange = json.dumps(json.loads(good.to_json()) | {"name": "../../etc"})
    file.write_text("\n".join([strange, "[1]", '"x"', "{}", good.to_json(), good.to_json()[:40]]))
    assert [one.name for one in read_removed(run.path)] == ["episode_000009"]
    Quota(run, size_of(run) - 1, RULES).enforce()  # begins a line of its own
    assert [one.name for one in read_removed(run.path)] == ["episode_000001", "episode_000009"]


def test_words_for_a_quota_that_cannot_be_met(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    room = Storage(run, quota=Quota(run, 1000, RULES))
    assert "the quota of 1 KB" in room.full
    assert "what is not removed" in room.full
    assert not room.waits
    other = make_run(tmp_path / "other")
    waiting = Rules(removable=is_exploration, learnt=set)
    room = Storage(other, quota=Quota(other, 1000, waiting))
    assert not room.full
    assert "trainer" in room.waits


def test_the_reserve_is_looked_at_before_and_half_of_it_within_an_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 1000

    class Usage:
        def __init__(self, _path: Path) -> None:
            self.free = free

    monkeypatch.setattr(disk_room.shutil, "disk_usage", Usage)
    run = RunFolder.create(tmp_path / "run")
    room = Storage(run, reserve=1000)
    assert not room.full
    free = 600
    room.look()
    assert not room.full
    free = 499
    room.look()
    assert room.full == (
        f"the disk of {run.path} is full: 499 B are free, of which reserve:=1KB is to be left: "
        "make room"
    )
    free = 999
    assert "999 B are free" in Storage(run, reserve=1000).full


def test_a_disk_that_fails_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(removed, "_append", full)
    room = Storage(run, quota=Quota(run, 0, RULES))
    assert room.full == f"the disk of {run.path} is full: No space left on device"
    assert left(run) == [0, 1, 2, 3, 4, 5, 6]
    other = OSError(errno.EROFS, os.strerror(errno.EROFS))
    assert write_failure(run.path, other) == f"{run.path} can't be written: Read-only file system"


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("500MB", 5 * 10**8), ("1.5 kb", 1500), ("7B", 7), ("none", None)],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size("quota", text) == size


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "1e9B", "20 GiB", "nan", "9" * 40 + "B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a size such as 20GB"):
        parse_size("quota", text)


def test_sizes_as_people_read_them() -> None:
    assert [size_text(size) for size in (999, 1_500_000_000)] == ["999 B", "1.5 GB"]
