"""Which pictures are used: of a robot at rest in a new pose, by capture stamps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_views import BOARD

from rl_robot.calibration.collector import (
    DAMAGED,
    MOTION,
    NO_BOARD,
    SAME,
    UNKNOWN,
    Collector,
    JointTrack,
)
from rl_robot.calibration.views import transform

JOINTS = ("a", "b")
SECOND = 1_000_000_000
STEP = SECOND // 50


def page(shift: int = 0) -> np.ndarray:
    image = np.full((300, 400), 255, np.uint8)
    image[40:240, 20 + shift : 300 + shift] = BOARD.drawn(40)
    return image


def hand(joints: np.ndarray) -> np.ndarray:
    return transform(np.eye(3), np.array([*joints, 0.0]))


def collector(**options: Any) -> Collector:
    return Collector(BOARD, joints=JOINTS, hand=hand, **options)


def states(made: Collector, first: int, last: int, positions: Any) -> None:
    """Joint states at 50 Hz; ``positions`` gives them by the time in seconds."""
    for stamp in range(first, last, STEP):
        made.add_joints(stamp, ("b", "other", "a"), [positions(stamp / SECOND), 9.0, 0.0])


def test_a_picture_at_rest_is_taken_when_the_joint_states_after_it_have_come() -> None:
    made = collector()
    states(made, SECOND, 2 * SECOND, lambda _: 0.5)
    made.add_picture(2 * SECOND - STEP, "0.png", page)
    assert made.taken == []
    states(made, 2 * SECOND, 3 * SECOND, lambda _: 0.5)
    [taken] = made.taken
    np.testing.assert_allclose(taken.joints, [0.0, 0.5])
    assert taken.view.hand is not None
    np.testing.assert_allclose(taken.view.hand[:2, 3], [0.0, 0.5])
    assert len(taken.view.corners.ids) == 24


@pytest.mark.parametrize("moves", [lambda t: 0.3 * t, lambda t: max(0.0, 1.8 - t)])
def test_pictures_in_motion_or_just_after_it_are_refused(moves: Any) -> None:
    made = collector()
    states(made, SECOND, 3 * SECOND, moves)
    made.add_picture(2 * SECOND, "0.png", page)
    assert made.taken == []
    assert made.refused == {MOTION: 1}


def test_slow_motion_may_be_allowed_and_joints_are_interpolated() -> None:
    made = collector(speed=0.5)
    states(made, SECOND, 3 * SECOND, lambda t: 0.3 * t)
    made.add_picture(2 * SECOND + STEP // 3, "0.png", page)
    [taken] = made.taken
    np.testing.assert_allclose(taken.joints, [0.0, 0.3 * (2 + 0.02 / 3)], atol=1e-9)


def test_without_joint_states_around_a_picture_is_not_used() -> None:
    made = collector()
    states(made, SECOND, 2 * SECOND, lambda _: 0.5)
    made.add_picture(5 * SECOND, "0.png", page)
    states(made, 8 * SECOND, 9 * SECOND, lambda _: 0.5)
    made.add_picture(10 * SECOND, "1.png", page)
    made.finish()
    assert made.refused == {UNKNOWN: 2}


def test_a_pose_is_taken_once_and_what_cannot_be_used_is_counted() -> None:
    made = collector()

    def fail() -> np.ndarray:
        raise ValueError("cut short")

    states(made, SECOND, 9 * SECOND, lambda t: 0.1 * (t > 5))
    readers = [fail, lambda: np.zeros((50, 50), np.uint8), page, page]
    for i, read in enumerate(readers):
        made.add_picture(2 * SECOND + i * STEP, f"{i}.png", read)
    made.add_picture(7 * SECOND, "new.png", page)
    assert [taken.view.name for taken in made.taken] == ["2.png", "new.png"]
    assert made.refused == {DAMAGED: 1, NO_BOARD: 1, SAME: 1}
    assert made.damaged == ["0.png: cut short"]


def test_without_a_robot_the_board_itself_must_have_moved() -> None:
    made = Collector(BOARD)
    for i, shift in enumerate([0, 2, 30, 31, 60]):
        made.add_picture(SECOND + i, f"{i}.png", lambda shift=shift: page(shift))
    assert [taken.view.name for taken in made.taken] == ["0.png", "2.png", "4.png"]
    assert made.refused == {SAME: 2}


def test_a_clock_that_was_set_back_is_followed() -> None:
    made = collector()
    states(made, 50 * SECOND, 51 * SECOND, lambda _: 0.1)
    states(made, SECOND, 3 * SECOND, lambda _: 0.5)
    made.add_picture(2 * SECOND, "0.png", page)
    assert len(made.taken) == 1


def test_joint_states_that_say_nothing_are_left_aside() -> None:
    track = JointTrack(JOINTS)
    track.add(1, ("a",), [0.0])
    track.add(2, JOINTS, [0.0, float("nan")])
    track.add(3, JOINTS, [0.0])
    assert len(track) == 0
    track.add(5, JOINTS, [0.0, 1.0])
    track.add(4, JOINTS, [0.0, 2.0])
    assert track.newest_ns == 5
    assert track.at(4) is None
    assert track.at(6) is None


@given(
    stamps=st.lists(st.integers(1, 10**9), min_size=2, max_size=30, unique=True),
    slope=st.floats(-1.0, 1.0),
    part=st.floats(0.0, 1.0),
)
def test_joints_between_joint_states_lie_on_the_line_between_them(
    stamps: list[int], slope: float, part: float
) -> None:
    track = JointTrack(("a",))
    for stamp in sorted(stamps):
        track.add(stamp, ("a",), [slope * stamp * 1e-9])
    ordered = sorted(stamps)
    asked = ordered[0] + int(part * (ordered[-1] - ordered[0]))
    known = track.at(asked)
    if known is not None:
        assert known[0][0] == pytest.approx(slope * asked * 1e-9, abs=1e-12)
