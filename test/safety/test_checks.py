"""What is refused, and for which reason; everything else comes back in the robot's order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.robots.cartesian import Motion
from rl_robot.safety.checks import CommandRefused, RawCommand, check_command

JOINTS = ("pan", "lift", "grip")
NOW = 10_000_000_000
REASONS = {
    "empty",
    "unknown_joint",
    "duplicate_joint",
    "missing_joint",
    "shape",
    "non_finite",
    "times",
    "future",
    "stale",
}


def check(received_age: float = 0.01, **changes: Any) -> Motion:
    good: dict[str, Any] = {
        "source": "policy",
        "stamp_ns": NOW - 50_000_000,
        "names": ("lift", "grip", "pan"),
        "times": (0.05, 0.1),
        "positions": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
    }
    return check_command(
        RawCommand(**(good | changes)),
        joints=JOINTS,
        now_ns=NOW,
        received_age=received_age,
        max_age=0.25,
        max_received_age=0.25,
        max_future=0.01,
    )


def test_a_good_command_comes_back_in_the_robots_order() -> None:
    motion = check()
    assert motion.names == JOINTS
    np.testing.assert_array_equal(motion.times, [0.05, 0.1])
    np.testing.assert_array_equal(motion.positions, [[3.0, 1.0, 2.0], [6.0, 4.0, 5.0]])


@pytest.mark.parametrize("skew_ns", [9_000_000, -249_000_000])
def test_stamps_just_inside_the_window_pass(skew_ns: int) -> None:
    assert check(stamp_ns=NOW + skew_ns).names == JOINTS


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        ({"names": ()}, "empty", "it names no joints"),
        ({"times": (), "positions": []}, "empty", "it holds no points"),
        ({"positions": np.empty((2, 0))}, "empty", "it holds no points"),
        ({"names": ("lift", "grip", "tail")}, "unknown_joint", "no joint is called 'tail'"),
        ({"names": ("lift", "grip", 3)}, "unknown_joint", "no joint is called 3"),
        ({"names": ("lift", "grip", ["pan"])}, "unknown_joint", r"no joint is called \['pan'\]"),
        ({"names": ("a",) * 9}, "unknown_joint", "'a', 'a', 'a', 'a', 'a' and 4"),
        (
            {"names": ("lift", "grip", "pan", "lift")},
            "duplicate_joint",
            "it names 'lift' more than",
        ),
        ({"names": ("lift", "pan")}, "missing_joint", "it lacks 'grip'"),
        ({"positions": [[1.0, 2.0]] * 2}, "shape", r"positions \(2, 2\) do not fit"),
        ({"positions": [[1.0, 2.0, 3.0]]}, "shape", r"positions \(1, 3\) do not fit"),
        ({"positions": [1.0, 2.0, 3.0]}, "shape", r"positions \(3,\) do not fit"),
        ({"positions": [[1.0, 2.0, 3.0], [1.0]]}, "shape", "not a regular array"),
        ({"positions": [["a", "b", "c"]] * 2}, "shape", "its positions are not numbers"),
        ({"positions": [[None] * 3] * 2}, "shape", "its positions are not numbers"),
        ({"positions": [[True] * 3] * 2}, "shape", "its positions are not numbers"),
        ({"positions": [[1j] * 3] * 2}, "shape", "its positions are not numbers"),
        ({"times": 0.1}, "shape", "do not fit"),
        ({"times": np.arange(1, 1002) * 0.01, "positions": np.zeros((1001, 3))}, "shape", "1001 p"),
        ({"positions": [[1.0, 2.0, np.nan]] * 2}, "non_finite", "a position that is nan"),
        ({"positions": [[1.0, 2.0, -np.inf]] * 2}, "non_finite", "a position that is -inf"),
        ({"times": (0.05, np.nan)}, "non_finite", "a time that is nan"),
        ({"times": (0.05, np.inf)}, "non_finite", "a time that is inf"),
        ({"times": (-0.05, 0.1)}, "times", "it starts 0.05 s before now"),
        ({"times": (0.1, 0.1)}, "times", "do not increase"),
        ({"times": (0.1, 0.05)}, "times", "do not increase"),
        ({"times": (0.1, 1e308)}, "times", r"it lasts 1e\+308 s"),
        ({"times": (0.0,), "positions": [[1.0, 2.0, 3.0]]}, "times", "it lasts 0 s"),
        ({"stamp_ns": NOW + 11_000_000}, "future", "0.011 s in the future"),
        ({"stamp_ns": 2**62}, "future", "in the future"),
        ({"stamp_ns": NOW - 251_000_000}, "stale", "capture 0.251 s ago, more than 0.25 s"),
        ({"stamp_ns": 0}, "stale", "capture 10.000 s ago"),
        ({"stamp_ns": None}, "stale", "not a time"),
        ({"stamp_ns": np.nan}, "stale", "not a time"),
        ({"stamp_ns": 10**400}, "stale", "not a time"),
        ({"received_age": 0.3}, "stale", "arrived 0.300 s ago"),
        ({"received_age": -0.1}, "stale", "arrived -0.100 s ago"),
        ({"received_age": np.nan}, "stale", "arrived nan s ago"),
    ],
)
def test_a_bad_command_is_refused_with_its_reason(
    changes: dict[str, Any], reason: str, text: str
) -> None:
    with pytest.raises(CommandRefused, match=text) as refusal:
        check(**changes)
    assert refusal.value.reason == reason
    assert refusal.value.text == str(refusal.value)


anything = st.recursive(
    st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
names = st.lists(st.one_of(st.sampled_from(JOINTS), anything), max_size=5)


@settings(max_examples=300)
@given(names, anything, anything, st.one_of(st.integers(), anything), st.floats())
def test_whatever_comes_in_is_a_usable_motion_or_refused(
    names: list[Any], times: Any, positions: Any, stamp_ns: Any, received_age: float
) -> None:
    outcome: Motion | CommandRefused
    try:
        outcome = check(
            received_age, names=names, times=times, positions=positions, stamp_ns=stamp_ns
        )
    except CommandRefused as refusal:
        outcome = refusal
    if isinstance(outcome, Motion):
        assert np.isfinite(outcome.positions).all()
    else:
        assert outcome.reason in REASONS
        assert "\n" not in outcome.text


@given(st.permutations(JOINTS), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_order_of_the_joints_means_the_same(order: list[str], points: int, seed: int) -> None:
    positions = np.random.default_rng(seed).normal(size=(points, 3))
    columns = [JOINTS.index(name) for name in order]
    motion = check(
        names=order, times=np.arange(1, points + 1) * 0.01, positions=positions[:, columns]
    )
    np.testing.assert_array_equal(motion.positions, positions)
