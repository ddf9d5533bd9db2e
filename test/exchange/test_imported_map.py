"""An import says how its bags are to be aligned, and that says what was exported."""

from pathlib import Path

import aligned_episodes
import numpy as np
import pytest

from rl_robot.bags import BagReader
from rl_robot.cli import main
from rl_robot.exchange import export_lerobot
from rl_robot.exchange.imported_map import map_of_import
from rl_robot.experience.aligning import align
from rl_robot.experience.bag_map import as_yaml, load_bag_map


def test_the_map_of_an_import_gives_back_the_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = aligned_episodes.episode(steps=6)
    export_lerobot(
        [before],
        tmp_path / "dataset",
        task="Lift",
        fps=aligned_episodes.FPS,
        robot_type="arm",
        keep_last=True,
    )
    out = tmp_path / "bags"
    assert main(["bag", "import", str(tmp_path / "dataset"), "--out", str(out)]) == 0
    assert f"{out / 'map.yaml'}: what their topics mean" in capsys.readouterr().out
    bag_map = load_bag_map(out / "map.yaml")
    assert bag_map == map_of_import(BagReader(out / "episode_000000"))
    [after] = align(out / "episode_000000", bag_map)
    np.testing.assert_array_equal(after.ticks_ns, before.ticks_ns)
    np.testing.assert_array_equal(after.action, before.action)
    np.testing.assert_array_equal(after.rewards, before.rewards)
    assert set(after.observations) >= {"joint_states", "camera"}
    assert after.observations["camera"].shape == before.observations["camera/image_raw"].shape


def test_a_map_that_was_changed_by_hand_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_lerobot(
        [aligned_episodes.episode(steps=4), aligned_episodes.episode(steps=5)],
        tmp_path / "dataset",
        task="Lift",
        fps=aligned_episodes.FPS,
        robot_type="arm",
    )
    out = tmp_path / "bags"
    load = ["bag", "import", str(tmp_path / "dataset"), "--out", str(out), "--episodes"]
    assert main([*load, "0"]) == 0
    written = (out / "map.yaml").read_text()
    (out / "map.yaml").write_text(written + "# mine\n")
    capsys.readouterr()
    assert main([*load, "1"]) == 0
    assert "says something else already, and is kept" in capsys.readouterr().out
    assert (out / "map.yaml").read_text() == written + "# mine\n"
    assert (out / "episode_000001").is_dir()


def test_a_map_survives_its_yaml(tmp_path: Path) -> None:
    text = """
ticks: {period: 0.05}
observations:
  joints: {topic: /joint_states, fields: [position], names: [a, b], scale: [2.0, 0.5]}
  front: {topic: /camera, size: [32, 24], offset: -0.25, max_age: 0.5, stamp: log}
action: {topic: /cmd_vel, scale: 5}
reward: {topic: /reward, names: [total]}
"""
    (tmp_path / "a.yaml").write_text(text)
    first = load_bag_map(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text(as_yaml(first))
    assert load_bag_map(tmp_path / "b.yaml") == first
