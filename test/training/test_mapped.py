"""Somebody else's bags, with topics of their own, as data of a task."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import record

from rl_robot.bags import BagReader, EpisodeWriter
from rl_robot.bags.cdr import joint_state_bytes
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.errors import UserError
from rl_robot.exchange import export_lerobot, import_lerobot
from rl_robot.exchange.imported_map import map_of_import
from rl_robot.experience.aligned import AlignedEpisode
from rl_robot.experience.bag_map import BagMap, Source
from rl_robot.experience.store import ReplayStore
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task
from rl_robot.training.mapped import MappedReader
from rl_robot.training.rebuild import TransitionReader
from rl_robot.training.trainer import Trainer, TrainingPlan

TASK, ROBOT = load_task("reach"), load_robot("arm")
NUMBERS = "sensor_msgs/msg/JointState"
MAP = BagMap(
    observations={name: Source(f"/their/{name}") for name in TASK.observation_spec},
    action=Source("/their/stick", scale=(0.5,)),
    reward=Source("/their/score"),
    terminated=Source("/their/done"),
    ticks="/their/clock_work",
)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = record(RobotEnv("reach", perception="truth"), 2, most_steps=15)
    return recording.write(tmp_path_factory.mktemp("ours") / "bag")


def write_theirs(path: Path, episode: AlignedEpisode) -> Path:
    """Write what an episode was as another recorder might have: without our metadata."""
    topics = [*episode.observations, "stick", "score", "done", "clock_work"]
    writer = EpisodeWriter(path, {f"their/{topic}": NUMBERS for topic in topics})

    def say(topic: str, stamp: int, values: np.ndarray) -> None:
        names = [f"n{i}" for i in range(values.size)]
        raw = joint_state_bytes(names, stamp, values.ravel().astype(float))
        writer.write(f"their/{topic}", raw, stamp, stamp)

    for row, stamp in enumerate(episode.ticks_ns.tolist()):
        for name, values in episode.observations.items():
            say(name, stamp, values[row])
        say("clock_work", stamp, np.zeros(1))
        if row < len(episode):
            say("stick", stamp, 2.0 * episode.action[row])
        if row:
            say("score", stamp, episode.rewards[row - 1])
            last = row == len(episode) and episode.terminated
            say("done", stamp, np.array(float(last)))
    return writer.close(None)


def test_a_mapped_bag_gives_what_ours_gives(ours: Path, tmp_path: Path) -> None:
    reader = TransitionReader(TASK, ROBOT)
    expected, table = reader.read(ours), reader.read_table(ours)
    [found] = MappedReader(TASK, MAP).read(write_theirs(tmp_path / "theirs", table))
    np.testing.assert_array_equal(found.observations, expected.observations)
    np.testing.assert_array_equal(found.executed, expected.executed)
    np.testing.assert_array_equal(found.rewards, expected.rewards)
    assert found.terminated == expected.terminated
    assert found.gaps == expected.gaps
    assert found.metadata is None
    assert np.isnan(found.proposed).all()


def test_a_map_without_an_observation_of_the_task_is_refused() -> None:
    lacking = replace(MAP, observations=dict(list(MAP.observations.items())[1:]))
    first = next(iter(MAP.observations))
    with pytest.raises(
        UserError, match=rf"the map has no observation {first}: task reach observes"
    ):
        MappedReader(TASK, lacking)


def test_sizes_that_differ_from_the_tasks_are_named(ours: Path, tmp_path: Path) -> None:
    table = TransitionReader(TASK, ROBOT).read_table(ours)
    bag = write_theirs(tmp_path / "theirs", table)
    few = replace(MAP, action=Source("/their/score"))
    with pytest.raises(UserError, match=r"the action has 1 numbers \(n0\), task reach has 5"):
        MappedReader(TASK, few).read(bag)
    name = next(iter(MAP.observations))
    other = replace(MAP, observations={**MAP.observations, name: Source("/their/score")})
    with pytest.raises(UserError, match=rf"{name} has 1 numbers, task reach expects"):
        MappedReader(TASK, other).read(bag)


def test_an_action_beyond_its_range_is_refused_and_not_cut_off(ours: Path, tmp_path: Path) -> None:
    table = TransitionReader(TASK, ROBOT).read_table(ours)
    bag = write_theirs(tmp_path / "theirs", table)
    wide = replace(MAP, action=Source("/their/stick", scale=(50.0,)))
    with pytest.raises(UserError, match=r"the action reaches from -\d.* give scale in the map"):
        MappedReader(TASK, wide).read(bag)


def test_a_trainer_learns_from_mapped_bags_without_a_robot(ours: Path, tmp_path: Path) -> None:
    table = TransitionReader(TASK, ROBOT).read_table(ours)
    for number in range(2):
        write_theirs(tmp_path / "theirs" / f"bag{number}", table)
    trainer = Trainer(
        tmp_path / "run",
        TASK,
        ROBOT,
        TrainingPlan.offline(20, imitation_updates=20),
        bags=[tmp_path / "theirs"],
        bag_map=MAP,
        say=lambda _: None,
    )
    for _ in trainer.run_offline():
        pass
    trainer.close()
    assert (trainer.bags, trainer.skipped) == (2, 0)
    assert trainer.transitions == 2 * len(table)
    assert (tmp_path / "run" / "policies" / "learned.safetensors").exists()


def test_an_imported_data_set_counts_as_demonstrated(ours: Path, tmp_path: Path) -> None:
    table = TransitionReader(TASK, ROBOT).read_table(ours)
    flat = {name: values.reshape(len(values), -1) for name, values in table.observations.items()}
    episodes = [replace(table, observations=flat, metadata=None)] * 2
    fps = round(1e9 / float(np.median(np.diff(table.ticks_ns))), 3)
    export_lerobot(episodes, tmp_path / "set", task="Reach", fps=fps, robot_type="arm")
    (tmp_path / "set" / "meta" / "rl_robot.json").unlink()  # as in anyone's data set
    bags = import_lerobot(tmp_path / "set", tmp_path / "bags")
    bag_map = map_of_import(BagReader(bags[0]))
    assert bag_map.observations.keys() == TASK.observation_spec.keys()
    trainer = Trainer(
        tmp_path / "run",
        TASK,
        ROBOT,
        TrainingPlan.offline(1, imitation_updates=1),
        bags=[tmp_path / "bags"],
        bag_map=bag_map,
        say=lambda _: None,
    )
    for _ in trainer.run_offline():
        pass
    trainer.close()
    assert (trainer.bags, trainer.skipped) == (2, 0)
    with closing(ReplayStore.read(tmp_path / "run" / "trainer" / "replay")) as store:
        assert {source.kind for source in store.rings} == {"demonstration"}
