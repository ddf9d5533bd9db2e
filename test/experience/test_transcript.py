"""What was said again, on the bag's clock."""

import numpy as np

from rl_robot.bags.cdr import numbers_bytes, pose_bytes, trajectory_bytes
from rl_robot.experience.playback import Span
from rl_robot.experience.transcript import Transcript
from rl_robot.robots.cartesian import Motion

START, PERIOD, LATER = 5_000_000_000, 100_000_000, 3_000_000_000
TYPES = {
    "perception/ages": "sensor_msgs/msg/JointState",
    "perception/block/pose": "geometry_msgs/msg/PoseStamped",
    "policy/action": "sensor_msgs/msg/JointState",
    "safety/command": "trajectory_msgs/msg/JointTrajectory",
    "arm/trajectory": "trajectory_msgs/msg/JointTrajectory",
}
HOLD = Motion(("a",), np.zeros(1), np.zeros((1, 1)))


def transcript() -> Transcript:
    """One tick before an episode of two steps, and its three ticks; the block is hidden at once."""
    made = Transcript(TYPES, ["arm/trajectory"])
    for step in (-1, 0, 1, 2):
        stamp, wall = START + LATER + step * PERIOD, step * 1000
        seen = min(stamp, START + LATER)
        pose = pose_bytes(seen, "base", np.zeros(3), (0.0, 0.0, 0.0, 1.0))
        # Topics come over separate connections: some of a tick are heard in another order.
        ages = numbers_bytes({"block": (stamp - seen) * 1e-9}, stamp)
        made.add("perception/ages", ages, wall + 2)
        made.add("perception/block/pose", pose, wall + 1)
        made.add("arm/trajectory", trajectory_bytes(HOLD, 0), wall + 5)
        made.add("safety/command", trajectory_bytes(HOLD, stamp), wall + 4)
        made.add("policy/action", numbers_bytes({"x": 0.5}, stamp), wall + 3)
    return made


def test_what_was_said_is_cut_and_stamped_as_a_recorder_would_have() -> None:
    said = transcript().messages(Span(START, START + 2 * PERIOD), LATER)
    steps = {
        topic: [(m.log_ns - START) / PERIOD for m in said if m.topic == topic] for topic in TYPES
    }
    assert steps == {
        "perception/ages": [0, 1, 2],
        "perception/block/pose": [0, 1, 2],
        "policy/action": [0, 1],  # at the last tick nothing is done any more
        "safety/command": [0, 1],
        "arm/trajectory": [0, 1],  # without a stamp of its own
    }


def test_what_was_said_has_its_stamps_back() -> None:
    said = transcript().messages(Span(START, START + 2 * PERIOD), LATER)
    (first, *_) = [message for message in said if message.topic == "policy/action"]
    assert first.raw == numbers_bytes({"x": 0.5}, START)
