"""Control steps out of bags: what the environment gave must come back, whatever was lost."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import LATENCY_NS, Recording, point, record

from rl_robot.bags import typestore
from rl_robot.bags.cdr import numbers_bytes
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.errors import UserError
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task
from rl_robot.training.rebuild import TransitionReader, read_transitions

READERS = {
    name: TransitionReader(load_task(name), load_robot("arm")) for name in ("grasp", "reach")
}


@pytest.fixture(scope="module", params=["grasp", "reach"])
def recording(request: pytest.FixtureRequest) -> Recording:
    return record(RobotEnv(request.param, perception="truth"), 3)


@pytest.fixture(scope="module")
def reach() -> Recording:
    return record(RobotEnv("reach", perception="truth"), 5, most_steps=12)


def read(recording: Recording, path: Path) -> EpisodeTransitions:
    return READERS[recording.metadata.task].read(path)


def test_a_bag_gives_what_the_environment_gave(recording: Recording, tmp_path: Path) -> None:
    episode = read(recording, recording.write(tmp_path / "bag"))
    np.testing.assert_array_equal(episode.observations, recording.observations)
    np.testing.assert_array_equal(episode.proposed, recording.proposed)
    np.testing.assert_array_equal(episode.executed, recording.executed)
    np.testing.assert_allclose(episode.rewards, recording.rewards, rtol=1e-6)
    assert episode.terminated == (recording.metadata.outcome == "success")
    assert episode.gaps == ()
    assert episode.steps == len(episode) == recording.metadata.steps
    assert episode.contiguous() == [episode]
    assert episode.metadata == recording.metadata
    np.testing.assert_allclose(episode.latencies, LATENCY_NS * 1e-9, atol=1e-6)
    assert not episode.ages.any()


def test_one_reader_serves_many_bags(recording: Recording, tmp_path: Path) -> None:
    path = recording.write(tmp_path / "bag")
    first, again = read(recording, path), read(recording, path)
    np.testing.assert_array_equal(first.observations, again.observations)


def test_the_order_of_arrival_does_not_matter(recording: Recording, tmp_path: Path) -> None:
    messages = list(recording.messages)
    np.random.default_rng(0).shuffle(messages)  # type: ignore[arg-type]
    shuffled = read(recording, recording.write(tmp_path / "shuffled", messages))
    np.testing.assert_array_equal(shuffled.observations, recording.observations)
    np.testing.assert_array_equal(shuffled.executed, recording.executed)


@pytest.mark.parametrize(
    ("outcome", "terminal"),
    [("success", True), ("terminated", True), ("truncated", False), ("broken", False)],
)
def test_only_a_true_end_is_terminal(
    reach: Recording, tmp_path: Path, outcome: str, terminal: bool
) -> None:
    ended = replace(reach, metadata=replace(reach.metadata, outcome=outcome))
    assert read(ended, ended.write(tmp_path / "bag")).terminated is terminal


@given(data=st.data())
def test_what_is_missing_makes_gaps_and_nothing_else(
    reach: Recording, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Ticks and verdicts are lost at will: what remains are steps between neighbouring ticks."""
    stamps = [m.stamp_ns for m in reach.messages if m.topic == "perception/ages"]
    lost = st.sets(st.sampled_from(stamps), max_size=4)
    unseen, unjudged = data.draw(lost), data.draw(lost)
    kept = [
        message
        for message in reach.messages
        if not (message.topic == "perception/ages" and message.stamp_ns in unseen)
        and not (message.topic == "reward" and message.stamp_ns in unjudged)
    ]
    path = reach.write(tmp_path_factory.mktemp("lost") / "bag", kept)
    ticks = [stamp for stamp in stamps if stamp not in unseen]
    steps = [
        index
        for index, (one, following) in enumerate(pairwise(stamps))
        if not {one, following} & unseen and following not in unjudged
    ]
    episode = read(reach, path)
    assert len(episode) == len(ticks) - 1
    assert episode.steps == len(steps)
    parts = episode.contiguous()
    assert sum(len(part) for part in parts) == len(steps)
    rewards = np.concatenate([part.rewards for part in parts]) if parts else np.zeros(0)
    np.testing.assert_allclose(rewards, [reach.rewards[step] for step in steps], rtol=1e-6)
    assert all(np.isfinite(part.executed).all() for part in parts)
    assert not any(part.terminated for part in parts[:-1])
    for part in parts:
        assert part.gaps == ()


