"""Bags judged anew: what was observed stays, byte for byte, and the reward says where it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from recordings import WALL_NS, Message, Recording, record

from rl_robot.bags import BagReader, compare_bags
from rl_robot.bags.cdr import numbers_bytes, read_numbers
from rl_robot.bags.check import check
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot
from rl_robot.robots.description import Robot, load_robot
from rl_robot.tasks import Memory, Reach, Reward, load_task
from rl_robot.training.rebuild import read_transitions
from rl_robot.training.relabel import Relabeller


@dataclass(frozen=True)
class Brief(Reach):
    """Reach, judged otherwise: what counts is time, and so many steps are enough."""

    enough: int = 4
    is_success: bool = False

    def reward(self, memory: Memory, snapshot: Snapshot, action: npt.NDArray[np.float32]) -> Reward:
        memory.streak += 1
        ended = memory.streak >= self.enough
        return Reward({"steps": float(memory.streak)}, ended and self.is_success, ended)


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot("arm")


@pytest.fixture(scope="module")
def recording(robot: Robot) -> Recording:
    """An episode of reach with rewards as the node says them, which it ends with success."""
    recorded = record(RobotEnv("reach", perception="truth"), 3, policy="script")
    assert recorded.metadata.outcome == "success"
    assert len(recorded.rewards) > 5
    return recorded


@pytest.fixture(scope="module")
def relabeller(robot: Robot) -> Relabeller:
    return Relabeller(load_task("reach"), robot)


@pytest.fixture
def bag(recording: Recording, tmp_path: Path) -> Path:
    return recording.write(tmp_path / "bag")


def rewards(path: Path) -> dict[int, dict[str, float]]:
    """The rewards by their stamps."""
    return dict(read_numbers(m.raw) for m in BagReader(path).messages(["reward"]))


def contents(path: Path) -> Mapping[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_same_reward_gives_the_same_bag(
    bag: Path, recording: Recording, relabeller: Relabeller, tmp_path: Path
) -> None:
    anew = relabeller.relabel(bag, tmp_path / "anew")
    assert compare_bags(bag, anew, ignore=("reward",)) == []
    totals = [numbers["total"] for numbers in rewards(anew).values()]
    np.testing.assert_allclose(totals, recording.rewards, rtol=1e-12)
    assert rewards(anew).keys() == rewards(bag).keys()
    told = BagReader(anew).episode
    last_ns = max(rewards(anew))
    extra = {"end_ns": str(last_ns), "relabelled_from": "reach"}
    assert told == replace(recording.metadata, extra=extra)
    assert check(anew) == []


def test_what_was_said_in_full_is_said_again_exactly(
    bag: Path, relabeller: Relabeller, tmp_path: Path
) -> None:
    """Bags of the graph hold the terms too, and when the reward was published."""
    first = relabeller.relabel(bag, tmp_path / "first")
    second = relabeller.relabel(BagReader(first), tmp_path / "second")
    assert compare_bags(first, second) == []

    def sent(path: Path) -> list[tuple[str, bytes, int, int]]:
        return [(m.topic, m.raw, m.log_ns, m.publish_ns) for m in BagReader(path).messages()]

    assert sorted(sent(first)) == sorted(sent(second))
    assert BagReader(first).qos == BagReader(second).qos


def test_what_is_learnt_from_both_is_the_same(
    bag: Path, relabeller: Relabeller, robot: Robot, tmp_path: Path
) -> None:
    task = load_task("reach")
    old = read_transitions(bag, task, robot)
    new = read_transitions(relabeller.relabel(bag, tmp_path / "anew"), task, robot)
    np.testing.assert_array_equal(new.observations, old.observations)
    np.testing.assert_array_equal(new.executed, old.executed)
    np.testing.assert_allclose(new.rewards, old.rewards, rtol=1e-6)
    assert (new.terminated, new.gaps) == (old.terminated, old.gaps)


def test_the_original_is_untouched(bag: Path, relabeller: Relabeller, tmp_path: Path) -> None:
    before = contents(bag)
    relabeller.relabel(bag, tmp_path / "anew")
    assert contents(bag) == before


@pytest.mark.parametrize("is_success", [True, False])
def test_another_reward_ends_the_episode_earlier(
    bag: Path, recording: Recording, robot: Robot, tmp_path: Path, is_success: bool
) -> None:
    task = Brief(enough=4, is_success=is_success)
    anew = Relabeller(task, robot).relabel(bag, tmp_path / "anew")
    said = rewards(anew)
    assert [numbers["total"] for numbers in said.values()] == [1.0, 2.0, 3.0, 4.0]
    assert [numbers["terminated"] for numbers in said.values()] == [0, 0, 0, 1]
    assert [numbers["success"] for numbers in said.values()] == [0, 0, 0, is_success]
    told = BagReader(anew).episode
    assert told.outcome == ("success" if is_success else "terminated")
    assert told.reason == (recording.metadata.reason if is_success else "judged anew")
    assert (told.steps, told.task, told.extra["relabelled_from"]) == (4, "reach", "reach")
    end_ns = max(said)
    assert told.extra["end_ns"] == str(end_ns)
    kept = {(m.topic, m.log_ns, m.raw) for m in BagReader(anew).messages() if m.topic != "reward"}
    commands = ("policy/action", "safety/command")  # at the end nothing is executed any more
    assert kept == {
        (m.topic, m.log_ns, m.raw)
        for m in BagReader(bag).messages()
        if m.topic != "reward" and m.log_ns < end_ns + (m.topic not in commands)
    }
    assert check(anew) == []
    steps = read_transitions(anew, task, robot)
    assert len(steps) == 4
    assert steps.terminated
    assert steps.rewards.tolist() == [1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal(steps.executed, recording.executed[:4])


def test_an_end_that_the_new_task_does_not_see_was_a_cut(
    bag: Path, recording: Recording, robot: Robot, tmp_path: Path
) -> None:
    task = Brief(enough=10**6)
    anew = Relabeller(task, robot).relabel(bag, tmp_path / "anew")
    told = BagReader(anew).episode
    assert (told.outcome, told.reason) == ("truncated", "judged anew")
    assert told.steps == len(recording.rewards)
    assert not read_transitions(anew, task, robot).terminated
    assert compare_bags(bag, anew, ignore=("reward",)) == []


def test_an_end_at_the_last_tick_cuts_nothing(
    bag: Path, recording: Recording, robot: Robot, tmp_path: Path
) -> None:
    task = Brief(enough=len(recording.rewards), is_success=True)
    anew = Relabeller(task, robot).relabel(bag, tmp_path / "anew")
    assert BagReader(anew).episode.outcome == "success"
    assert compare_bags(bag, anew, ignore=("reward",)) == []


def broken_after(recording: Recording, seconds: float) -> Recording:
    """The same, broken off between two ticks: something was heard after the last one."""
    ticks = [m.stamp_ns for m in recording.messages if m.topic == "perception/ages"]
    end_ns = ticks[0] + round(seconds * 1e9)
    messages = [m for m in recording.messages if m.stamp_ns <= end_ns]
    last = next(m for m in recording.messages if m.topic == "joint_states" and m.stamp_ns > end_ns)
    later = replace(last, stamp_ns=end_ns + 1)
    told = replace(recording.metadata, outcome="broken", reason="node 'policy' died")
    return replace(recording, metadata=told, messages=[*messages, later])


def test_a_broken_episode_stays_broken_and_whole(
    recording: Recording, relabeller: Relabeller, tmp_path: Path
) -> None:
    bag = broken_after(recording, 0.55).write(tmp_path / "bag")
    anew = relabeller.relabel(bag, tmp_path / "anew")
    told = BagReader(anew).episode
    assert (told.outcome, told.reason, told.steps) == ("broken", "node 'policy' died", 5)
    assert compare_bags(bag, anew, ignore=("reward",)) == []


def test_a_broken_episode_that_the_new_task_ends_before_it_broke(
    recording: Recording, robot: Robot, tmp_path: Path
) -> None:
    bag = broken_after(recording, 0.55).write(tmp_path / "bag")
    anew = Relabeller(Brief(enough=3), robot).relabel(bag, tmp_path / "anew")
    assert BagReader(anew).episode.outcome == "terminated"
    assert len(rewards(anew)) == 3


def test_what_was_beyond_the_end_is_cut_with_the_rest(
    recording: Recording, robot: Robot, tmp_path: Path
) -> None:
    """A recorder counts in `beyond_end` what it kept after an end that came too late."""
    beyond = replace(recording.metadata, extra={"beyond_end": "7", "role": "exploration"})
    bag = replace(recording, metadata=beyond).write(tmp_path / "bag")

    def judged(enough: int) -> Mapping[str, str]:
        anew = Relabeller(Brief(enough=enough), robot).relabel(bag, tmp_path / f"after_{enough}")
        return BagReader(anew).episode.extra

    assert "beyond_end" not in judged(4)
    assert judged(4000)["beyond_end"] == "7"  # nothing was cut
    assert judged(5)["role"] == "exploration"


def with_rewards(recording: Recording, changed: Sequence[Message]) -> list[Message]:
    return [*(m for m in recording.messages if m.topic != "reward"), *changed]


def test_what_the_node_says_beside_the_reward_is_kept(
    recording: Recording, relabeller: Relabeller, tmp_path: Path
) -> None:
    old = [m for m in recording.messages if m.topic == "reward"]
    told = [
        replace(m, raw=numbers_bytes({"total": 9.0, "lost_periods": 2.0, "age": 3.0}, m.stamp_ns))
        for m in old
    ]
    bag = recording.write(tmp_path / "bag", with_rewards(recording, told))
    anew = relabeller.relabel(bag, tmp_path / "anew")
    for numbers in rewards(anew).values():
        assert numbers["lost_periods"] == 2.0
        assert numbers["total"] != 9.0
        assert "age" not in numbers
    assert [m.publish_ns for m in BagReader(anew).messages(["reward"])] == [
        m.publish_ns for m in old
    ]


def test_rewards_that_are_missing_or_malformed_are_said_anew(
    recording: Recording, relabeller: Relabeller, tmp_path: Path
) -> None:
    old = [m for m in recording.messages if m.topic == "reward"]
    few = [replace(old[0], raw=b""), replace(old[1], raw=old[1].raw[:30]), *old[3:]]
    whole = relabeller.relabel(recording.write(tmp_path / "whole"), tmp_path / "anew")
    bag = recording.write(tmp_path / "bag", with_rewards(recording, few))
    again = relabeller.relabel(bag, tmp_path / "again")
    assert rewards(again) == rewards(whole)
    published = {m.log_ns: m.publish_ns for m in BagReader(again).messages(["reward"])}
    assert published[old[2].stamp_ns] == WALL_NS + old[2].stamp_ns  # of its joint state
    assert published[old[3].stamp_ns] == old[3].publish_ns


# --- what is refused -----------------------------------------------------------------------------


def test_another_robot_is_refused(bag: Path, tmp_path: Path) -> None:
    other = Relabeller(load_task("reach"), load_robot("arm7"))
    with pytest.raises(UserError, match=r"recorded with task reach on robot arm, .* robot arm7"):
        other.relabel(bag, tmp_path / "anew")
    assert not list(tmp_path.glob("anew*"))


def test_a_task_that_needs_to_see_more_is_refused(bag: Path, robot: Robot, tmp_path: Path) -> None:
    grasp = Relabeller(load_task("grasp"), robot)
    with pytest.raises(UserError, match="bag holds no step to judge"):
        grasp.relabel(bag, tmp_path / "anew")
    assert not list(tmp_path.glob("anew*"))


def test_nothing_is_overwritten(bag: Path, relabeller: Relabeller, tmp_path: Path) -> None:
    anew = relabeller.relabel(bag, tmp_path / "anew")
    before = contents(anew)
    with pytest.raises(UserError, match="anew exists already"):
        relabeller.relabel(bag, anew)
    assert contents(anew) == before


def test_there_is_no_bag(relabeller: Relabeller, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no bag at"):
        relabeller.relabel(tmp_path / "absent", tmp_path / "anew")


def test_nothing_is_left_of_a_bag_that_could_not_be_finished(
    bag: Path, relabeller: Relabeller, tmp_path: Path
) -> None:
    class Failing(BagReader):
        """A disk that fails when all is read for the second time."""

        def messages(self, topics=None):  # type: ignore[no-untyped-def]
            yield from super().messages(topics)
            if topics is None:
                raise UserError("the disk failed")

    with pytest.raises(UserError, match="the disk failed"):
        relabeller.relabel(Failing(bag), tmp_path / "anew")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]
