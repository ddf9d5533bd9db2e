"""The trainer over a folder of bags: what it does in which order, and that no kill harms it."""

import json
import multiprocessing
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import record, train

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.errors import UserError
from rl_robot.policies.network import NetworkPolicy
from rl_robot.policies.policy import PolicySpec
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task
from rl_robot.training.checkpoint import CheckpointFile
from rl_robot.training.trainer import Trainer, TrainingPlan

STEPS = 10  # of each episode
PLAN = TrainingPlan(
    demonstrations=4,
    imitation_updates=60,
    pretraining_updates=100,
    updates_per_step=2.0,
    block_steps=2 * STEPS,
    blocks=2,
    publish_every=10,
)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four demonstrations (and one that broke), four explorations, a test and a validation."""
    folder = tmp_path_factory.mktemp("bags")
    env = RobotEnv("reach", perception="truth")
    roles: list[tuple[str, dict[str, Any]]] = [
        ("weak_script", {"outcome": "broken", "reason": "a node died"}),
        *[("weak_script", {})] * 4,
        ("script", {"split": "test"}),
        ("random", {"extra": {"role": "validation"}}),
        *[("random", {})] * 4,
    ]
    for index, (policy, changes) in enumerate(roles):
        recording = record(env, index, policy=policy, most_steps=STEPS, **changes)
        recording.write(folder / f"episode_{index:06d}")
    return folder


def trainer(folder: Path, *bags: Path, plan: TrainingPlan = PLAN, **options: Any) -> Trainer:
    options.setdefault("say", lambda _: None)
    return Trainer(folder, load_task("reach"), load_robot("arm"), plan, bags=bags, **options)


def finish(made: Trainer) -> Trainer:
    while made.step():
        pass
    made.close()
    return made


def policies(folder: Path) -> dict[str, tuple[PolicySpec, bytes]]:
    """What each policy file says, whose header has no fixed order."""
    found = {}
    for path in (folder / "policies").glob("*.safetensors"):
        policy = NetworkPolicy.load(path)
        weights = [value.numpy().tobytes() for value in policy.actor.state_dict().values()]
        found[path.name] = (policy.spec, b"".join(weights))
    return found


@pytest.fixture(scope="module")
def trained(bags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    finish(trainer(filled(folder, bags)))
    return folder


def filled(folder: Path, bags: Path) -> Path:
    """Return a run's folder with all the bags."""
    give(bags, folder, *range(11))
    return folder


def give(bags: Path, run: Path, *numbers: int) -> None:
    """Close bags of a run, as the recorder does: by a rename."""
    for number in numbers:
        name = f"episode_{number:06d}"
        part = run / "episodes" / f"{name}.part"
        shutil.copytree(bags / name, part)
        part.rename(part.with_suffix(""))


