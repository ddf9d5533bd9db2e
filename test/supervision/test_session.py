"""The session's state machine, without a graph."""

import math

import pytest

from rl_robot.supervision.session import (
    BROKEN,
    ENDED,
    RESETTING,
    RUNNING,
    SUCCESS,
    TRUNCATED,
    Episode,
    Session,
    SessionPlan,
)
from rl_robot.tasks import load_task

TASK = load_task("grasp")
PERIOD_NS = TASK.period_ns
NOTHING = {"success": 0.0, "terminated": 0.0, "lost_periods": 0.0}
SUCCEEDED = {"success": 1.0, "terminated": 1.0, "lost_periods": 0.0}


def make(**plan: object) -> Session:
    return Session(SessionPlan(robot="arm", policy="script", **plan), TASK)  # type: ignore[arg-type]


def run_episode(session: Session, stamp: int, rewards: list[dict[str, float]]) -> Episode:
    session.begin(stamp)
    session.on_reset(stamp, "done", "")
    for step, reward in enumerate(rewards, start=1):
        session.on_reward(stamp + step * PERIOD_NS, reward)
    assert session.episode is not None
    session.settle()
    return session.episode


def test_an_episode_goes_through_its_phases() -> None:
    session = make(episodes=1)
    assert session.begin(0).phase == RESETTING
    assert session.on_reset(PERIOD_NS, "working", "") is None
    running = session.on_reset(2 * PERIOD_NS, "done", "")
    assert running is not None
    assert running.phase == RUNNING
    assert running.stamp_ns == 2 * PERIOD_NS
    decided = session.on_reward(3 * PERIOD_NS, NOTHING)
    assert decided is not None
    assert (decided.phase, decided.steps) == (RUNNING, 1)
    ended = session.on_reward(4 * PERIOD_NS, SUCCEEDED)
    assert ended is not None
    assert (ended.phase, ended.outcome, ended.steps) == (ENDED, SUCCESS, 2)
    assert ended.terminated
    assert not ended.truncated
    assert not session.finished  # not before its bag is closed
    session.settle()
    assert session.finished


def test_time_runs_out_as_truncation_not_termination() -> None:
    ended = run_episode(make(episodes=1), 0, [NOTHING] * TASK.max_steps)
    assert (ended.phase, ended.outcome) == (ENDED, TRUNCATED)
    assert ended.truncated
    assert not ended.terminated
    assert ended.steps == TASK.max_steps


def test_rewards_said_twice_or_late_change_nothing() -> None:
    session = make()
    session.begin(0)
    session.on_reset(0, "done", "")
    first = session.on_reward(2 * PERIOD_NS, NOTHING)
    assert session.on_reward(2 * PERIOD_NS, SUCCEEDED) is None
    assert session.on_reward(PERIOD_NS, SUCCEEDED) is None
    assert session.episode == first


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize("name", sorted(NOTHING))
def test_a_damaged_reward_decides_nothing(name: str, value: float | None) -> None:
    session = make()
    session.begin(0)
    running = session.on_reset(0, "done", "")
    rest = {other: 0.0 for other in NOTHING if other != name}
    with pytest.raises((KeyError, ValueError, OverflowError)):
        session.on_reward(PERIOD_NS, rest if value is None else rest | {name: value})
    assert session.episode == running
    assert session.on_reward(PERIOD_NS, NOTHING) is not None


def test_rewards_outside_an_episode_are_not_counted() -> None:
    session = make()
    assert session.on_reward(0, SUCCEEDED) is None
    session.begin(0)
    assert session.on_reward(PERIOD_NS, SUCCEEDED) is None


def test_each_start_is_used_once_and_a_broken_one_again() -> None:
    session = make(episodes=2, first=5)
    session.begin(0)
    session.on_reset(0, "done", "")
    broken = session.break_off(PERIOD_NS, "policy died")
    session.settle()
    assert broken is not None
    assert (broken.outcome, broken.reason, broken.index) == (BROKEN, "policy died", 5)
    again = run_episode(session, 2 * PERIOD_NS, [SUCCEEDED])
    following = run_episode(session, 9 * PERIOD_NS, [SUCCEEDED])
    assert (again.index, following.index) == (5, 6)
    assert [broken.id, again.id, following.id] == [0, 1, 2]
    assert broken.start == again.start != following.start
    assert (session.done, session.successes, session.broken) == (2, 2, 1)
    assert session.finished
    assert not session.gave_up


def test_a_start_that_breaks_again_and_again_asks_for_a_person() -> None:
    session = make(episodes=2, retries=3)
    for attempt in range(3):
        assert not session.finished
        session.begin(attempt * PERIOD_NS)
        session.break_off(attempt * PERIOD_NS, "the camera is dark")
        session.settle()
    assert session.finished
    assert "the camera is dark" in session.gave_up


def test_resets_that_fail_in_a_row_ask_for_a_person() -> None:
    session = make(resets_in_a_row=2, retries=9)
    for attempt in range(2):
        assert not session.gave_up
        session.begin(attempt * PERIOD_NS)
        session.on_reset(attempt * PERIOD_NS, "failed", "the block was not seen")
        session.settle()
    assert "the block was not seen" in session.gave_up


def test_without_an_end_a_session_never_finishes() -> None:
    session = make(episodes=0)
    for number in range(5):
        run_episode(session, number * 100 * PERIOD_NS, [SUCCEEDED])
    assert session.done == 5
    assert not session.finished


def test_an_episode_survives_its_message() -> None:
    episode = run_episode(make(), 7, [SUCCEEDED])
    values = episode.to_values()
    assert all(isinstance(value, str) for value in values.values())
    assert Episode.from_values(episode.phase, episode.stamp_ns, values) == episode


@pytest.mark.parametrize("damage", ["missing", "unknown", "not json", "phase", "start"])
def test_a_damaged_episode_message_is_refused(damage: str) -> None:
    values = run_episode(make(), 7, [SUCCEEDED]).to_values()
    phase = RUNNING
    if damage == "missing":
        del values["id"]
    elif damage == "unknown":
        values["surprise"] = "1"
    elif damage == "not json":
        values["id"] = "{"
    elif damage == "phase":
        phase = "flying"
    else:
        values["start"] = "[1, 2]"
    with pytest.raises(ValueError, match=r".+"):
        Episode.from_values(phase, 0, values)


def test_an_episode_whose_bag_was_lost_is_run_again() -> None:
    session = make(episodes=1)
    session.begin(0)
    session.on_reset(0, "done", "")
    session.on_reward(PERIOD_NS, SUCCEEDED)
    session.settle(kept=False)
    assert (session.done, session.successes, session.broken) == (0, 0, 1)
    assert run_episode(session, 9 * PERIOD_NS, [SUCCEEDED]).index == 0
    assert session.finished


def test_a_policy_that_stays_silent_breaks_the_episode() -> None:
    session = make(lost_in_a_row=3)
    session.begin(0)
    session.on_reset(0, "done", "")
    for step, lost in enumerate([0, 1, 2, 2, 3, 4], start=1):
        decided = session.on_reward(step * PERIOD_NS, NOTHING | {"lost_periods": float(lost)})
        assert decided is not None
        assert decided.phase == RUNNING
    ended = session.on_reward(7 * PERIOD_NS, NOTHING | {"lost_periods": 5.0})
    assert ended is not None
    assert (ended.phase, ended.outcome) == (ENDED, BROKEN)
    assert "no command of the policy" in ended.reason
