"""Aligned episodes that are not regular: late captures, gaps, unknown proposals and rewards."""

import cv2
import numpy as np
import synthetic

from rl_robot.experience.aligned import AlignedEpisode

FPS = 10.0
JOINTS = tuple(synthetic.JOINTS)
ACTIONS = ("x", "y", "z", "gripper")
CAMERA = (96, 128)


def picture(height: int, width: int, tick: int) -> np.ndarray:
    """A smooth picture that differs from tick to tick."""
    rows, columns = np.mgrid[0:height, 0:width]
    shade = np.stack([rows + 21 * tick, columns + 34 * tick, rows + columns], axis=-1) % 200 + 20
    canvas = cv2.blur(shade.astype(np.uint8), (5, 5))
    cv2.circle(canvas, ((10 + 9 * tick) % width, height // 2), 8, (230, 40, 30), -1)
    return canvas


def episode(index: int = 0, steps: int = 6, outcome: str = "success") -> AlignedEpisode:
    """An episode of `steps` steps, with a camera that is late now and then."""
    random = np.random.default_rng(index)
    start = 1_700_000_000_000_000_000 + index * 60_000_000_000
    jitter = random.integers(-900_000, 900_000, steps + 1)
    ticks = start + np.arange(steps + 1, dtype=np.int64) * 100_000_000 + jitter
    camera_age = np.where(np.arange(steps + 1) % 3 == 2, 0.04, 0.0)
    pose_age = np.minimum(np.arange(steps + 1), 2) * 0.01
    proposed = random.normal(size=(steps, len(ACTIONS))).astype(np.float32)
    proposed[1:2] = np.nan
    rewards = np.full(steps, -0.1, np.float32)
    if steps > 2:
        rewards[1] = np.nan
    return AlignedEpisode(
        ticks_ns=ticks,
        observations={
            "joint_states": random.normal(size=(steps + 1, len(JOINTS))).astype(np.float32),
            "perception/block/pose": random.normal(size=(steps + 1, 3)).astype(np.float32),
            "camera/image_raw": np.stack([picture(*CAMERA, t + index) for t in range(steps + 1)]),
        },
        components={"joint_states": JOINTS, "perception/block/pose": ("x", "y", "z")},
        ages={
            "joint_states": np.full(steps + 1, 0.002),
            "perception/block/pose": pose_age,
            "camera/image_raw": camera_age,
        },
        action=random.normal(size=(steps, len(ACTIONS))).astype(np.float32),
        proposed=proposed,
        action_names=ACTIONS,
        rewards=rewards,
        latencies=np.full(steps, 0.0125, np.float32),
        terminated=outcome in ("success", "terminated"),
        truncated=outcome not in ("success", "terminated"),
        gaps=(steps - 1,) if steps > 3 else (),
        counts={"held": 3},
        metadata=synthetic.metadata(index, outcome, steps, extra={"role": "demonstration"}),
        origin=f"runs/a/episodes/episode_{index:06d}",
    )


def same(first: AlignedEpisode, second: AlignedEpisode) -> None:
    """Assert that two episodes are equal, value by value and type by type."""
    for name in ("ticks_ns", "action", "proposed", "rewards", "latencies"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == getattr(second, name).dtype
    for name in ("observations", "ages"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert list(ours) == list(theirs)
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
            assert ours[key].dtype == theirs[key].dtype
    for name in ("action_names", "terminated", "truncated", "gaps", "metadata", "origin"):
        assert getattr(first, name) == getattr(second, name)
    assert dict(first.components) == dict(second.components)
    assert dict(first.counts) == dict(second.counts)
