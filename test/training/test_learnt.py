"""What a quota may remove as far as the trainer is concerned, and that it then still counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recordings import record

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.experience.removed import RemovedEpisode, remove_bag
from rl_robot.experience.runs import RunFolder
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task
from rl_robot.training.learnt import bags_in_checkpoint, is_removable
from rl_robot.training.trainer import DONE, EXPLORING, Trainer, TrainingPlan

STEPS = 10  # of each episode
PLAN = TrainingPlan(
    demonstrations=2,
    imitation_updates=0,
    pretraining_updates=10,
    updates_per_step=0.5,
    block_steps=4 * STEPS,
    blocks=1,
)


def write_bags(run: RunFolder, numbers: range) -> None:
    """Two demonstrations, then explorations, of which the second broke and has no steps."""
    env = RobotEnv("reach", perception="truth")
    for number in numbers:
        demonstrated = number < 2
        role = {"role": "demonstration" if demonstrated else "exploration"}
        changes: dict[str, Any] = {"extra": role}
        if number == 3:
            changes |= {"outcome": "broken"}
        policy = "weak_script" if demonstrated else "random"
        recording = record(env, number, policy=policy, most_steps=STEPS, **changes)
        messages = recording.messages[:1] if number == 3 else None
        recording.write(run.episode_path(number), messages)


def trainer(run: RunFolder, plan: TrainingPlan = PLAN) -> Trainer:
    task, robot = load_task("reach"), load_robot("arm")
    return Trainer(run.path, task, robot, plan, checkpoint_every=0.0, say=lambda _: None)


def work(made: Trainer) -> None:
    while made.step():
        pass
    made.step()  # an idle one


def remove(run: RunFolder, number: int) -> None:
    bag = run.episode_path(number)
    remove_bag(run.path, RemovedEpisode(bag.name, BagReader(bag).episode, 1))


def test_the_checkpoint_names_what_is_done_with_also_when_nothing_is_left_to_do(
    tmp_path: Path,
) -> None:
    run = RunFolder.create(tmp_path / "run")
    assert bags_in_checkpoint(run.path) == set()
    write_bags(run, range(5))
    work(trainer(run))  # ended without being closed, as by a kill
    assert bags_in_checkpoint(run.path) == {f"episode_{number:06d}" for number in range(5)}
    (run.path / "trainer" / "checkpoint.safetensors").write_bytes(b"damaged")
    assert bags_in_checkpoint(run.path) == set()


def test_what_was_removed_counts_when_the_trainer_goes_on(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    write_bags(run, range(5))
    first = trainer(run)
    work(first)
    assert first.exploration_steps == 2 * STEPS
    first.close()
    remove(run, 2)
    second = trainer(run)
    assert second.stage == EXPLORING
    assert second.exploration_steps == first.exploration_steps
    assert second.updates_due == first.updates_due
    assert first.skipped == 1
    second.close()
    # Removed since the checkpoint that it goes on from was written: nothing waits for it for ever.
    write_bags(run, range(5, 7))
    remove(run, 5)
    remove(run, 6)
    third = trainer(run)
    work(third)
    assert third.exploration_steps == 4 * STEPS
    assert third.milestone == 1


def test_a_removed_bag_that_had_been_left_out_is_not_counted_later(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    write_bags(run, range(5))
    first = trainer(run)
    work(first)
    first.close()
    assert first.skipped == 1
    remove(run, 3)
    for _ in range(2):  # nor after the checkpoint was written again
        again = trainer(run)
        assert (again.bags, again.updates_due) == (first.bags, first.updates_due)
        again.close()


def test_a_bag_that_was_left_out_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    write_bags(run, range(5))
    file = run.episode_path(4) / "episode_000004.mcap"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    first = trainer(run)
    work(first)
    first.close()
    assert (first.bags, first.skipped) == (3, 2)
    file.write_bytes(whole)
    second = trainer(run)
    work(second)
    second.close()
    assert (second.bags, second.skipped) == (4, 1)
    assert bags_in_checkpoint(run.path) == {f"episode_{number:06d}" for number in range(5)}


def test_a_trainer_that_is_done_needs_no_bag_and_with_a_greater_plan_it_does(
    tmp_path: Path,
) -> None:
    run = RunFolder.create(tmp_path / "run")
    write_bags(run, range(9))
    made = trainer(run)
    work(made)
    assert made.stage == DONE
    assert made.bags + made.skipped < 9
    assert bags_in_checkpoint(run.path) == {f"episode_{number:06d}" for number in range(9)}
    made.close()
    more = trainer(run, replace(PLAN, blocks=3))
    assert bags_in_checkpoint(run.path) == {f"episode_{number:06d}" for number in range(7)}
    work(more)
    more.close()
    assert more.bags + more.skipped == 9


@pytest.mark.parametrize(
    ("split", "role", "outcome", "goes"),
    [
        ("train", "exploration", "success", True),
        ("train", "exploration", "broken", True),
        ("train", "demonstration", "success", False),
        ("train", "demonstration", "broken", True),
        ("train", "incomplete", "broken", True),
        ("train", "validation", "success", False),
        ("validation", "exploration", "success", False),
        ("test", "test", "success", False),
        ("test", "test", "broken", False),
        ("other", "", "broken", False),
    ],
)
def test_what_may_go(split: str, role: str, outcome: str, goes: bool) -> None:
    metadata = EpisodeMetadata(
        episode=0,
        robot="arm",
        task="reach",
        split=split,
        index=0,
        start="{}",
        policy="random",
        policy_version="0",
        seed=0,
        outcome=outcome,
        extra={"role": role},
    )
    assert is_removable(metadata) == goes
