"""The stages of a training session, and how one goes on from its closed bags."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.bags import EpisodeMetadata
from rl_robot.supervision.programme import Programme
from rl_robot.supervision.session import Done, SessionPlan
from rl_robot.supervision.stages import Curriculum, Stage, best_validation, done_by_stage
from rl_robot.tasks import load_task

TASK = load_task("grasp")
BASE = SessionPlan(robot="arm", policy="weak_script", seed=3)
SMALL = Curriculum(demonstrations=2, blocks=2, block_steps=30, validation=2, test=3)
NAMES = [
    "demonstrations",
    "test demonstrator",
    "test imitation",
    "explore 1",
    "validate 1",
    "explore 2",
    "validate 2",
    "test learned",
]


def episode(stage: str, outcome: str = "success", steps: int = 20) -> EpisodeMetadata:
    return EpisodeMetadata(
        episode=0,
        robot="arm",
        task="grasp",
        split="train",
        index=0,
        start="{}",
        policy="weak_script",
        policy_version="0",
        seed=0,
        outcome=outcome,
        steps=steps,
        extra={"stage": stage},
    )


def small(folder: Path) -> list[Stage]:
    return SMALL.stages(BASE, folder)


def run_one(programme: Programme, *, success: bool = True, steps: int = 20) -> str:
    """Run one episode of the programme; return its stage."""
    while programme.session.finished:
        programme.go_on()
    session = programme.session
    begun = session.begin(0)
    session.on_reset(0, "done", "")
    for step in range(1, steps + 1):
        last = step == steps
        reward = {
            "success": float(success and last),
            "terminated": float(last),
            "lost_periods": 0.0,
        }
        session.on_reward(step * TASK.period_ns, reward)
    programme.settle(kept=True)
    return begun.stage


def run_all(programme: Programme) -> list[str]:
    """Run a programme to its end; return the stage of each episode."""
    stages = []
    while not programme.finished:
        if programme.session.finished:
            programme.go_on()
        assert programme.prepare() == ""
        stages.append(run_one(programme))
    return stages


def write_policies(folder: Path) -> None:
    for name in ("imitation", "milestone_01", "milestone_02"):
        (folder / f"{name}.safetensors").write_text(name)


def test_every_stage_has_its_starts_and_says_what_its_bags_are_for(tmp_path: Path) -> None:
    stages = small(tmp_path)
    assert [stage.name for stage in stages] == NAMES
    splits = {stage.plan.role: stage.plan.split for stage in stages}
    assert splits == {
        "demonstration": "train",
        "test": "test",
        "exploration": "train",
        "validation": "validation",
    }
    assert {stage.plan.first for stage in stages if stage.plan.role == "test"} == {0}
    trained = [stage.plan.first for stage in stages if stage.plan.split == "train"]
    assert len(set(trained)) == len(trained)  # no start is used twice
    explores = {stage.plan.role for stage in stages if stage.plan.explore}
    assert explores == {"demonstration", "exploration"}


def test_nothing_is_demonstrated_or_compared_unless_asked(tmp_path: Path) -> None:
    names = [s.name for s in Curriculum(demonstrations=0, compare=False).stages(BASE, tmp_path)]
    assert names[0] == "explore 1"
    assert names[-1] == "test learned"
    assert len(names) == 2 * Curriculum.blocks + 1


def test_a_programme_runs_its_stages_in_order(tmp_path: Path) -> None:
    write_policies(tmp_path)
    stages = run_all(Programme(small(tmp_path), TASK))
    assert list(dict.fromkeys(stages)) == NAMES
    assert stages.count("explore 1") == 2  # 30 steps by episodes of 20
    assert stages.count("test learned") == 3


def test_a_stage_waits_for_the_policy_it_needs(tmp_path: Path) -> None:
    programme = Programme(small(tmp_path), TASK)
    for _ in range(5):
        assert programme.prepare() == ""
        run_one(programme)
    programme.go_on()
    assert programme.prepare() == "imitation.safetensors"
    write_policies(tmp_path)
    assert programme.prepare() == ""


@given(closed=st.integers(0, 18))
def test_whenever_it_is_killed_the_rest_is_run_and_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, closed: int
) -> None:
    folder = tmp_path_factory.mktemp("policies")
    write_policies(folder)
    whole = run_all(Programme(small(folder), TASK))
    assert len(whole) == 19
    before = [episode(stage) for stage in whole[:closed]]
    again = Programme(small(folder), TASK, done=done_by_stage(before))
    assert run_all(again) == whole[closed:]


def test_a_broken_episode_is_not_counted() -> None:
    done = done_by_stage([episode("explore 1"), episode("explore 1", "broken"), episode("")])
    assert done == {"explore 1": Done(episodes=1, successes=1, steps=20)}


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ({"a": (5, 100), "b": (7, 200)}, "b"),
        ({"a": (7, 100), "b": (7, 200)}, "a"),
        ({"a": (7, 100), "b": (7, 100)}, "b"),
        ({"b": (1, 100)}, "b"),
    ],
)
def test_the_best_validation_is_the_most_successful_then_the_quickest_then_the_latest(
    results: dict[str, Any], best: str
) -> None:
    done = {name: Done(10, successes, steps) for name, (successes, steps) in results.items()}
    assert best_validation(["a", "b"], done) == best


def test_the_final_test_is_of_the_milestone_that_did_best(tmp_path: Path) -> None:
    write_policies(tmp_path)
    done = {name: Done(100, 0, 10_000) for name in NAMES[:-1]}
    done["validate 1"] = Done(2, 2, 40)
    done["validate 2"] = Done(2, 1, 40)
    programme = Programme(small(tmp_path), TASK, done=done)
    assert programme.stage.name == "test learned"
    assert programme.prepare() == ""
    assert (tmp_path / "learned.safetensors").read_text() == "milestone_01"
    assert programme.chosen == "milestone_01.safetensors"


def test_the_table_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Programme(small(tmp_path), TASK)
    run_one(first)
    first.record.wall_seconds, first.record.control_steps = 12.0, 37
    again = Programme(
        small(tmp_path), TASK, done={"demonstrations": Done(1, 1, 20)}, records=first.table()
    )
    assert again.table() == first.table()
    assert again.session.begin(0).index == 1


def test_the_steps_left_fall_to_nothing(tmp_path: Path) -> None:
    write_policies(tmp_path)
    programme = Programme(small(tmp_path), TASK)
    left = [programme.steps_left()]
    while not programme.finished:
        run_one(programme)
        left.append(programme.steps_left())
    assert left[0] > 100
    assert left[-1] == 0
