"""The ``rl_robot bag`` commands: what they print, exit statuses, one line for each mistake."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from foreign import said, write_mcap, write_rosbag2
from recordings import Recording, record
from synthetic import metadata, write_episode

from rl_robot.bags import BagReader, EpisodeWriter, compare_bags
from rl_robot.cli import main
from rl_robot.environments.robot_env import RobotEnv


class Done(NamedTuple):
    """What a command came to."""

    status: int
    out: list[str]
    err: list[str]


Command = Callable[..., Done]


@pytest.fixture
def bag_command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``rl_robot bag`` with these arguments."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        status = main(["bag", *map(str, arguments)])
        told = capsys.readouterr()
        return Done(status, told.out.splitlines(), told.err.splitlines())

    return run


EXPORT = ["export", "bag", "--format", "lerobot", "--out", "new"]


def refused(done: Done) -> str:
    """Return the one line with which bad input was refused."""
    assert done.status == 2
    assert done.out == []
    [line] = done.err
    assert line.startswith("rl_robot: ")
    return line.removeprefix("rl_robot: ")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two whole bags and one that was never finished; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    episodes = folder / "episodes"
    for index, outcome in enumerate(("success", "truncated")):
        write_episode(episodes / f"episode_00000{index}", metadata(index, outcome, 3))
    shutil.copytree(episodes / "episode_000001", episodes / "episode_000002.part")
    file = episodes / "episode_000002.part" / "episode_000001.mcap"
    file.write_bytes(file.read_bytes()[:-3000])
    (episodes / "notes").mkdir()
    return folder


@pytest.fixture
def bag(run: Path, tmp_path: Path) -> Path:
    """A whole bag, to be changed."""
    return shutil.copytree(run / "episodes" / "episode_000000", tmp_path / "bag")


def damage(bag: Path) -> None:
    file = next(bag.glob("*.mcap"))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    file.write_bytes(raw)


# --- info ----------------------------------------------------------------------------------------


def test_info_of_a_bag_by_its_folder_or_its_file(bag_command: Command, bag: Path) -> None:
    for target in (bag, next(bag.glob("*.mcap"))):
        done = bag_command("info", target)
        assert (done.status, done.err) == (0, [])
        assert done.out[0].startswith(f"{target}: ")
        assert "success after 3 steps" in done.out[1]


def test_info_of_a_run_is_a_line_each(bag_command: Command, run: Path) -> None:
    done = bag_command("info", run)
    assert (done.status, done.err) == (0, [])
    assert done.out[0] == "2 bags"  # not the unfinished one
    assert [line.split()[0] for line in done.out[3:]] == ["episode_000000", "episode_000001"]
    assert bag_command("info", run / "episodes").out == done.out


def test_info_as_json(bag_command: Command, run: Path, bag: Path) -> None:
    told = json.loads("\n".join(bag_command("info", "--json", bag).out))
    assert told["metadata"]["outcome"] == "success"
    told = json.loads("\n".join(bag_command("info", "--json", run).out))
    assert [one["metadata"]["outcome"] for one in told] == ["success", "truncated"]


def test_info_of_bags_of_others(bag_command: Command, tmp_path: Path) -> None:
    database = write_rosbag2(tmp_path / "database", said(9))
    file = write_mcap(tmp_path / "file.mcap", said(9))
    done = bag_command("info", database, file)
    assert (done.status, done.out[0], done.err) == (0, "2 bags", [])
    done = bag_command("info", database)
    assert done.out[1] == "no episode of ours: it says nothing of itself"


def test_info_draws_one_bag(bag_command: Command, run: Path, bag: Path, tmp_path: Path) -> None:
    picture = tmp_path / "timeline.png"
    assert bag_command("info", bag, "--plot", picture).status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    line = refused(bag_command("info", run, "--plot", tmp_path / "two.png"))
    assert line == "--plot draws one bag, these are 2"
    assert not (tmp_path / "two.png").exists()


def test_info_of_a_file_beside_a_bag_does_not_call_it_damaged(
    bag_command: Command, bag: Path
) -> None:
    (report := bag / "report.html").write_text("<html>")
    for command in ("info", "check"):
        line = refused(bag_command(command, report))
        assert line == f"{report} is not a bag: a bag is a folder, or its .mcap or .db3 file"


def test_info_of_a_damaged_bag_among_others(bag_command: Command, run: Path, bag: Path) -> None:
    damage(bag)
    assert f"rl_robot bag repair {bag}" in refused(bag_command("info", bag))
    done = bag_command("info", run, bag)
    assert (done.status, done.out[0]) == (1, "2 bags")
    assert len(done.err) == 1
    assert "is damaged" in done.err[0]
    done = bag_command("info", bag, bag, "--json")
    assert (done.status, done.out, len(done.err)) == (1, ["[]"], 2)


# --- check ---------------------------------------------------------------------------------------


def test_check_of_sound_bags(bag_command: Command, run: Path, bag: Path) -> None:
    assert bag_command("check", bag) == Done(0, ["1 of 1 bags are sound"], [])
    whole = [run / "episodes" / f"episode_00000{index}" for index in (0, 1)]
    assert bag_command("check", *whole) == Done(0, ["2 of 2 bags are sound"], [])


def test_check_of_a_run_finds_what_was_never_finished(bag_command: Command, run: Path) -> None:
    done = bag_command("check", run)
    assert (done.status, done.err, done.out[-1]) == (1, [], "2 of 3 bags are sound")
    part = run / "episodes" / "episode_000002.part"
    assert done.out[0] == f"{part}: the recording was never finished"
    assert all(line.startswith(f"{part}: ") for line in done.out[:-1])


def test_check_names_what_is_wrong(bag_command: Command, bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    done = bag_command("check", bag)
    assert done.status == 1
    assert done.out == [
        f"{bag}: metadata.yaml is missing: rosbag2 can't open the bag",
        "0 of 1 bags are sound",
    ]
    damage(bag)
    done = bag_command("check", bag)
    assert (done.status, done.out[-1]) == (1, "0 of 1 bags are sound")
    assert any(": bytes " in line for line in done.out)


def test_check_goes_on_after_a_bag_that_is_none(
    bag_command: Command, bag: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.mcap"
    text.write_text("no bag")
    database = tmp_path / "empty.db3"
    database.write_bytes(b"")
    done = bag_command("check", text, database, bag)
    assert (done.status, done.err, done.out[-1]) == (1, [], "1 of 3 bags are sound")
    assert {line.split(": ")[0] for line in done.out[:-1]} == {str(text), str(database)}
    (report := tmp_path / "report.html").write_text("<html>")
    done = bag_command("check", report, bag)
    assert (done.status, done.err, done.out[-1]) == (1, [], "1 of 2 bags are sound")
    assert done.out[0].startswith(f"{report}: is not a bag: a bag is a folder")


# --- repair --------------------------------------------------------------------------------------


def test_repair_of_a_sound_bag_does_nothing(bag_command: Command, bag: Path) -> None:
    assert bag_command("repair", bag) == Done(
        0, [f"{bag} is sound: there is nothing to repair"], []
    )
    assert [path.name for path in bag.parent.iterdir()] == ["bag"]


def test_repair_says_what_was_lost_and_where_the_rest_is(
    bag_command: Command, bag: Path, tmp_path: Path
) -> None:
    damage(bag)
    done = bag_command("repair", bag)
    assert (done.status, done.err) == (0, [])
    assert done.out[0].startswith("bytes ")
    new = tmp_path / "bag.repaired"
    kept = sum(BagReader(new).counts.values())
    assert done.out[-1].startswith(f"{new}: {kept} messages of ")
    checked = bag_command("check", new)  # what was lost stays lost, and nothing else is wrong
    assert all(line.endswith(" messages are missing") for line in checked.out[:-1])
    assert "exists already: name another folder" in refused(bag_command("repair", bag))
    other = tmp_path / "other"
    assert bag_command("repair", bag, "--out", other).status == 0
    assert compare_bags(new, other) == []


def test_repair_in_a_run_says_when_the_new_bag_counts(
    bag_command: Command, run: Path, tmp_path: Path
) -> None:
    episodes = tmp_path / "run" / "episodes"
    bag = shutil.copytree(run / "episodes" / "episode_000001", episodes / "episode_000001")
    damage(bag)
    done = bag_command("repair", bag)
    place = f"once it has the name {bag}, instead of the damaged one"
    assert done.out[-1] == f"it counts as an episode of the run {place}"
    shutil.rmtree(bag)
    (episodes / "episode_000001.repaired").rename(bag)
    assert len(bag_command("info", tmp_path / "run").out) == len(
        bag_command("info", bag.parent).out
    )
    part = shutil.copytree(
        run / "episodes" / "episode_000002.part", f"{episodes}/episode_000002.part"
    )
    assert "counts" not in bag_command("repair", part).out[-1]


def test_repair_of_an_unfinished_bag_gives_it_its_name(
    bag_command: Command, run: Path, tmp_path: Path
) -> None:
    part = shutil.copytree(run / "episodes" / "episode_000002.part", tmp_path / "bag.part")
    assert bag_command("repair", part).status == 0
    assert bag_command("check", tmp_path / "bag").status == 0
    assert part.is_dir()


def test_repair_of_a_bag_that_lacks_its_metadata(bag_command: Command, bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    assert bag_command("repair", bag).status == 0
    assert compare_bags(bag, f"{bag}.repaired") == []


def test_repair_of_what_holds_nothing(bag_command: Command, tmp_path: Path) -> None:
    text = tmp_path / "text.mcap"
    text.write_text("no bag")
    done = bag_command("repair", text)
    assert (done.status, done.out[-1]) == (1, "nothing could be kept")
    assert [path.name for path in tmp_path.iterdir()] == ["text.mcap"]
    database = write_rosbag2(tmp_path / "database", said(3))
    line = refused(bag_command("repair", database))
    assert line == f"{database} is no bag of one plain .mcap file: only those can be repaired"


# --- relabel -------------------------------------------------------------------------------------

TASK = '''
from dataclasses import dataclass
from rl_robot.tasks import Reach, Reward


@dataclass(frozen=True)
class Brief(Reach):
    """Two steps are enough."""

    def reward(self, memory, snapshot, action):
        memory.streak += 1
        return Reward({"steps": 1.0}, False, memory.streak >= 2)
'''


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record(RobotEnv("reach", perception="truth"), 3, policy="script")


@pytest.fixture
def reached(recording: Recording, tmp_path: Path) -> Path:
    return recording.write(tmp_path / "episodes" / "episode_000003").parent


def test_relabel_counts_outcomes_before_and_after(
    bag_command: Command, reached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brief_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "anew"
    done = bag_command("relabel", tmp_path, "--task", "brief_task:Brief", "--out", out)
    assert done == Done(0, [f"1 bags in {out}: 1 success; now 1 terminated"], [])
    assert BagReader(out / "episode_000003").episode.steps == 2
    assert bag_command("check", out).status == 0


def test_relabel_of_a_file_names_the_new_bag_without_its_suffix(
    bag_command: Command, reached: Path, tmp_path: Path
) -> None:
    file = reached / "episode_000003" / "episode_000003.mcap"
    out = tmp_path / "anew"
    done = bag_command("relabel", file, "--task", "reach", "--out", out, "--robot", "arm")
    assert done == Done(0, [f"1 bags in {out}: 1 success; now 1 success"], [])
    assert [path.name for path in out.iterdir()] == ["episode_000003"]


def test_relabel_refuses_in_one_line(
    bag_command: Command, reached: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "anew"

    def line(*arguments: object) -> str:
        return refused(bag_command("relabel", *arguments, "--out", out))

    foreign = write_mcap(tmp_path / "file.mcap", said(3))
    assert "unknown task 'reahc'" in line(reached, "--task", "reahc")
    assert "on robot arm, this is" in line(reached, "--task", "reach", "--robot", "arm7")
    assert "no step to judge" in line(reached, "--task", "grasp")
    assert "holds no episode recorded by rl_robot" in line(foreign, "--task", "reach")
    assert "no_such_module" in line(reached, "--task", "no_such_module:Task")
    assert not out.exists() or not list(out.iterdir())
    assert bag_command("relabel", reached, "--task", "reach", "--out", out).status == 0
    assert "would be written over" in line(reached, "--task", "reach")


def test_relabel_loads_a_named_robot_before_it_looks_at_bags(
    bag_command: Command, run: Path, tmp_path: Path
) -> None:
    line = refused(
        bag_command("relabel", run, "--task", "reach", "--robot", "nope", "--out", tmp_path / "new")
    )
    assert "nope" in line


# --- export --------------------------------------------------------------------------------------


def test_export_leaves_out_and_names_a_damaged_bag(
    bag_command: Command, recording: Recording, tmp_path: Path
) -> None:
    bags = tmp_path / "bags"
    for name in ("a", "b", "c"):
        recording.write(bags / name)
    damage(bags / "a")  # the first, from which all is taken
    for form, arguments in (("npz", []), ("lerobot", ["--keep-last"])):
        out = tmp_path / form
        done = bag_command(
            "export", bags, "--format", form, "--out", out, "--robot", "arm", *arguments
        )
        assert done.status == 1
        assert done.out[0].startswith(f"{out}: 2 episodes")
        [line] = done.err
        assert line.startswith("left out: ")
        assert "a.mcap is damaged" in line
    for name in ("b", "c"):
        damage(bags / name)
    done = bag_command("export", bags, "--format", "npz", "--out", tmp_path / "none")
    assert (done.status, done.out, len(done.err)) == (1, [], 3)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("option", [["--text", "x"], ["--fps", "10"], ["--keep-last"]])
def test_export_to_npz_refuses_what_is_for_lerobot(
    bag_command: Command, bag: Path, tmp_path: Path, option: list[str]
) -> None:
    done = bag_command("export", bag, "--format", "npz", "--out", tmp_path / "out", *option)
    assert refused(done) == f"{option[0]} is for --format lerobot: leave it out"


@pytest.mark.parametrize("option", [["--task", "reahc"], ["--robot", "nope"]])
def test_export_looks_at_names_before_it_looks_at_bags(
    bag_command: Command, run: Path, tmp_path: Path, option: list[str]
) -> None:
    done = bag_command("export", run, "--format", "npz", "--out", tmp_path / "out", *option)
    assert option[1] in refused(done)


# --- what the disk refuses -----------------------------------------------------------------------


def test_a_file_in_the_place_of_a_folder_is_named_in_a_line(
    bag_command: Command, recording: Recording, run: Path, tmp_path: Path
) -> None:
    bag = recording.write(tmp_path / "bag")
    dataset = tmp_path / "dataset"
    exported = bag_command("export", bag, "--format", "lerobot", "--out", dataset)
    assert exported.status == 0
    broken = shutil.copytree(run / "episodes" / "episode_000000", tmp_path / "broken")
    damage(broken)
    file = tmp_path / "file"
    file.write_text("kept")
    for arguments in (
        ["relabel", bag, "--task", "reach", "--out", file],
        ["export", bag, "--format", "npz", "--out", file / "x"],
        ["export", bag, "--format", "lerobot", "--out", file / "x"],
        ["repair", broken, "--out", file / "x"],
        ["import", dataset, "--out", file / "x"],
        ["import", dataset, "--out", "/proc/x"],
    ):
        line = refused(bag_command(*arguments))
        assert str(file) in line or "/proc/x" in line
    assert file.read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"bag", "broken", "dataset", "file"}


@pytest.mark.parametrize("when", ["write", "close"])
@pytest.mark.parametrize("command", ["repair", "relabel", "import"])
def test_nothing_is_left_of_what_the_disk_has_no_room_for(
    bag_command: Command,
    bag: Path,
    recording: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    when: str,
) -> None:
    source, rest = bag, ["--task", "reach"] if command == "relabel" else []
    if command == "repair":
        damage(bag)
    else:
        source = recording.write(tmp_path / "reached")
    if command == "import":
        dataset = tmp_path / "dataset"
        bag_command("export", source, "--format", "lerobot", "--out", dataset)
        source = dataset

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(EpisodeWriter, when, full)
    out = tmp_path / "new"
    line = refused(bag_command(command, source, "--out", out, *rest))
    assert line.startswith(f"{out} can't be ")
    assert line.endswith("written: No space left on device")
    assert not out.exists() or not list(out.iterdir())
    assert not list(tmp_path.rglob("*.part"))


# --- mistyped ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["info", "check", "relabel"])
def test_targets_that_are_no_bags(bag_command: Command, tmp_path: Path, command: str) -> None:
    rest = ["--task", "reach", "--out", tmp_path / "out"] if command == "relabel" else []
    remedy = "name a bag, a folder of bags, or a run"
    absent = tmp_path / "absent"
    line = refused(bag_command(command, absent, *rest))
    assert line == f"there is no bag at {absent}: {remedy}"
    line = refused(bag_command(command, tmp_path, *rest))
    assert line == f"{tmp_path} holds no bags: {remedy}"
    (tmp_path / "episodes").mkdir()
    line = refused(bag_command(command, tmp_path, *rest))
    assert line == f"{tmp_path / 'episodes'} holds no bags: {remedy}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["inof", "bag"], "argument COMMAND: invalid choice: 'inof'"),
        (["info"], "the following arguments are required: BAG|RUN"),
        (["info", "bag", "--jsn"], "unrecognized arguments: --jsn"),
        (["info", "bag", "--plot"], "argument --plot: expected one argument"),
        (["check"], "the following arguments are required: BAG|RUN"),
        (["repair"], "the following arguments are required: BAG"),
        (["repair", "one", "two"], "unrecognized arguments: two"),
        (["repair", "absent"], "there is no bag at absent"),
        (["relabel", "bag", "--out", "new"], "the following arguments are required: --task"),
        (["relabel", "bag", "--task", "reach"], "the following arguments are required: --out"),
        ([*EXPORT, "--fps", "abc"], "argument --fps: 'abc': expected a number above 0"),
        ([*EXPORT, "--fps", "-1"], "argument --fps: '-1': expected a number above 0"),
        (
            ["import", "set", "--out", "new", "--episodes", "1,x"],
            "argument --episodes: '1,x': expected whole numbers with commas between",
        ),
    ],
)
def test_mistyped_arguments(bag_command: Command, arguments: list[str], words: str) -> None:
    assert words in refused(bag_command(*arguments))


@pytest.mark.parametrize("command", ["info", "check", "repair", "relabel"])
def test_help_is_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bag", command, "--help"])
    assert ended.value.code == 0
    assert f"usage: rl_robot bag {command}" in capsys.readouterr().out
