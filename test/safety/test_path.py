"""Paths of several joints, side by side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.safety import compiled
from rl_robot.safety.path import JointPath, Path
from rl_robot.safety.planner import Bounds, Goal, JointPlanner

LIMITS = Bounds(-2.0, 2.0, 2.0, 10.0, 300.0)
PERIOD = 0.1
TIMES = np.linspace(0.0, 0.6, 61)
GOALS = st.tuples(*[st.floats(-1.5, 1.5)] * 3)


def towards(goals: tuple[float, ...], path: Path, time: float) -> Path:
    """Return the paths to goals from the states on a path at ``time``."""
    planner = JointPlanner(LIMITS, PERIOD)
    return Path.of(
        [
            planner.reach(state, planner.permitted(Goal(goal))) or path.after(time).joint(index)
            for index, (state, goal) in enumerate(zip(path.states(time), goals, strict=True))
        ]
    )


def resting() -> Path:
    return Path.of([JointPath.resting(0.0)] * 3)


@given(st.lists(st.tuples(GOALS, st.floats(0.0, 1.0), st.floats(0.0, 0.2)), max_size=6))
def test_a_blend_is_between_two_paths_at_any_time(
    periods: list[tuple[tuple[float, ...], float, float]],
) -> None:
    path = resting()
    for goals, share, time in periods:
        one, other = towards(goals, path, time), path.after(time)
        path = one.blend(other, share)
        for mine, first, second in zip(
            (*path.sample(TIMES), *path.changes(TIMES)),
            (*one.sample(TIMES), *one.changes(TIMES)),
            (*other.sample(TIMES), *other.changes(TIMES)),
            strict=True,
        ):
            np.testing.assert_allclose(mine, share * first + (1 - share) * second, atol=1e-6)
        velocities, (accelerations, _) = path.sample(TIMES)[1], path.changes(TIMES)
        assert np.abs(velocities).max() <= LIMITS.velocity + 1e-9
        assert np.abs(accelerations).max() <= LIMITS.acceleration + 1e-9


def test_a_path_that_is_blended_again_and_again_stays_small() -> None:
    path, sizes = resting(), []
    random = np.random.default_rng(0)
    for _ in range(60):
        goals = tuple(random.uniform(-1.5, 1.5, 3).tolist())
        path = towards(goals, path, PERIOD).blend(path.after(PERIOD), 0.4)
        sizes.append(len(path.joint(0).segments))
    assert max(sizes[30:]) <= max(sizes[:30]) + 10


@given(GOALS, st.floats(0.0, 0.3))
def test_what_is_left_of_a_path_is_the_path(goals: tuple[float, ...], time: float) -> None:
    path = towards(goals, resting(), 0.0)
    np.testing.assert_allclose(path.after(time).sample(TIMES), path.sample(time + TIMES), atol=1e-9)
    for index, state in enumerate(path.states(time)):
        assert path.joint(index).at(time) == pytest.approx(state, abs=1e-9)


def test_without_a_place_for_a_cache_each_process_compiles_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def njit(signatures: object, cache: bool = False) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.inlined(abs)(-1.0) == 1.0
    assert asked == [True, False]
