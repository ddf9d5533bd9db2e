"""Controllers obey and refuse as the real ones do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.hardware.controllers import (
    ForwardController,
    JointTrajectoryController,
    Rejected,
    Trajectory,
)

NAMES = ("a", "b")
HERE = np.array([0.1, -0.2])
NOW = 5_000_000_000


def trajectory(**changes: object) -> Trajectory:
    values: dict[str, object] = {
        "names": ("b", "a"),
        "stamp_ns": 0,
        "times": (0.1, 0.2),
        "positions": ((0.0, 0.2), (0.2, 0.4)),
    }
    return Trajectory(**(values | changes))  # type: ignore[arg-type]


def follower(**changes: object) -> JointTrajectoryController:
    controller = JointTrajectoryController(NAMES, HERE)
    controller.take(trajectory(**changes), NOW, HERE)
    return controller


def at(controller: JointTrajectoryController, seconds: float) -> list[float]:
    return controller.reference(NOW + round(seconds * 1e9), HERE, 0.002).round(6).tolist()


def test_a_trajectory_is_followed_from_the_measured_state_whatever_the_order_of_its_joints() -> (
    None
):
    controller = follower()
    assert at(controller, 0.0) == [0.1, -0.2]
    assert at(controller, 0.05) == [0.15, -0.1]
    assert at(controller, 0.1) == [0.2, 0.0]
    assert at(controller, 9.0) == [0.4, 0.2]


def test_a_new_trajectory_takes_the_place_of_the_last() -> None:
    controller = follower()
    there = np.array([0.3, 0.1])
    later = NOW + 150_000_000
    controller.take(trajectory(positions=((0.1, 0.3), (0.1, 0.3))), later, there)
    assert controller.reference(later, there, 0.002).tolist() == [0.3, 0.1]
    assert controller.reference(later + 200_000_000, there, 0.002).tolist() == [0.3, 0.1]


def test_velocities_make_it_cubic() -> None:
    controller = follower(
        times=(0.2,), positions=((-0.2, 0.1 + 0.4),), velocities=((0.0, 0.0),), names=("b", "a")
    )
    assert at(controller, 0.05)[0] == pytest.approx(0.1 + 0.4 * (3 * 0.25**2 - 2 * 0.25**3))


def test_until_the_first_point_is_due_it_goes_there_from_now_on() -> None:
    later = follower(stamp_ns=NOW + 100_000_000)
    assert at(later, 0.0) == [0.1, -0.2]
    assert at(later, 0.05) == [0.125, -0.15]
    assert at(later, 0.2) == [0.2, 0.0]
    assert at(later, 0.3) == [0.4, 0.2]


def test_a_stamp_in_the_past_is_caught_up_with_from_here_or_by_a_jump() -> None:
    before_the_first_point = follower(stamp_ns=NOW - 50_000_000)
    assert at(before_the_first_point, 0.0) == [0.1, -0.2]
    assert at(before_the_first_point, 0.025) == [0.15, -0.1]
    past_it = follower(stamp_ns=NOW - 150_000_000)
    assert at(past_it, 0.0) == [0.3, 0.1]
    assert at(past_it, 0.05) == [0.4, 0.2]
    at_once = follower(times=(0.0, 0.1))
    assert at(at_once, 0.0) == [0.2, 0.0]


def test_it_begins_as_fast_as_the_joints_are_where_velocities_are_given() -> None:
    controller = JointTrajectoryController(NAMES, HERE)
    still = trajectory(
        times=(0.2,), positions=((-0.2, 0.1),), velocities=((0.0, 0.0),), names=("b", "a")
    )
    controller.take(still, NOW, HERE, np.array([0.5, 0.0]))
    begin, soon = (np.array(at(controller, time)) for time in (0.0, 1e-3))
    assert (soon - begin) / 1e-3 == pytest.approx([0.5, 0.0], abs=0.01)
    assert at(controller, 0.2) == [0.1, -0.2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ()}, "names no joints"),
        ({"names": ("a", "c")}, "c is not the controller's"),
        ({"names": ("a", "a")}, "twice"),
        ({"names": ("a",), "positions": ((0.0,), (0.1,))}, "b is missing"),
        ({"times": (0.2, 0.2)}, "don't rise"),
        ({"times": (-0.1, 0.2)}, "don't rise"),
        ({"times": (), "positions": ()}, "0 points"),
        ({"times": (0.1,)}, "not every point"),
        ({"positions": ((0.0, 0.2), (0.2,))}, "not one number for each joint"),
        ({"positions": ((0.0, np.nan), (0.2, 0.1))}, "not finite"),
        ({"stamp_ns": NOW - 300_000_000}, "ended 0.100 s ago"),
        ({"velocities": ((0.0, 0.0), (0.0, 1e-6))}, "velocity at the end"),
    ],
)
def test_what_is_rejected_changes_nothing(changes: dict[str, object], words: str) -> None:
    controller = follower()
    with pytest.raises(Rejected, match=words):
        controller.take(trajectory(**changes), NOW, HERE + 1.0)
    assert at(controller, 0.05) == [0.15, -0.1]


def test_a_command_timeout_counts_from_the_last_point_and_holds_where_it_is() -> None:
    controller = JointTrajectoryController(NAMES, HERE, cmd_timeout=0.5)
    controller.take(trajectory(), NOW, HERE)
    before = controller.reference(NOW + 690_000_000, HERE, 0.002)
    assert before.tolist() == [0.4, 0.2]
    assert controller.reference(NOW + 710_000_000, HERE, 0.002).tolist() == HERE.tolist()


def test_positions_are_handed_on_until_the_driver_gives_up() -> None:
    controller = ForwardController(NAMES, HERE, velocity=False, timeout=0.1)
    assert controller.reference(NOW, HERE, 0.01).tolist() == HERE.tolist()
    controller.take([0.3, 0.4], NOW)
    assert controller.reference(NOW + 50_000_000, HERE, 0.01).tolist() == [0.3, 0.4]
    assert controller.reference(NOW + 110_000_000, HERE, 0.01).tolist() == HERE.tolist()


def test_velocities_add_up_and_never_end_without_a_timeout() -> None:
    endless = ForwardController(NAMES, HERE, velocity=True)
    endless.take([1.0, -2.0], NOW)
    for number in range(100):
        reached = endless.reference(NOW + number * 10_000_000, HERE, 0.01)
    assert reached == pytest.approx(HERE + np.array([1.0, -2.0]))
    sound = ForwardController(NAMES, HERE, velocity=True, timeout=0.1)
    sound.take([1.0, -2.0], NOW)
    for number in range(100):
        reached = sound.reference(NOW + number * 10_000_000, HERE, 0.01)
    assert reached == pytest.approx(HERE + np.array([1.0, -2.0]) * 0.11)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=2))
def test_an_array_with_a_number_that_is_not_finite_is_dropped(values: list[float]) -> None:
    controller = ForwardController(NAMES, HERE, velocity=False)
    good = bool(np.isfinite(values).all())
    try:
        controller.take(values, NOW)
    except Rejected:
        assert not good
        assert controller.reference(NOW, HERE, 0.01).tolist() == HERE.tolist()
        controller.take([0.3, 0.4], NOW)
        assert controller.reference(NOW, HERE, 0.01).tolist() == [0.3, 0.4]
    else:
        assert good
        assert controller.reference(NOW, HERE, 0.01).tolist() == values


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("velocity", [False, True])
def test_an_array_of_another_length_deactivates_the_controller(
    values: list[float], velocity: bool
) -> None:
    controller = ForwardController(NAMES, HERE, velocity=velocity)
    controller.take([0.3, 0.4], NOW)
    moved = controller.reference(NOW, HERE, 0.01).tolist()
    with pytest.raises(Rejected, match=f"{len(values)} numbers, expected 2.*deactivated"):
        controller.take(values, NOW)
    with pytest.raises(Rejected, match="was deactivated"):
        controller.take([0.5, 0.6], NOW)
    assert controller.reference(NOW + 10_000_000, HERE, 0.01).tolist() == moved
