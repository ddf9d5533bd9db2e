"""An episode that went to a LeRobotDataset and came back as a bag aligns to what it was."""

from pathlib import Path

import aligned_episodes
import numpy as np
import pytest

from rl_robot.exchange import export_lerobot, import_lerobot
from rl_robot.experience.aligning import align
from rl_robot.experience.bag_map import BagMap, Source

MAP = BagMap(
    ticks="/perception/ages",
    observations={
        "joint_states": Source("/joint_states"),
        "perception/block/pose": Source("/perception/block/pose"),
        "camera/image_raw": Source("/camera/image_raw", size=aligned_episodes.CAMERA[::-1]),
    },
    action=Source("/policy/action"),
    proposed=Source("/lerobot/proposed_action"),
    reward=Source("/reward", names=("total",)),
)


@pytest.mark.parametrize("keep_last", [True, False])
def test_a_bag_made_of_an_export_aligns_to_the_episode(tmp_path: Path, keep_last: bool) -> None:
    before = aligned_episodes.episode(steps=7)
    export_lerobot(
        [before],
        tmp_path / "dataset",
        task="Lift the block",
        fps=aligned_episodes.FPS,
        robot_type="arm",
        keep_last=keep_last,
    )
    [bag] = import_lerobot(tmp_path / "dataset", tmp_path / "bags")
    [after] = align(bag, MAP)
    rows = slice(None) if keep_last else slice(-1)  # the last observation is not there
    np.testing.assert_array_equal(after.ticks_ns, before.ticks_ns)
    np.testing.assert_array_equal(after.action, before.action)
    assert after.action_names == before.action_names
    for name in ("joint_states", "perception/block/pose"):
        np.testing.assert_array_equal(
            after.observations[name][rows], before.observations[name][rows]
        )
        assert after.components[name] == before.components[name]
    for name in before.ages:
        # Ages travel as float32.
        np.testing.assert_allclose(after.ages[name][rows], before.ages[name][rows], atol=1e-8)
    pictures = after.observations["camera/image_raw"].astype(int)[rows]
    assert np.abs(pictures - before.observations["camera/image_raw"][rows]).mean() < 6
    known = np.isfinite(before.rewards)
    np.testing.assert_array_equal(after.rewards[known], before.rewards[known])
    known = np.isfinite(before.proposed).all(axis=1)
    np.testing.assert_array_equal(after.proposed[known], before.proposed[known])
    np.testing.assert_allclose(after.latencies, before.latencies, atol=1e-6)
    assert (after.terminated, after.truncated) == (before.terminated, before.truncated)
    assert after.metadata == before.metadata
