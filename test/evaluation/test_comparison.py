"""Policies are compared on the same starts, in pairs, and the same numbers come out either way."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_robot.evaluation.comparison import compare, comparison, contestants, groups, tally
from rl_robot.evaluation.episodes import Outcome
from rl_robot.evaluation.statistics import ratio_of_means

Steps = int | None  # to success; None for a failure


def outcome(index: int, steps: Steps, *, run: str = "a", **changes: Any) -> Outcome:
    result = "truncated" if steps is None else "success"
    meta = synthetic.metadata(index, changes.pop("outcome", result), steps or 60, **changes)
    path = Path(run) / "episodes" / f"episode_{index:06d}"
    return Outcome(meta, path, 0.1 * (steps or 60), 10**18)


def attempts(steps: Sequence[Steps], **changes: Any) -> list[Outcome]:
    return [outcome(index, count, **changes) for index, count in enumerate(steps)]


def trials(name: str, steps: Sequence[Steps], **changes: Any) -> list[Outcome]:
    extra = {"role": "test", "stage": f"test {name}"}
    return attempts(steps, policy=f"runs/x/policies/{name}.safetensors", extra=extra, **changes)


tries = st.lists(st.one_of(st.none(), st.integers(1, 60)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=100)
@given(tries)
def test_a_policy_is_as_quick_as_itself(steps: list[Steps]) -> None:
    found = compare(attempts(steps), attempts(steps))
    solved = sum(s is not None for s in steps)
    assert (found["both"], found["neither"]) == (solved, len(steps) - solved)
    assert found["only_first"] == found["only_second"] == 0
    if not solved:
        assert found["steps"] is None
    else:
        assert found["steps"]["ratio"] == 1.0
        assert found["steps"]["interval"] == ([1.0, 1.0] if solved > 1 else None)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=2, max_size=40))
def test_exchanging_the_two_gives_the_inverse(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    found, turned = ratio_of_means(first, second), ratio_of_means(second, first)
    assert found.interval.low <= found.ratio <= found.interval.high
    ratios = [b / a for a, b in pairs]
    assert min(ratios) - 1e-9 <= found.ratio <= max(ratios) + 1e-9
    assert found.ratio * turned.ratio == pytest.approx(1.0)
    assert found.interval.low * turned.interval.high == pytest.approx(1.0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0.5, 60), min_size=2, max_size=40), st.floats(0.1, 10))
def test_a_constant_factor_is_found_without_doubt(first: list[float], factor: float) -> None:
    found = ratio_of_means(first, [factor * value for value in first])
    assert found.ratio == pytest.approx(factor)
    assert (found.interval.low, found.interval.high) == pytest.approx((factor, factor))


@settings(deadline=None, max_examples=100)
@given(tries, tries, st.randoms())
def test_order_of_the_episodes_does_not_matter(
    first: list[Steps], second: list[Steps], random: Any
) -> None:
    ours, theirs = attempts(first), attempts(second)
    expected = compare(ours, theirs)
    random.shuffle(ours)
    random.shuffle(theirs)
    assert compare(ours, theirs) == expected
    counts = [expected[key] for key in ("both", "only_first", "only_second", "neither")]
    assert sum(counts) == expected["starts"] == min(len(first), len(second))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        hard = random.gamma(9.0, 1.0, 12)  # what makes a start long for both
        first = hard * random.gamma(40.0, 1 / 40, 12)
        second = 0.6 * hard * random.gamma(40.0, 1 / 40, 12)
        found = ratio_of_means(first, second)
        hits += found.interval.low <= 0.6 <= found.interval.high
    assert 0.93 < hits / 1000 < 0.97


@pytest.mark.parametrize(
    ("first", "second"), [([], []), ([1.0], [0.0]), ([1.0], [float("nan")]), ([1.0], [])]
)
def test_ratio_refuses_what_has_none(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="a ratio needs pairs of positive values"):
        ratio_of_means(first, second)


def test_only_starts_that_both_solve_are_timed() -> None:
    found = compare(attempts([40, 30, None, 20, None]), attempts([20, 15, 7, None, None]))
    assert found["starts"] == 5
    assert (found["both"], found["neither"]) == (2, 1)
    assert (found["only_first"], found["only_second"]) == (1, 1)
    assert found["steps"] == {
        "first": 35.0,
        "second": 17.5,
        "ratio": 0.5,
        "interval": [0.5, 0.5],
        "n": 2,
        "starts": 2,
    }
    assert found["seconds"]["first"] == 3.5


def test_broken_episodes_are_no_tries_and_the_last_try_counts() -> None:
    first = [*attempts([10, 20]), outcome(1, 12), outcome(0, 5, outcome="broken")]
    found = compare(first, attempts([10, 12]))
    assert found["steps"]["first"] == 11.0
    assert tally(first)["broken"] == 1
    assert tally(first)["episodes"] == 3


def test_session_tests_are_the_contestants_in_their_order() -> None:
    episodes = [
        *trials("learned", [20, 22]),
        *trials("demonstrator", [40, None]),
        *trials("imitation", [39, 41]),
        *attempts([50], extra={"role": "exploration", "stage": "explore 1"}),
    ]
    found = comparison(episodes)
    assert found is not None
    assert [c["name"] for c in found["contestants"]] == ["demonstrator", "imitation", "learned"]
    assert [(p["first"], p["second"]) for p in found["pairs"]] == [
        ("demonstrator", "learned"),
        ("imitation", "learned"),
        ("demonstrator", "imitation"),
    ]
    assert found["pairs"][0]["steps"]["ratio"] == 0.5
    json.dumps(found, allow_nan=False)


def test_runs_are_paired_within_themselves() -> None:
    """The demonstrator of one session is no measure for the policy learned in another."""
    episodes = [
        *trials("demonstrator", [40, 20], run="a"),
        *trials("learned", [20, 10], run="a"),
        *trials("demonstrator", [60, 60], run="b"),
        *trials("learned", [30, None], run="b"),
    ]
    found = comparison(episodes)
    assert found is not None
    (pair,) = found["pairs"]
    assert (pair["starts"], pair["both"]) == (4, 3)
    assert (pair["steps"]["n"], pair["steps"]["starts"]) == (3, 2)
    assert pair["steps"]["ratio"] == 0.5
    assert len(groups(episodes)) == 2


def test_sessions_of_one_policy_each_are_compared_on_their_common_starts() -> None:
    episodes = [*attempts([40, 42], run="a"), *attempts([20, 21, 9], run="b", policy="p")]
    found = comparison(episodes)
    assert found is not None
    assert [c["name"] for c in found["contestants"]] == ["script", "p"]
    assert found["pairs"][0]["starts"] == 2
    assert list(contestants(episodes)) == ["script", "p"]


def test_nothing_to_compare() -> None:
    assert comparison(attempts([40, 42])) is None
    apart = attempts([40]) + attempts([20], split="train", policy="p")
    assert comparison(apart) is None
    assert comparison(attempts([40]) + attempts([20], task="reach", policy="p")) is None
    alone = comparison(trials("demonstrator", [40, None]))
    assert alone is not None
    assert alone["pairs"] == []
    assert alone["contestants"][0]["success_rate"] == 0.5