def test_the_stages_follow_each_other(bags: Path, tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    made = trainer(tmp_path)
    written = tmp_path / "policies"

    def work() -> None:
        while made.step():
            pass

    give(bags, tmp_path, 0, 1, 2, 3)
    work()
    assert (made.stage, made.demonstrations, made.bags) == ("demonstrations", 3, 4)
    assert (made.updates, made.version, made.imitated) == (0, 0, False)

    give(bags, tmp_path, 4)
    work()
    assert made.imitated
    assert NetworkPolicy.load(written / "imitation.safetensors").spec.learner == "bc"
    assert (made.stage, made.updates, made.version) == ("exploration", 100, 100)
    assert NetworkPolicy.from_bytes(made.weights).spec.version == 100

    give(bags, tmp_path, 5, 6)  # of no use
    work()
    assert (made.updates, made.bags, made.exploration_steps) == (100, 5, 0)

    give(bags, tmp_path, 7)
    work()
    assert (made.updates, made.version, made.exploration_steps) == (120, 120, STEPS)
    assert (made.milestone, made.updates_due) == (0, 0)

    give(bags, tmp_path, 8)
    work()
    assert (made.updates, made.milestone) == (140, 1)
    assert NetworkPolicy.load(written / "milestone_01.safetensors").spec.version == 140

    give(bags, tmp_path, 9, 10)
    work()
    assert (made.updates, made.milestone, made.stage) == (180, 2, "done")
    assert NetworkPolicy.load(written / "milestone_02.safetensors").spec.version == 180
    made.close()


def test_what_is_learnt_depends_on_the_bags_and_not_on_when_they_come(
    bags: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "episodes").mkdir()
    made = trainer(tmp_path)
    for number in range(11):
        give(bags, tmp_path, number)
        for _ in range(number):  # sometimes done with it, sometimes not
            made.step()
    finish(made)
    assert policies(tmp_path) == policies(trained)
    assert set(policies(trained)) == {
        "imitation.safetensors",
        "milestone_01.safetensors",
        "milestone_02.safetensors",
    }


def test_a_broken_exploration_is_learnt_from_and_counts_for_nothing(
    bags: Path, tmp_path: Path
) -> None:
    env = RobotEnv("reach", perception="truth")
    recording = record(env, 40, policy="random", most_steps=STEPS, outcome="broken")
    broken = tmp_path / "episode_000040"
    recording.write(broken)
    give(bags, tmp_path, *range(1, 5))
    broken.rename(tmp_path / "episodes" / "episode_000040")
    made = finish(trainer(tmp_path))
    assert (made.bags, made.updates) == (5, 120)
    assert (made.exploration_steps, made.milestone) == (0, 0)


def test_another_seed_learns_something_else(bags: Path, trained: Path, tmp_path: Path) -> None:
    finish(trainer(filled(tmp_path, bags), seed=1))
    assert (
        policies(tmp_path)["milestone_02.safetensors"]
        != (policies(trained)["milestone_02.safetensors"])
    )


def test_metrics_are_lines_of_json_and_tensorboard(trained: Path) -> None:
    text = (trained / "trainer" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["updates"] for line in lines if line["learner"] == "sac"] == [100]
    assert all({"wall", "updates", "transitions", "learner"} <= line.keys() for line in lines)
    assert list((trained / "trainer" / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("steps", [2, 7])
def test_a_trainer_goes_on_from_its_checkpoint(
    bags: Path, trained: Path, tmp_path: Path, steps: int
) -> None:
    filled(tmp_path, bags)
    going = True
    while going:
        made = trainer(tmp_path)
        going = all(made.step() for _ in range(steps))
        while made.stage in ("demonstrations", "imitation"):  # which begin anew
            made.step()
        made.close()
    assert made.stage == "done"
    assert policies(tmp_path) == policies(trained)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment_it_comes_to_the_same_and_leaves_nothing_half_written(
    bags: Path, trained: Path, tmp_path: Path, seed: int
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rl_robot.training.trainer", "rl_robot.environments.robot_env"])
    moments = random.Random(seed)
    filled(tmp_path, bags)
    kills = 0
    while True:
        slices = context.Value("i", 0, lock=False)
        process = context.Process(target=train, args=(tmp_path, PLAN, slices))
        process.start()
        until = moments.randint(1, 12)
        while process.is_alive() and slices.value < until:
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.03))  # anywhere within a slice
        process.kill()
        process.join()
        check_whole(tmp_path)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert kills > 1
    assert policies(tmp_path) == policies(trained)
    check_whole(tmp_path)
    lines = (tmp_path / "trainer" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["updates"] for line in lines if "sac" in line] == [100]


def check_whole(folder: Path) -> None:
    """Whoever looks now finds whole files."""
    for path in (folder / "policies").glob("*.safetensors"):
        NetworkPolicy.load(path)
    home = folder / "trainer"
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        if (home / name).exists():
            _, tensors, problems = CheckpointFile(home / name).read()
            assert tensors
            assert not problems


def halfway(folder: Path, bags: Path, **options: Any) -> Trainer:
    """A trainer that has closed its checkpoint after some exploration, with more to come."""
    made = trainer(filled(folder, bags), **options)
    while made.updates < 130:
        made.step()
    made.close()
    return made


def test_what_was_learnt_from_is_not_read_again(bags: Path, trained: Path, tmp_path: Path) -> None:
    made = halfway(tmp_path, bags)
    for number in range(9):  # the two that are left were not taken yet
        shutil.rmtree(tmp_path / "episodes" / f"episode_{number:06d}")
    said: list[str] = []
    resumed = trainer(tmp_path, say=said.append)
    assert said == ["goes on from 7 bags and 130 updates"]
    assert (resumed.demonstrations, resumed.exploration_steps) == (4, 2 * STEPS)
    assert resumed.transitions == made.transitions > 0
    finish(resumed)
    assert policies(tmp_path) == policies(trained)


def spoil_state(folder: Path) -> None:
    (folder / "source_0000" / "state").write_bytes(b"?" * 4096)


def take_from_another(folder: Path) -> None:
    header = folder / "store.json"
    values = json.loads(header.read_text())
    header.write_text(json.dumps(values | {"identity": "another"}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "it was made anew since: reading 7 bags again"),
        (spoil_state, "committed is damaged: made anew"),
        (take_from_another, "it was made anew since: reading 7 bags again"),
    ],
)
def test_a_replay_that_does_not_fit_is_made_again_from_the_bags(
    bags: Path, trained: Path, tmp_path: Path, spoil: Any, words: str
) -> None:
    halfway(tmp_path, bags)
    spoil(tmp_path / "trainer" / "replay")
    said: list[str] = []
    resumed = trainer(tmp_path, say=said.append)
    assert words in said[0]
    assert said[-1] == "goes on from 7 bags and 130 updates"
    assert (resumed.demonstrations, resumed.exploration_steps) == (4, 2 * STEPS)
    resumed.step()  # killed before its next checkpoint, it need not read them again
    del resumed
    said.clear()
    again = trainer(tmp_path, say=said.append)
    assert said == ["goes on from 7 bags and 130 updates"]
    finish(again)
    assert policies(tmp_path) == policies(trained)


def test_the_checkpoint_of_before_there_was_a_replay_on_disk_is_gone_on_from(
    bags: Path, trained: Path, tmp_path: Path
) -> None:
    halfway(tmp_path, bags)
    file = CheckpointFile(tmp_path / "trainer" / "checkpoint.safetensors")
    values, tensors, _ = file.read()
    del values["replay"], values["counts"]
    file.write(values, tensors)
    said: list[str] = []
    finish(trainer(tmp_path, say=said.append))
    assert "nothing was noted of it: reading 7 bags again" in said[0]
    assert policies(tmp_path) == policies(trained)


def test_with_room_for_little_it_learns_from_the_newest_and_goes_on_the_same(
    bags: Path, trained: Path, tmp_path: Path
) -> None:
    small = 2 * (STEPS + 1)  # two episodes of each source
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made = finish(trainer(filled(whole, bags), capacity=small))
    assert (made.bags, made.transitions) == (9, 4 * STEPS)
    assert policies(whole) != policies(trained)
    halfway(parts, bags, capacity=small)
    finish(trainer(parts, capacity=small))
    assert policies(parts) == policies(whole)


def test_a_damaged_checkpoint_is_not_kept_in_place_of_a_whole_one(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoint.safetensors")
    for number in range(2):
        file.write({"number": number}, {"x": torch.zeros(1)})
    damage(file.path)
    assert file.read()[0] == {"number": 0}
    file.write({"number": 2}, {"x": torch.zeros(1)})
    damage(file.path)
    assert file.read()[0] == {"number": 0}


def damage(path: Path) -> None:
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) // 2])


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(
    bags: Path, trained: Path, tmp_path: Path
) -> None:
    made = trainer(filled(tmp_path, bags))
    while made.updates < 130:
        made.step()
    made.save()
    made.step()
    made.close()
    newest = tmp_path / "trainer" / "checkpoint.safetensors"
    damage(newest)
    said: list[str] = []
    resumed = trainer(tmp_path, say=said.append)
    assert "checkpoint.safetensors is damaged" in said[0]
    assert 130 <= resumed.updates < made.updates
    finish(resumed)
    assert policies(tmp_path) == policies(trained)
    damage(newest)
    damage(newest.with_name("checkpoint.previous.safetensors"))
    with pytest.raises(UserError, match=r"delete .* to train anew from the bags"):
        trainer(tmp_path)


def test_the_checkpoint_of_another_training_is_refused(trained: Path) -> None:
    with pytest.raises(UserError, match=r"is of another training .*choose another run"):
        trainer(trained, seed=7)


def test_a_damaged_bag_is_left_out_and_named(bags: Path, tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    give(bags, tmp_path, 1, 2)
    damage(tmp_path / "episodes" / "episode_000001" / "episode_000001.mcap")
    said: list[str] = []
    made = trainer(tmp_path, say=said.append)
    finish(made)
    assert (made.bags, made.skipped) == (1, 1)
    assert "episode_000001.mcap is damaged" in said[0]


def test_bags_may_be_runs_folders_or_bags(bags: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "episodes").mkdir(parents=True)
    give(bags, run, 1)
    (run / "episodes" / "episode_000007.part").mkdir()
    made = finish(trainer(tmp_path / "out", run, bags / "episode_000002"))
    assert made.bags == 2
    with pytest.raises(UserError, match="there are no bags at"):
        trainer(tmp_path / "other", tmp_path / "nowhere")


def test_offline_everything_there_is_is_learnt_from(bags: Path, tmp_path: Path) -> None:
    made = trainer(tmp_path, bags, plan=TrainingPlan.offline(50, imitation_updates=20))
    for _ in made.run_offline():
        pass
    assert (made.updates, made.bags) == (50, 9)
    assert set(policies(tmp_path)) == {"imitation.safetensors", "learned.safetensors"}
    assert NetworkPolicy.load(tmp_path / "policies" / "learned.safetensors").spec.version == 50


def test_offline_with_nothing_to_learn_from(bags: Path, tmp_path: Path) -> None:
    made = trainer(tmp_path, bags / "episode_000005", plan=TrainingPlan.offline(50))
    with pytest.raises(UserError, match="there is nothing to train on"):
        list(made.run_offline())


@pytest.mark.parametrize(
    "change", [{"block_steps": 0}, {"pretraining_updates": 0}, {"updates_per_step": -1.0}]
)
def test_plans_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(change))} is .*: it should be"):
        replace(PLAN, **change)


def test_blocks_and_updates_follow_from_the_steps() -> None:
    assert [PLAN.blocks_done(steps) for steps in (0, 19, 20, 39, 40, 1000)] == [0, 0, 1, 1, 2, 2]
    assert [PLAN.updates_due(steps) for steps in (0, 1, 10)] == [100, 102, 120]


def test_bags_from_elsewhere_are_learnt_from_first_and_are_no_part_of_the_plan(
    bags: Path, tmp_path: Path
) -> None:
    plan = replace(PLAN, demonstrations=0)
    made = trainer(tmp_path, bags, plan=plan)
    while made.step():
        pass
    assert made.bags == 9  # demonstrations and explorations, the broken one too
    assert (made.exploration_steps, made.milestone) == (0, 0)
    assert made.stage == "exploration"
    assert made.updates == plan.pretraining_updates
    assert (tmp_path / "policies" / "imitation.safetensors").exists()


def test_with_nothing_to_learn_from_it_says_so(tmp_path: Path) -> None:
    made = trainer(tmp_path, plan=replace(PLAN, demonstrations=0))
    with pytest.raises(UserError, match="nothing to train on"):
        made.step()
