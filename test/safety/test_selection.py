"""Which of several sampled actions is taken."""

from collections.abc import Callable

import numpy as np
import pytest

from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import load_robot
from rl_robot.robots.kinematics import Kinematics
from rl_robot.safety.chain import make_filter
from rl_robot.safety.selection import SafeSelection, unsafe

ROBOT = load_robot("arm")
HOME = ROBOT.home_positions
STILL = np.zeros_like(HOME)


def selection(candidates: int) -> SafeSelection:
    return SafeSelection(make_filter(ROBOT, period=0.1), candidates=candidates)


def sampler(*goals: np.ndarray) -> Callable[[], np.ndarray]:
    left = list(goals)
    return lambda: left.pop(0)


def motion_to(goal: np.ndarray) -> Motion:
    return Motion(ROBOT.joint_names, np.array([0.1]), goal[None])


def shifted(joint: int, by: float) -> np.ndarray:
    goal = HOME.copy()
    goal[joint] += by
    return goal


BEYOND = shifted(2, 5.0)  # the elbow far beyond its limit
BEYOND_TWICE = BEYOND + (shifted(3, 5.0) - HOME)


def test_the_first_safe_action_is_taken() -> None:
    choice = selection(8).choose(
        sampler(BEYOND, BEYOND, shifted(0, 0.01), HOME), motion_to, HOME, STILL
    )
    np.testing.assert_array_equal(choice.action, shifted(0, 0.01))
    np.testing.assert_array_equal(choice.motion.positions, shifted(0, 0.01)[None])
    assert (choice.tried, choice.rejected) == (3, 2)


def test_where_none_is_safe_the_least_bad_is_taken() -> None:
    choice = selection(3).choose(
        sampler(BEYOND_TWICE, BEYOND, BEYOND_TWICE), motion_to, HOME, STILL
    )
    np.testing.assert_array_equal(choice.action, BEYOND)
    assert (choice.tried, choice.rejected) == (3, 3)


def test_motion_that_is_only_made_smooth_is_not_rejected() -> None:
    wild = shifted(0, 0.2)  # 2 rad/s at once
    assert make_filter_interventions(wild) <= {"velocity", "acceleration", "jerk"}
    assert selection(4).choose(sampler(wild), motion_to, HOME, STILL).rejected == 0


def make_filter_interventions(goal: np.ndarray) -> set[str]:
    safety = make_filter(ROBOT, period=0.1)
    safety.reset(HOME)
    return {item.kind for item in safety.step(motion_to(goal)).interventions}


def test_random_motion_is_held_back_less() -> None:
    """Where constraints are near, other actions are found that they allow."""
    alone, chosen = _held_back(1), _held_back(16)
    assert alone > 0.1
    assert chosen < 0.5 * alone


def _held_back(candidates: int, walks: int = 20, steps: int = 12) -> float:
    """Return the part of the steps of random walks near the table in which a constraint held."""
    random, action_map = np.random.default_rng(0), CartesianAction(ROBOT)
    choose, safety = selection(candidates), make_filter(ROBOT, period=0.1)
    low = np.append(Kinematics(ROBOT).solve_ik((0.4, 0.0, 0.03), 0.0), 0.04)
    held = 0
    for _ in range(walks):
        safety.reset(low)
        for _ in range(steps):
            positions, velocities, _ = safety.state

            def propose(action: np.ndarray, reference: np.ndarray = positions) -> Motion:
                return action_map.to_motion(reference, action)

            choice = choose.choose(
                lambda: random.uniform(-1.0, 1.0, 5), propose, positions, velocities
            )
            held += bool(unsafe(safety.step(choice.motion)))
    return held / (walks * steps)


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates"):
        selection(0)