def test_a_hold_is_a_step_with_what_was_executed(reach: Recording, tmp_path: Path) -> None:
    """Safety held in the fifth period: the arm stood still, whatever the policy had asked for."""
    held = replace(reach, messages=[])
    previous: np.ndarray | None = None
    for message in reach.messages:
        if message.topic == "safety/command":
            count = sum(m.topic == "safety/command" for m in held.messages)
            if count == 4:
                assert previous is not None
                names = list(load_robot("arm").joint_names)
                held.say(
                    "safety/command", message.stamp_ns, joint_names=names, points=[point(previous)]
                )
                continue
            previous = _end_of(message.raw)
        held.messages.append(message)
    episode = read(held, held.write(tmp_path / "bag"))
    np.testing.assert_allclose(episode.executed[4, :4], 0.0, atol=1e-6)
    np.testing.assert_array_equal(episode.proposed[4], reach.proposed[4])
    np.testing.assert_array_equal(episode.executed[:4], reach.executed[:4])


def _end_of(raw: bytes) -> np.ndarray:
    message = typestore().deserialize_cdr(raw, "trajectory_msgs/msg/JointTrajectory")
    return np.array(message.points[-1].positions)


def test_the_age_of_what_is_hidden_grows(tmp_path: Path) -> None:
    grasp = record(RobotEnv("grasp", perception="truth"), 1, most_steps=6)
    seen = [m for m in grasp.messages if m.topic == "perception/block/pose"]
    hidden = [message for message in grasp.messages if message not in seen[3:]]
    episode = read(grasp, grasp.write(tmp_path / "bag", hidden))
    np.testing.assert_allclose(episode.ages, [0, 0, 0, 0.1, 0.2, 0.3], atol=1e-6)


def test_a_policy_that_said_nothing_proposed_nothing(reach: Recording, tmp_path: Path) -> None:
    silent = [message for message in reach.messages if message.topic != "policy/action"]
    episode = read(reach, reach.write(tmp_path / "bag", silent))
    assert np.isnan(episode.proposed).all()
    np.testing.assert_array_equal(episode.executed, reach.executed)


def test_ticks_before_the_first_joint_state_are_left_out(reach: Recording, tmp_path: Path) -> None:
    joints = [m for m in reach.messages if m.topic == "joint_states"]
    late = [message for message in reach.messages if message not in joints[:2]]
    episode = read(reach, reach.write(tmp_path / "bag", late))
    np.testing.assert_array_equal(episode.observations, reach.observations[2:])
    np.testing.assert_array_equal(episode.executed, reach.executed[2:])


def test_another_task_is_refused(reach: Recording, tmp_path: Path) -> None:
    path = reach.write(tmp_path / "bag")
    with pytest.raises(UserError, match="task reach on robot arm, this is task grasp on robot arm"):
        READERS["grasp"].read(path)


def test_an_empty_episode_is_refused(reach: Recording, tmp_path: Path) -> None:
    path = reach.write(tmp_path / "bag", reach.messages[:3])
    with pytest.raises(UserError, match="bag holds no episode to learn from: 1 whole observation"):
        read(reach, path)


def test_a_damaged_bag_is_named(reach: Recording, tmp_path: Path) -> None:
    path = reach.write(tmp_path / "bag")
    file = path / "bag.mcap"
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)
    with pytest.raises(UserError, match=r"bag\.mcap is damaged"):
        read_transitions(path, load_task("reach"), load_robot("arm"))


def test_arrays_that_do_not_go_together_are_refused(reach: Recording) -> None:
    with pytest.raises(ValueError, match="3 rewards do not go with"):
        EpisodeTransitions(
            observations=np.zeros((3, 4), np.float32),
            proposed=np.zeros((3, 5), np.float32),
            executed=np.zeros((3, 5), np.float32),
            rewards=np.zeros(3, np.float32),
            terminated=False,
        )


def test_ticks_before_an_object_was_seen_are_left_out_and_what_was_executed_is_not(
    tmp_path: Path,
) -> None:
    """Perception then names no object in its ages; the actions since are part of the history."""
    recording = record(RobotEnv("grasp", perception="truth"), 3, most_steps=8)
    unseen = [m.stamp_ns for m in recording.messages if m.topic == "perception/ages"][:2]
    messages = [
        replace(m, raw=numbers_bytes({}, m.stamp_ns))
        if m.topic == "perception/ages" and m.stamp_ns in unseen
        else m
        for m in recording.messages
        if m.topic != "perception/block/pose" or m.stamp_ns not in unseen
    ]
    episode = read(recording, recording.write(tmp_path / "bag", messages))
    np.testing.assert_array_equal(episode.observations, recording.observations[2:])
    np.testing.assert_array_equal(episode.executed, recording.executed[2:])
