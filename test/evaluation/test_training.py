"""A training session's stages, curve and metrics come from its bags and its trainer's file."""

import math
from pathlib import Path
from typing import Any

import pytest
import synthetic
import training_session
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.evaluation.episodes import Outcome, read_episode, read_outcome, read_run
from rl_robot.evaluation.film import typical_start
from rl_robot.evaluation.training import (
    elapsed_minutes,
    is_training,
    learning_curve,
    read_metrics,
    returns,
    stage_rows,
    training_figures,
)
from rl_robot.experience.runs import RunFolder

MINUTE_NS = 60_000_000_000


def outcome(
    role: str,
    stage: str,
    steps: int,
    *,
    success: bool = True,
    at: float | None = 0.0,
    index: int = 0,
) -> Outcome:
    """An episode that began ``at`` a minute."""
    result = "success" if success else "truncated"
    meta = synthetic.metadata(index, result, steps, extra={"role": role, "stage": stage})
    began = None if at is None else 10**18 + round(at * MINUTE_NS)
    return Outcome(meta, Path("run/episodes/episode_000000"), 0.1 * steps, began)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder.create("trained", root=tmp_path_factory.mktemp("runs"))
    training_session.write_session(folder)
    return folder


def test_a_moment_s_reading_says_what_the_whole_bag_says(run: RunFolder) -> None:
    quick, _ = read_run(run, read_outcome)
    whole, _ = read_run(run, read_episode)
    assert len(quick) == len(whole) == 3 + 4 + 4 + 2 + 2 + 2 + 2 + 4
    for a, b in zip(quick, whole, strict=True):
        assert (a.metadata, a.seconds) == (b.metadata, b.seconds)
        assert a.seconds == pytest.approx(0.1 * a.metadata.steps)
        assert a.began_ns is not None
        assert b.began_ns is not None
        assert abs(a.began_ns - b.began_ns) < 5_000_000


def test_curve_over_exploration_steps_and_minutes() -> None:
    episodes = [
        outcome("demonstration", "demonstrations", 40, at=0.0),
        outcome("exploration", "explore 1", 50, success=False, at=1.0),
        outcome("exploration", "explore 1", 30, at=2.0),
        outcome("validation", "validate 1", 35, success=False, at=3.0, index=0),
        outcome("validation", "validate 1", 35, at=4.0, index=1),
        outcome("exploration", "explore 2", 20, at=5.0),
        outcome("validation", "validate 2", 22, at=6.0),
    ]
    curve = learning_curve(episodes)
    assert curve is not None
    assert (curve["control_steps"], curve["episodes"], curve["minutes"]) == (100, 3, 6.0)
    points = curve["validation"]
    assert [(p["stage"], p["control_steps"], p["minutes"]) for p in points] == [
        ("validate 1", 80, 3.0),
        ("validate 2", 100, 6.0),
    ]
    assert [(p["successes"], p["episodes"]) for p in points] == [(1, 2), (1, 1)]
    assert curve["good"] == points[1]
    assert [p["control_steps"] for p in curve["exploration"]] == [50, 80, 100]
    assert [p["success_rate"] for p in curve["exploration"]] == pytest.approx(
        [0, 1 / 2, 2 / 3], abs=1e-4
    )


def test_no_curve_without_exploration() -> None:
    episodes = [outcome("demonstration", "demonstrations", 40)]
    assert is_training(episodes)
    assert learning_curve(episodes) is None
    assert learning_curve([]) is None


def test_a_pause_is_not_learning_time() -> None:
    at = [0.0, 1.0, None, 2.0, 602.0, 603.0]
    episodes = [outcome("exploration", "explore 1", 10, at=minute) for minute in at]
    assert elapsed_minutes(episodes) == pytest.approx([0.0, 1.0, 1.0, 2.0, 2.0, 3.0])


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e4)), max_size=30))
def test_time_never_goes_back(at: list[float | None]) -> None:
    minutes = elapsed_minutes([outcome("exploration", "explore 1", 10, at=m) for m in at])
    assert len(minutes) == len(at)
    assert minutes == sorted(minutes)


