import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.errors import UserError
from rl_robot.experience.sources import Mixture, Source, apportion, parse_mixture

SOURCES = tuple(
    Source.parse(label)
    for label in (
        "demonstration/arm/reach",
        "demonstration/arm/grasp",
        "offline/arm/grasp",
        "online/arm/grasp",
        "online/crane/grasp",
    )
)


def shares(weights, size=100, sources=SOURCES):
    found = Mixture.of(weights).shares(size, sources)
    return [([str(source) for source in group], count) for group, count in found]


def test_a_source_is_read_back_from_its_label():
    assert [Source.parse(str(source)) for source in SOURCES] == list(SOURCES)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("online/arm", "expected kind/robot/task"),
        ("dreamt/arm/reach", "no kind of source: expected demonstration, offline, online"),
        ("online//reach", "'' cannot be part of a source"),
        ("online/*/reach", "cannot be part of a source"),
        (f"online/arm/{'x' * 300}", "1 to 200 characters"),
    ],
)
def test_what_is_no_source_is_refused(label, words):
    with pytest.raises(UserError, match=words):
        Source.parse(label)


def test_patterns_choose_by_kind_robot_and_task():
    assert shares({"demonstration/*/*": 0.5, "online/*/*": 0.5}) == [
        (["demonstration/arm/reach", "demonstration/arm/grasp"], 50),
        (["online/arm/grasp", "online/crane/grasp"], 50),
    ]
    assert shares({"*/crane/*": 3, "offline|online/arm/grasp": 1}) == [
        (["online/crane/grasp"], 75),
        (["offline/arm/grasp", "online/arm/grasp"], 25),
    ]


def test_a_pattern_without_data_gives_its_share_to_the_others():
    given = {"demonstration/*/*": 0.5, "online/*/*": 0.3, "offline/*/*": 0.2}
    assert [count for _, count in shares(given, sources=SOURCES[:2])] == [100]
    assert [count for _, count in shares(given, sources=SOURCES[2:])] == [60, 40]
    assert [count for _, count in shares({"online/*/*": 0, "*/mill/*": 1})] == [100]


def test_a_mixture_that_matches_nothing_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"online/mill/\* matches none .*: demonstration/arm/reach"):
        shares({"online/mill/*": 1.0})


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({}, "needs a pattern"),
        ({"online/*": 1.0}, "expected kind/robot/task"),
        ({"on*/*/*": 1.0}, "no kind of source"),
        ({"online/*/*": -1.0}, "should be 0 or more"),
        ({"online/*/*": float("nan")}, "should be 0 or more"),
    ],
)
def test_what_is_no_mixture_is_refused(weights, words):
    with pytest.raises(UserError, match=words):
        Mixture.of(weights)


@given(
    st.integers(0, 1000),
    st.lists(st.floats(0, 1e6).filter(lambda w: w == 0 or w > 1e-6), min_size=1, max_size=6),
)
def test_counts_sum_up_and_are_within_one_of_their_shares(size, weights):
    counts = apportion(size, weights)
    assert sum(counts) == size
    total = sum(weights)
    for count, weight in zip(counts, weights, strict=True):
        share = size * weight / total if total else size / len(weights)
        assert abs(count - share) < 1 + 1e-6


def test_the_largest_remainders_are_rounded_up_and_of_equal_ones_the_first():
    assert apportion(10, [0.55, 0.45]) == [6, 4]  # 5.5 and 4.5
    assert apportion(7, [1, 1, 1]) == [3, 2, 2]
    assert apportion(10, [0.14, 0.37, 0.49]) == [1, 4, 5]


def test_a_mixture_is_read_from_text() -> None:
    text = " demonstration/*/*=1, offline|online/arm/*=3 ,"
    assert parse_mixture(text) == {"demonstration/*/*": 1.0, "offline|online/arm/*": 3.0}
    assert parse_mixture("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("online/*/*", "expected kind/robot/task=weight"),
        ("online/*/*=many", "expected kind/robot/task=weight"),
        ("online/*/*=1,online/*/*=2", "said twice"),
        ("onlin/*/*=1", "no kind of source"),
        ("online=1", "is no pattern of sources"),
        ("online/*/*=-1", "should be 0 or more"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_mixture(text)
