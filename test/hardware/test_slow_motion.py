"""Slow motions are small and free, and what joints did is judged as it was."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.hardware.findings import FAIL, PASS
from rl_robot.hardware.slow_motion import (
    TURN,
    SlowMotion,
    Track,
    check_motion,
    check_rest,
    check_standing,
    choose_motion,
    lag,
    rest_time,
)
from rl_robot.robots.description import load_robot
from rl_robot.safety.chain import make_filter

ROBOT = load_robot("arm")
HOME = ROBOT.home_positions
TIMES = np.arange(0.0, 1.0, 0.01)
MOTION = SlowMotion(1, HOME, TURN)


def track(*, late: float = 0.03, scale: float = 1.0, moves: int = 1, along: float = 0.0) -> Track:
    """Joint ``moves`` moving in place of joint 1, joint 4 going along."""
    told = MOTION.at(TIMES)
    measured = np.tile(HOME, (len(TIMES), 1))
    way = MOTION.at(TIMES - late)[:, 1] - HOME[1]
    measured[:, moves] += scale * way
    measured[:, 4] += along * way
    return Track(TIMES, told, TIMES, measured)


def test_it_goes_there_and_back_and_no_other_joint_moves() -> None:
    way = MOTION.at(TIMES)
    assert way[[0, -1]] == pytest.approx(np.array([HOME, HOME]), abs=1e-9)
    assert np.abs(way - HOME).max(axis=0) == pytest.approx([0, TURN, 0, 0, 0, 0, 0], abs=1e-4)


@given(st.floats(0.0, 2.5), st.booleans())
def test_periods_add_up_to_the_whole(time: float, steady: bool) -> None:
    motion = replace(MOTION, steady=steady)
    command = motion.command(ROBOT.joint_names, time, 0.1)
    assert command.positions == pytest.approx(motion.at(time + command.times))


@pytest.mark.parametrize("joint", range(7))
def test_it_is_chosen_away_from_limits(joint: int) -> None:
    safety = make_filter(ROBOT, period=0.1)
    start = HOME.copy()
    start[joint] = safety.limits[joint].upper
    motion = choose_motion(ROBOT, safety, start, joint)
    if motion is not None:  # with this joint so far up others may be in the way
        assert motion.height < 0.0
    assert choose_motion(ROBOT, safety, HOME, joint) is not None


def test_where_everything_is_in_the_way_there_is_none() -> None:
    values = dict(ROBOT.safety) | {"workspace": {"lower": [0, 0, 0], "upper": [0.01, 0.01, 0.01]}}
    nowhere = replace(ROBOT, safety=values)
    assert choose_motion(nowhere, make_filter(nowhere, period=0.1), HOME, 1) is None


def test_a_joint_that_follows_passes_and_its_lag_is_said() -> None:
    finding = check_motion(ROBOT, MOTION, track())
    assert finding.status == PASS
    assert "lag 30 ms" in finding.figure
    assert lag(track(late=0.12), 1) == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (track(moves=2), "wrong joint order: shoulder_lift is told to move and elbow moves"),
        (track(scale=0.0), "shoulder_lift does not move"),
        (track(scale=-1.0), "the wrong way"),
        (track(scale=2.0), "shoulder_lift moves by +0.0800, commanded +0.0400"),
        (track(along=1.0), "wrist_2 moves by +0.0400 while only shoulder_lift"),
        (track(late=0.3), "300 ms late"),
        (replace(track(), sent=np.tile(HOME, (100, 1))), "safety sent 0.0000 of the 0.0400"),
        (replace(track(), sent_times=np.empty(0), sent=np.empty((0, 7))), "safety sent nothing"),
        (replace(track(), times=np.empty(0), positions=np.empty((0, 7))), "no joint states"),
    ],
)
def test_what_is_wrong_with_a_motion_is_said(given: Track, words: str) -> None:
    finding = check_motion(ROBOT, MOTION, given)
    assert finding.status == FAIL
    assert words in finding.wrong


def test_standing() -> None:
    still = np.tile(HOME, (50, 1))
    assert check_standing(ROBOT, still, "disabled", "while disabled").status == PASS
    sagging = still.copy()
    sagging[:, 1] -= np.linspace(0.0, 0.05, 50)
    assert (
        "shoulder_lift moves by -0.0500 while disabled"
        in check_standing(ROBOT, sagging, "disabled", "while disabled").wrong
    )
    # Where two joints' values are exchanged, to hold still is to go where the other one is.
    exchanging = still.copy()
    part = np.linspace(0.0, 0.5, 50)
    exchanging[:, 2] += part * (HOME[3] - HOME[2])
    exchanging[:, 3] += part * (HOME[2] - HOME[3])
    finding = check_standing(ROBOT, exchanging, "enable", "when it should hold still")
    assert "wrong joint order: elbow and wrist_1" in finding.wrong
    assert check_standing(ROBOT, still[:1], "enable", "").status == FAIL


@given(st.floats(0.0, 0.7))
def test_the_time_of_rest_is_when_the_last_joint_stands(stop: float) -> None:
    positions = np.tile(HOME, (len(TIMES), 1))
    positions[:, 5] += np.minimum(TIMES, stop)
    rested = rest_time(TIMES, positions, np.full(7, 1e-4))
    assert rested is not None
    assert stop - 2e-4 <= rested <= stop + 0.02


def test_rest_within_its_limit_beyond_it_and_never() -> None:
    def told(stop: float) -> tuple[np.ndarray, np.ndarray]:
        positions = np.tile(HOME, (len(TIMES), 1))
        positions[:, 5] += 0.2 * np.minimum(TIMES, stop)
        return TIMES, positions

    def check(stop: float) -> object:
        return check_rest(ROBOT, "stop", told(stop), 0.3, told="it was pressed", right="mend it")

    assert check(0.2).status == PASS  # type: ignore[attr-defined]
    assert "rest 0.5" in check(0.5).wrong  # type: ignore[attr-defined]
    assert "wrist_3 still moves 1.0 s after it was pressed" in check(2.0).wrong  # type: ignore[attr-defined]
    empty = np.empty(0), np.empty((0, 7))
    nothing = check_rest(ROBOT, "stop", empty, 0.3, told="that", right="mend it")
    assert "no joint states" in nothing.wrong