def test_stages_with_what_the_session_counted(run: RunFolder) -> None:
    episodes, _ = read_run(run, read_episode)
    rows = {row["stage"]: row for row in stage_rows(episodes, run.read_session())}
    assert list(rows)[:3] == ["demonstrations", "test demonstrator", "test imitation"]
    row = rows["explore 2"]
    assert (row["episodes"], row["successes"], row["steps"]) == (2, 2, 11)
    assert row["control_steps"] == 11 + 2 * training_session.RESET_STEPS
    seconds = row["control_steps"] * training_session.STEP_NS * 1e-9
    assert row["wall_seconds"] == pytest.approx(seconds, abs=1e-3)
    assert row["control_steps_per_second"] == pytest.approx(1e9 / training_session.STEP_NS, 1e-2)
    assert row["waited_seconds"] == 90.0
    # Without it, from the first tick to the last: all but the last reset.
    bare = {row["stage"]: row for row in stage_rows(episodes, {})}["explore 2"]
    expected = (11 + training_session.RESET_STEPS) * training_session.STEP_NS * 1e-9
    assert bare["wall_seconds"] == pytest.approx(expected, abs=0.01)
    assert bare["control_steps"] is None


def test_returns_are_of_exploration(run: RunFolder) -> None:
    episodes, _ = read_run(run, read_episode)
    points = returns(episodes)
    # Each step costs 0.1 and a success pays 1.
    assert points[0] == {"control_steps": 7, "reward": pytest.approx(0.3)}
    assert [p["control_steps"] for p in points] == [7, 19, 24, 30]


def test_updates_and_their_rate(run: RunFolder) -> None:
    figures = training_figures(read_metrics(run))
    assert figures is not None
    cloning, actor_critic = figures["learners"]
    assert (cloning["learner"], cloning["updates"]) == ("bc", 50)
    assert actor_critic["updates_per_second"] == pytest.approx(120.0)
    assert actor_critic["metrics"]["loss"][0] == {"updates": 120, "value": 1.0}


def test_damaged_lines_and_updates_done_again(tmp_path: Path) -> None:
    run = RunFolder.create("x", root=tmp_path)
    assert read_metrics(run) == []
    assert training_figures([]) is None
    lines = training_session.metrics("sac", 4, 0.0, 100.0)
    lines[1]["loss"] = math.nan
    again = training_session.metrics("sac", 5, 60.0, 100.0)[2:]  # back from 400 to 300 updates
    broken = '\n[1]\n{"wall": "x"}\n{"wall": 70, "upd'
    training_session.write_metrics(run, [*lines, *again], tail=broken)
    found = read_metrics(run)
    assert [line["updates"] for line in found] == [100, 200, 300, 400, 500]
    assert [line["wall"] for line in found] == [0, 1, 62, 63, 64]
    figures = training_figures(found)
    assert figures is not None
    (learner,) = figures["learners"]
    assert [p["updates"] for p in learner["metrics"]["loss"]] == [100, 300, 400, 500]
    assert learner["updates_per_second"] == 100.0


@given(st.integers(1, 2000))
def test_long_series_are_thinned_to_their_means(count: int) -> None:
    lines: list[dict[str, Any]] = training_session.metrics("sac", count, 0.0, 10.0)
    for line in lines:
        line["loss"] = 3.0
    figures = training_figures(lines)
    assert figures is not None
    points = figures["learners"][0]["metrics"]["loss"]
    assert 0 < len(points) <= 200
    assert {p["value"] for p in points} == {3.0}


def test_film_shows_a_start_that_all_solve() -> None:
    def tried(*steps: int | None) -> list[Outcome]:
        return [
            outcome("test", "test x", s or 60, success=s is not None, index=i)
            for i, s in enumerate(steps)
        ]

    rivals = {
        "demonstrator": tried(40, None, 38, 39, 41),
        "learned": tried(30, 20, 20, None, 22),
    }
    shown = typical_start(rivals)
    assert {name: e.metadata.index for name, e in shown.items()} == dict.fromkeys(rivals, 4)
    assert typical_start({}) == {}
    assert typical_start({"a": tried(1), "b": []}) == {}
    # If none is solved by all, the later policy's success is worth more.
    assert typical_start({"a": tried(40, None), "b": tried(None, 20)})["a"].metadata.index == 1
