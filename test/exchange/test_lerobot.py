"""LeRobotDataset: what is written has the layout, and becomes the same bags again."""

import importlib.util
import json
import random
from dataclasses import replace
from pathlib import Path

import aligned_episodes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rl_robot.bags import BagReader
from rl_robot.errors import UserError
from rl_robot.exchange import LeRobotExport, export_lerobot, import_lerobot
from rl_robot.exchange.lerobot import description, layout
from rl_robot.exchange.lerobot.statistics import column_statistics, combine
from rl_robot.experience.aligned import AlignedEpisode

STEPS = (6, 4)
OUTCOMES = ("success", "truncated")


def given_episodes() -> list[AlignedEpisode]:
    return [
        aligned_episodes.episode(i, steps, outcome)
        for i, (steps, outcome) in enumerate(zip(STEPS, OUTCOMES, strict=True))
    ]


def export(folder: Path, episodes: list[AlignedEpisode], **changes: object) -> LeRobotExport:
    values = {"task": "Lift the block", "fps": aligned_episodes.FPS, "robot_type": "arm"} | changes
    return export_lerobot(episodes, folder, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot") / "dataset"
    assert export(folder, given_episodes()) == LeRobotExport(2, sum(STEPS))
    return folder


@pytest.fixture(scope="module")
def bags(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[BagReader]:
    out = tmp_path_factory.mktemp("bags")
    paths = import_lerobot(dataset, out)
    assert paths == [out / "episode_000000", out / "episode_000001"]
    return [BagReader(path) for path in paths]


def test_the_files_are_those_of_the_format(dataset: Path) -> None:
    files = sorted(str(p.relative_to(dataset)) for p in dataset.rglob("*") if p.is_file())
    assert files == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/rl_robot.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "videos/observation.images.camera/chunk-000/file-000.mp4",
    ]
    info = json.loads((dataset / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["fps"], info["total_episodes"], info["total_frames"]) == (10, 2, 10)
    assert info["features"]["observation.state"]["names"] == list(aligned_episodes.JOINTS)
    assert info["features"]["observation.images.camera"]["shape"] == [96, 128, 3]


def test_rows_hold_what_the_episodes_held(dataset: Path) -> None:
    rows = pq.read_table(dataset / "data/chunk-000/file-000.parquet")
    first, second = given_episodes()
    state = np.stack(rows["observation.state"].to_numpy())
    np.testing.assert_array_equal(state[:6], first.observations["joint_states"][:-1])
    np.testing.assert_array_equal(state[6:], second.observations["joint_states"][:-1])
    np.testing.assert_array_equal(np.stack(rows["action"].to_numpy())[6:], second.action)
    np.testing.assert_array_equal(rows["tick_ns"].to_numpy()[6:], second.ticks_ns[:-1])
    np.testing.assert_allclose(rows["timestamp"].to_numpy()[:3], [0, 0.1, 0.2], rtol=1e-6)
    assert rows["index"].to_pylist() == list(range(10))
    assert rows["next.done"].to_pylist() == [i in (5, 9) for i in range(10)]
    assert rows["next.truncated"].to_pylist() == [i == 9 for i in range(10)]
    assert rows["next.success"].to_pylist() == [i == 5 for i in range(10)]
    assert rows["gap"].to_pylist() == [i in (5, 9) for i in range(10)]


def test_the_last_observation_is_kept_when_asked(tmp_path: Path) -> None:
    episode = aligned_episodes.episode(steps=3)
    assert export(tmp_path / "d", [episode], keep_last=True).rows == 4
    rows = pq.read_table(tmp_path / "d/data/chunk-000/file-000.parquet")
    assert rows["is_last_observation"].to_pylist() == [False, False, False, True]
    np.testing.assert_array_equal(
        np.stack(rows["observation.state"].to_numpy()), episode.observations["joint_states"]
    )
    np.testing.assert_array_equal(rows["action"][3].as_py(), episode.action[2])
    assert rows["next.reward"][3].as_py() == 0.0
    [bag] = import_lerobot(tmp_path / "d", tmp_path / "bags")
    counts = BagReader(bag).counts
    assert (counts["joint_states"], counts["policy/action"], counts["reward"]) == (4, 3, 3)
    stamps = [m.log_ns for m in BagReader(bag).messages(["reward"])]
    assert stamps == episode.ticks_ns[1:].tolist()


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = np.mean((first.astype(float) - second.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def test_bags_hold_what_the_episodes_held(bags: list[BagReader]) -> None:
    for bag, episode in zip(bags, given_episodes(), strict=True):
        assert bag.episode == episode.metadata
        names = episode.components["joint_states"]
        captured = episode.ticks_ns - np.rint(episode.ages["joint_states"] * 1e9).astype(int)
        states = list(bag.decoded(["joint_states"]))
        assert [list(m.message.name) for m in states] == [list(names)] * len(episode)
        # Ages are kept as float32, so a capture is known to some nanoseconds.
        np.testing.assert_allclose([m.log_ns for m in states], captured[:-1], rtol=0, atol=10)
        np.testing.assert_array_equal(
            np.array([m.message.position for m in states], np.float32),
            episode.observations["joint_states"][:-1],
        )
        actions = list(bag.decoded(["policy/action"]))
        assert [m.log_ns for m in actions] == episode.ticks_ns[:-1].tolist()
        np.testing.assert_array_equal(
            np.array([m.message.position for m in actions], np.float32), episode.action
        )
        np.testing.assert_allclose([m.publish_ns - m.log_ns for m in actions], 12_500_000, atol=10)


def test_rewards_are_stamped_with_what_they_judge(bags: list[BagReader]) -> None:
    for bag, episode in zip(bags, given_episodes(), strict=True):
        rewards = list(bag.decoded(["reward"]))
        assert [m.log_ns for m in rewards] == episode.ticks_ns[1:].tolist()
        assert list(rewards[0].message.name) == ["total", "success", "terminated"]
        values = np.array([m.message.position for m in rewards])
        np.testing.assert_array_equal(values[:, 0].astype(np.float32), episode.rewards)
        assert values[:-1, 1:].sum() == 0
        assert values[-1, 1:].tolist() == [float(episode.terminated)] * 2


def test_pictures_come_back_within_the_loss_of_the_video(bags: list[BagReader]) -> None:
    for bag, episode in zip(bags, given_episodes(), strict=True):
        frames = list(bag.decoded(["camera/image_raw"]))
        assert len(frames) == len(episode)
        for frame, truth in zip(frames, episode.observations["camera/image_raw"], strict=False):
            got = frame.message.data.reshape(*aligned_episodes.CAMERA, 3)
            assert psnr(got, truth) > 30
        # The next picture is another one: a picture more or less would show.
        others = episode.observations["camera/image_raw"][1:]
        assert psnr(frames[0].message.data.reshape(others[0].shape), others[0]) < 25


def test_what_has_no_place_in_a_bag_is_kept_by_its_name(bags: list[BagReader]) -> None:
    assert set(bags[0].types) == {
        "camera/image_raw",
        "joint_states",
        "lerobot/gap",
        "lerobot/proposed_action",
        "perception/ages",
        "perception/block/pose",
        "policy/action",
        "reward",
    }
    proposed = np.array(
        [m.message.position for m in bags[0].decoded(["lerobot/proposed_action"])], np.float32
    )
    np.testing.assert_array_equal(proposed, given_episodes()[0].proposed)


def test_an_observation_that_was_held_is_one_message(tmp_path: Path) -> None:
    episode = aligned_episodes.episode(steps=4)
    held = (episode.ticks_ns - episode.ticks_ns[0]) / 1e9
    ages = {**episode.ages, "perception/block/pose": held}
    export(tmp_path / "d", [replace(episode, ages=ages)])
    [bag] = import_lerobot(tmp_path / "d", tmp_path / "bags")
    assert BagReader(bag).counts["perception/block/pose"] == 1


def test_pictures_of_odd_size_are_written_too(tmp_path: Path) -> None:
    episode = aligned_episodes.episode(steps=2)
    odd = {"camera/image_raw": episode.observations["camera/image_raw"][:, :95, :127]}
    episode = replace(episode, observations={**episode.observations, **odd})
    export(tmp_path / "d", [episode])
    [bag] = import_lerobot(tmp_path / "d", tmp_path / "bags")
    frame = next(BagReader(bag).decoded(["camera/image_raw"])).message
    assert psnr(frame.data.reshape(95, 127, 3), odd["camera/image_raw"][0]) > 30


def test_episodes_of_one_step(tmp_path: Path) -> None:
    episodes = [aligned_episodes.episode(i, steps=1) for i in range(4)]
    assert export(tmp_path / "d", episodes) == LeRobotExport(4, 4)
    bags = [BagReader(path) for path in import_lerobot(tmp_path / "d", tmp_path / "bags")]
    for bag, episode in zip(bags, episodes, strict=True):
        [frame] = bag.decoded(["camera/image_raw"])
        got = frame.message.data.reshape(*aligned_episodes.CAMERA, 3)
        assert psnr(got, episode.observations["camera/image_raw"][0]) > 30


@pytest.mark.parametrize("limit", ["DATA_MEGABYTES", "VIDEO_MEGABYTES"])
def test_files_of_a_limited_size_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(layout, limit, 1e-6)
    monkeypatch.setattr(layout, "FILES_PER_CHUNK", 2)
    episodes = [aligned_episodes.episode(i, steps=40) for i in range(3)]
    export(tmp_path / "d", episodes)
    kind = "data" if limit.startswith("DATA") else "videos/observation.images.camera"
    files = sorted(
        p.relative_to(tmp_path / "d" / kind) for p in (tmp_path / "d" / kind).rglob("f*")
    )
    assert [f.with_suffix("") for f in files] == [
        Path("chunk-000/file-000"),
        Path("chunk-000/file-001"),
        Path("chunk-001/file-000"),
    ]
    bags = [BagReader(path) for path in import_lerobot(tmp_path / "d", tmp_path / "bags")]
    for bag, episode in zip(bags, episodes, strict=True):
        first = next(bag.decoded(["camera/image_raw"])).message.data
        truth = episode.observations["camera/image_raw"][0]
        assert psnr(first.reshape(truth.shape), truth) > 30
        assert [m.log_ns for m in bag.messages(["policy/action"])] == episode.ticks_ns[:-1].tolist()


def test_chosen_episodes_and_progress(dataset: Path, tmp_path: Path) -> None:
    told: list[int] = []
    [bag] = import_lerobot(dataset, tmp_path, episodes=[1], progress=told.append)
    assert bag.name == "episode_000001"
    assert told == [1]
    assert BagReader(bag).episode.episode == 1
    with pytest.raises(UserError, match="episode_000001 exists already"):
        import_lerobot(dataset, tmp_path)
    with pytest.raises(UserError, match="has no episode 7: it has 0 to 1"):
        import_lerobot(dataset, tmp_path, episodes=[7])


def test_a_foreign_data_set_has_its_own_clock(dataset: Path, tmp_path: Path) -> None:
    (copy := tmp_path / "copy").mkdir()
    for file in dataset.rglob("*"):
        if file.is_file() and file.name != "rl_robot.json":
            target = copy / file.relative_to(dataset)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    info = json.loads((copy / "meta/info.json").read_text())
    for key in ("tick_ns", "observation.ages", "latency", "next.truncated"):
        del info["features"][key]
    (copy / "meta/info.json").write_text(json.dumps(info))
    bags = [BagReader(bag) for bag in import_lerobot(copy, tmp_path / "bags")]
    stamps = [m.log_ns for m in bags[1].messages(["joint_states"])]
    assert stamps == [1_600_000_000 + i * 100_000_000 for i in range(4)]
    assert [bag.episode.outcome for bag in bags] == ["success", "truncated"]
    assert (bags[0].episode.task, bags[0].episode.robot) == ("Lift the block", "arm")
    assert bags[0].episode.extra["role"] == "demonstration"
    assert bags[0].types["perception/block/pose"] == "sensor_msgs/msg/JointState"


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    values[3, 1] = np.nan
    whole = column_statistics(values[:, ::2])
    parts = combine(column_statistics(values[:20, ::2]), column_statistics(values[20:, ::2]))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(parts[name], whole[name])
    assert np.isfinite(column_statistics(values)["mean"]).all()
    assert column_statistics(np.full((4, 1), np.nan))["std"].tolist() == [0.0]


def test_episodes_that_differ_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    episode = aligned_episodes.episode()
    other = replace(episode, action_names=("a", "b", "c", "d"), origin="runs/b/episode_3")
    with pytest.raises(UserError, match=r"runs/b/episode_3: its action is .*\(a, b, c, d\)"):
        export(tmp_path / "d", [episode, other])
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_rate_is_refused_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its ticks are 0\.\d+ s apart, not 1/30 s: give fps=\d"):
        export(tmp_path / "d", [aligned_episodes.episode()], fps=30)
    with pytest.raises(UserError, match="fps is nan"):
        export(tmp_path / "d", [aligned_episodes.episode()], fps=float("nan"))


def test_episodes_without_steps_are_named(tmp_path: Path) -> None:
    empty = aligned_episodes.episode(1, steps=0, outcome="broken")
    done = export(tmp_path / "d", [aligned_episodes.episode(), empty])
    assert done == LeRobotExport(1, 6, ("runs/a/episodes/episode_000001",))
    with pytest.raises(UserError, match="no episode with a step"):
        export(tmp_path / "e", [empty])


def test_what_cannot_be_a_feature_is_named(tmp_path: Path) -> None:
    episode = aligned_episodes.episode()
    cube = replace(episode, observations={"depth": np.zeros((7, 4, 4), np.float32)}, ages={})
    with pytest.raises(UserError, match=r"observation depth has the shape \(4, 4\)"):
        export(tmp_path / "d", [cube])
    with pytest.raises(UserError, match="nothing has no components"):
        export(
            tmp_path / "d",
            [replace(episode, observations={"nothing": np.zeros((7, 0), np.float32)}, ages={})],
        )
    with pytest.raises(UserError, match="no vector observation torque: one of joint_states, perc"):
        export(tmp_path / "d", [episode], state="torque")
    twice = {"a/b": np.zeros((7, 1), np.float32), "a.b": np.zeros((7, 1), np.float32)}
    with pytest.raises(UserError, match=r"a second feature observation\.a\.b"):
        export(tmp_path / "d", [replace(episode, observations=twice, ages={})])


def test_without_the_libraries_one_line_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (
        lambda: export(tmp_path / "d", []),
        lambda: import_lerobot(tmp_path, tmp_path / "bags"),
    ):
        with pytest.raises(UserError, match=r"pip install av pyarrow"):
            call()


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    for file in dataset.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(dataset)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return folder


EMPTY = {"dtype": "video", "shape": [3, 96, 128], "names": []}
INFO = {
    "version": (["codebase_version"], "v2.1", r"the version is v2\.1, and only v3\.0 is read"),
    "fps": (["fps"], 0, "fps is 0"),
    "path": (["data_path"], "../../{chunk_index}", "and only 'data/chunk"),
    "name": (["features", "../x"], {"dtype": "bool", "shape": [1]}, "is no name for a feature"),
    "type": (["features", "action", "dtype"], "object", "of the unknown type 'object'"),
    "shape": (["features", "action", "shape"], [-1], "action is described wrongly"),
    "size": (["features", "action", "shape"], [1 << 19, 4], "too many"),
    "wrong size": (["features", "action", "shape"], [5], r"action does not hold 5 numbers"),
    "missing column": (["features", "x"], {"dtype": "bool", "shape": [1]}, "column x is missing"),
    "picture": (["features", "observation.images.camera", "shape"], [9, 9, 3], "info.json says"),
    "no names": (["features", "observation.images.camera"], EMPTY, "has the shape .*not .height"),
    "depth": (["features", "observation.images.camera", "shape"], [96, 128, 1], "not .height"),
    "index": (["features", "timestamp", "dtype"], "cheese", "of the unknown type 'cheese'"),
    "topic": (["features", "joint_states"], {"dtype": "bool", "shape": [1]}, "is missing"),
}


@pytest.mark.parametrize("case", INFO)
def test_what_info_says_is_checked(copy: Path, tmp_path: Path, case: str) -> None:
    where, value, problem = INFO[case]
    info = json.loads((copy / "meta/info.json").read_text())
    table = info
    for key in where[:-1]:
        table = table[key]
    table[where[-1]] = value
    (copy / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=problem):
        import_lerobot(copy, tmp_path / "bags")
    assert not list((tmp_path / "bags").glob("*"))


def test_the_table_of_episodes_is_checked(copy: Path, tmp_path: Path) -> None:
    path = copy / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    for change, problem in (
        ({"length": 5}, "episode 0 has 6 rows, its description says 5"),
        ({"length": 1 << 40}, "described wrongly"),
        ({"data/file_index": 7}, r"no table .*file-007\.parquet"),
        ({"episode_index": 3}, "episode 0 is missing"),
        ({"videos/observation.images.camera/from_timestamp": float("nan")}, "described wrongly"),
        ({"videos/observation.images.camera/from_timestamp": 9.0}, "no picture at 9.000 s"),
    ):
        pq.write_table(pa.Table.from_pylist([rows[0] | change, rows[1]]), path)
        with pytest.raises(UserError, match=problem):
            import_lerobot(
                copy, tmp_path / "bags", episodes=[0, 1] if "episode_i" in str(change) else None
            )
    assert not list((tmp_path / "bags").glob("*"))


def test_a_table_of_endless_rows_is_not_read_to_its_end(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy / "data/chunk-000/file-000.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.take([0] * 3000), path)
    monkeypatch.setattr(description, "_ROWS", 2000)
    with pytest.raises(UserError, match="episode 0 has more than 2000 rows"):
        import_lerobot(copy, tmp_path / "bags")


@pytest.mark.parametrize(
    "file",
    [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/rl_robot.json",
        "videos/observation.images.camera/chunk-000/file-000.mp4",
    ],
)
def test_a_file_that_is_cut_short_or_missing_is_named(
    copy: Path, tmp_path: Path, file: str
) -> None:
    contents = (copy / file).read_bytes()
    for part in (0.0, 0.3, 0.9):
        (copy / file).write_bytes(contents[: int(part * len(contents))])
        with pytest.raises(UserError):
            import_lerobot(copy, tmp_path / "bags")
    assert not list((tmp_path / "bags").glob("*"))


@pytest.mark.parametrize("table", ["data", "meta/episodes"])
def test_a_flipped_bit_in_a_table_raises_nothing_else(
    copy: Path, tmp_path: Path, table: str
) -> None:
    path = copy / table / "chunk-000/file-000.parquet"
    contents = path.read_bytes()
    chance = random.Random(0)
    refused = 0
    for i in range(30):
        flipped = bytearray(contents)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            import_lerobot(copy, tmp_path / f"bags{i}", episodes=[1])
        except UserError:
            refused += 1
    assert refused > 5


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no LeRobotDataset: it has no meta/info\.json"):
        import_lerobot(tmp_path, tmp_path / "bags")
