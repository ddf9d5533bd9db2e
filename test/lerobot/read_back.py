"""lerobot's own library reads what we export, and we read what it writes; `make lerobot-test`.

Not among the usual tests (its name begins otherwise): it needs an environment of its own.
"""

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aligned_episodes
import numpy as np
import pytest
import synthetic

from rl_robot.bags import BagReader
from rl_robot.exchange import export_lerobot, import_lerobot
from rl_robot.experience.aligned import AlignedEpisode

HERE = Path(__file__).parent
PYTHON = HERE.parent.parent / ".venv-lerobot" / "bin" / "python"
STEPS = (20, 13, 1)
OUTCOMES = ("success", "truncated", "broken")
STATE = "joint_states"
CAMERAS = {
    "observation.images.camera": "camera/image_raw",
    "observation.images.scene": "scene/image_raw",
}


def lerobot(*arguments: str | Path, cache: Path) -> None:
    """Run lerobot's side, without network."""
    environment = os.environ | {
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [PYTHON, HERE / "lerobot_side.py", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.mean((first.astype(float) - second.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def exported_episodes() -> list[AlignedEpisode]:
    """Episodes with two cameras: one of smooth pictures, one of a scene with a sensor's noise."""
    episodes = []
    for index, (steps, outcome) in enumerate(zip(STEPS, OUTCOMES, strict=True)):
        episode = aligned_episodes.episode(index, steps, outcome)
        scene = [synthetic.frame(t / steps, grasped=not index) for t in range(steps + 1)]
        observations = {**episode.observations, "scene/image_raw": np.stack(scene)}
        episodes.append(replace(episode, observations=observations))
    return episodes


@dataclass(frozen=True)
class Seen:
    """What lerobot read: arrays by name, and what it says of the data set."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]

    def of(self, key: str) -> list[np.ndarray]:
        """A feature's rows, episode by episode."""
        return np.split(self.arrays[f"rows/{key}"], np.cumsum(STEPS)[:-1])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("exported")
    export_lerobot(
        exported_episodes(), folder / "dataset", task="Lift the block", fps=10, robot_type="arm"
    )
    lerobot("read", folder / "dataset", folder / "arrays.npz", cache=folder / "cache")
    with np.load(folder / "arrays.npz", allow_pickle=False) as loaded:
        arrays = {key: loaded[key] for key in loaded.files}
    return Seen(arrays, json.loads(str(arrays.pop("about"))))


def test_it_says_what_it_is(seen: Seen) -> None:
    about = seen.about
    assert (about["fps"], about["robot_type"], about["episodes"]) == (10, "arm", 3)
    features = about["features"]
    assert features["observation.state"]["names"] == list(aligned_episodes.JOINTS)
    assert features["observation.perception.block.pose"]["names"] == ["x", "y", "z"]
    assert features["action"]["names"] == list(aligned_episodes.ACTIONS)
    assert features["observation.images.scene"]["shape"] == [240, 320, 3]
    assert set(seen.arrays["rows/task"]) == {"Lift the block"}
    assert about["batch"]["observation.images.scene"] == [4, 3, 240, 320]
    assert about["batch"]["action"] == [4, 4]


def test_every_number_is_what_was_exported(seen: Seen) -> None:
    for index, episode in enumerate(exported_episodes()):
        rows = len(episode)
        expected = {
            "observation.state": episode.observations[STATE][:-1],
            "observation.perception.block.pose": episode.observations["perception/block/pose"][:-1],
            "observation.ages": np.stack([a[:-1] for a in episode.ages.values()], 1).astype("f4"),
            "action": episode.action,
            "proposed_action": episode.proposed,
            "tick_ns": episode.ticks_ns[:-1],
            "next.reward": episode.rewards,
            "latency": episode.latencies,
            "next.done": np.arange(rows) == rows - 1,
            "next.truncated": (np.arange(rows) == rows - 1) & episode.truncated,
            "next.success": (np.arange(rows) == rows - 1) & (OUTCOMES[index] == "success"),
            "gap": np.isin(np.arange(rows), episode.gaps),
            "frame_index": np.arange(rows),
            "episode_index": np.full(rows, index),
            "timestamp": (np.arange(rows) / 10).astype("f4"),
        }
        for key, values in expected.items():
            np.testing.assert_array_equal(seen.of(key)[index], values, err_msg=key)
            assert seen.of(key)[index].dtype == values.dtype, key


def test_every_picture_is_the_one_of_its_tick(seen: Seen) -> None:
    worst = {}
    for key, name in CAMERAS.items():
        ratios = []
        for index, episode in enumerate(exported_episodes()):
            truth = episode.observations[name]
            for row, picture in enumerate(seen.of(key)[index]):
                ratios.append(psnr(picture, truth[row]))
                if name == "camera/image_raw":  # no two of its pictures are alike
                    assert ratios[-1] > psnr(picture, truth[row + 1]) + 5
        worst[name] = min(ratios)
        print(f"{name}: PSNR {min(ratios):.1f} to {max(ratios):.1f} dB, {len(ratios)} pictures")
    assert worst["camera/image_raw"] > 30
    assert worst["scene/image_raw"] > 30


def test_windows_in_time_are_those_of_the_episode(seen: Seen) -> None:
    at = 0
    for episode in exported_episodes():
        rows = len(episode)
        for row in range(rows):
            wanted = [row - 1, row, row + 1]
            inside = np.clip(wanted, 0, rows - 1)
            for key, values in (
                ("observation.state", episode.observations[STATE]),
                ("action", episode.action),
            ):
                np.testing.assert_array_equal(seen.arrays[f"windows/{key}"][at], values[inside])
                pad = seen.arrays[f"windows/{key}_is_pad"][at]
                np.testing.assert_array_equal(pad, inside != wanted)
            pictures = seen.arrays["windows/observation.images.camera"][at]
            for picture, tick in zip(pictures, inside, strict=True):
                assert psnr(picture, episode.observations["camera/image_raw"][tick]) > 30
            at += 1


def test_statistics_are_those_of_the_data(seen: Seen) -> None:
    states = np.concatenate([e.observations[STATE][:-1] for e in exported_episodes()])
    np.testing.assert_allclose(seen.about["mean"]["observation.state"], states.mean(0), rtol=1e-5)
    assert np.shape(seen.about["mean"]["observation.images.scene"]) == (3, 1, 1)


@dataclass(frozen=True)
class Written:
    """What lerobot was given to write, and the bags that it became."""

    given: dict[str, np.ndarray]
    bags: list[BagReader]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    random = np.random.default_rng(0)
    given: dict[str, np.ndarray] = {}
    for index, rows in enumerate((9, 14)):
        camera = np.stack([aligned_episodes.picture(96, 128, t) for t in range(rows)])
        given |= {
            f"{index}/state": random.normal(size=(rows, 3)).astype(np.float32),
            f"{index}/force": random.normal(size=(rows, 2, 2)).astype(np.float32),
            f"{index}/top": camera,
            f"{index}/wrist": camera[:, ::-1],
            f"{index}/action": random.normal(size=(rows, 2)).astype(np.float32),
            f"{index}/reward": random.normal(size=(rows, 1)).astype(np.float32),
            f"{index}/success": (np.arange(rows) == rows - 1)[:, None] & (index == 0),
        }
    np.savez(folder / "arrays.npz", **given)
    lerobot("write", folder / "arrays.npz", folder / "dataset", cache=folder / "cache")
    paths = import_lerobot(folder / "dataset", folder / "bags")
    return Written(given, [BagReader(path) for path in paths])


def test_their_numbers_are_in_our_bags(written: Written) -> None:
    start = 1_000_000_000
    for index, bag in enumerate(written.bags):
        given = {k.split("/")[1]: v for k, v in written.given.items() if k[0] == str(index)}
        rows = len(given["state"])
        stamps = [start + i * 50_000_000 for i in range(rows + 1)]
        for topic, values, times in (
            ("joint_states", given["state"], stamps[:-1]),
            ("force", given["force"].reshape(rows, 4), stamps[:-1]),
            ("policy/action", given["action"], stamps[:-1]),
            ("reward", np.hstack([given["reward"], given["success"]]), stamps[1:]),
        ):
            sent = list(bag.decoded([topic]))
            assert [m.log_ns for m in sent] == times, topic
            got = np.array([m.message.position for m in sent], np.float32)
            np.testing.assert_array_equal(got[:, : values.shape[1]], values, err_msg=topic)
        assert list(next(bag.decoded(["joint_states"])).message.name) == ["a", "b", "c"]
        assert list(next(bag.decoded(["policy/action"])).message.name) == ["pan", "lift"]
        notes = [m.message.data for m in bag.decoded(["lerobot/note"])]
        assert notes == [f"row {i}" for i in range(rows)]
        start += rows * 50_000_000


def test_their_pictures_are_in_our_bags(written: Written) -> None:
    for index, bag in enumerate(written.bags):
        for name, least in (("top", 25.0), ("wrist", np.inf)):
            truth = written.given[f"{index}/{name}"]
            frames = [m.message for m in bag.decoded([f"{name}/image_raw"])]
            got = np.stack([frame.data.reshape(96, 128, 3) for frame in frames])
            ratios = [psnr(a, b) for a, b in zip(got, truth, strict=True)]
            print(f"{name}: PSNR {min(ratios):.1f} dB at least")
            assert min(ratios) >= least  # theirs is AV1 at a low rate; pictures in tables are PNG


def test_what_their_episodes_were_is_kept(written: Written) -> None:
    episodes = [bag.episode for bag in written.bags]
    assert [e.task for e in episodes] == ["Push the block", "Open the drawer"]
    assert [e.outcome for e in episodes] == ["success", "truncated"]
    assert [(e.robot, e.steps) for e in episodes] == [("so101", 9), ("so101", 14)]
