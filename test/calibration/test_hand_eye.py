"""The closed form finds what it is made from; motion that does not determine it is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_views import pose
from scipy.spatial.transform import Rotation

from rl_robot.calibration.hand_eye import check_motion, solve_closed_form, turn_spread
from rl_robot.calibration.views import inverse, transform
from rl_robot.errors import UserError


@given(seed=st.integers(0, 2**31), count=st.integers(4, 12), scale=st.floats(0.5, 2.0))
def test_exact_poses_give_exactly_what_they_are_made_from(
    seed: int, count: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    x, z = pose(random, 1.0), pose(random, 1.0)
    a = np.array([pose(random, 1.0) for _ in range(count)])
    b = inverse(z) @ a @ x
    b[:, :3, 3] /= scale
    found = solve_closed_form(a, b)
    np.testing.assert_allclose(found.x, x, atol=1e-6)
    np.testing.assert_allclose(found.z, z, atol=1e-6)
    assert found.scale == pytest.approx(scale, abs=1e-6)


def turned_about(axes: list[list[float]], angles: np.ndarray) -> np.ndarray:
    """Return hands turned about the axes in turn."""
    random = np.random.default_rng(0)
    start = pose(random, 1.0)
    return np.array(
        [
            transform(Rotation.from_rotvec(np.array(axes[i % len(axes)]) * angle).as_matrix(), s)
            @ start
            for i, (angle, s) in enumerate(zip(angles, random.normal(size=(99, 3)), strict=False))
        ]
    )


@given(seed=st.integers(0, 2**31))
def test_turns_about_one_axis_only_are_refused_whatever_the_axis(seed: int) -> None:
    axis = np.random.default_rng(seed).normal(size=3)
    hands = turned_about([(axis / np.linalg.norm(axis)).tolist()], np.linspace(-1.0, 1.0, 15))
    with pytest.raises(UserError, match="Tilt the hand about other axes as well"):
        check_motion(hands)


def test_no_turn_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="Tilt the hand"):
        check_motion(turned_about([[0.0, 0.0, 1.0]], np.zeros(10)))


def test_turns_about_two_axes_will_do_and_small_ones_are_advised_on() -> None:
    axes = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert check_motion(turned_about(axes, np.linspace(-0.6, 0.6, 20))) == []
    [advice] = check_motion(turned_about(axes, np.linspace(-0.2, 0.2, 20)))
    assert "tilt it further about others" in advice


def test_the_axis_is_named_in_the_base_frame() -> None:
    _, axis = turn_spread(turned_about([[0.6, 0.0, 0.8]], np.linspace(-0.5, 0.5, 9)))
    assert abs(axis @ [0.6, 0.0, 0.8]) == pytest.approx(1.0)


def test_too_few_poses_are_refused() -> None:
    with pytest.raises(UserError, match=r"5 pictures .* at least 6 are needed"):
        check_motion(turned_about([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], np.linspace(-1, 1, 5)))
