"""Recorded and said again, compared."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.bags import BagMessage
from rl_robot.bags.cdr import image_bytes, numbers_bytes, pose_bytes, trajectory_bytes
from rl_robot.errors import UserError
from rl_robot.evaluation.replayed import (
    Comparison,
    check_tolerated,
    contents,
    exceeded,
    parse_tolerance,
)
from rl_robot.evaluation.replayed_actions import EXECUTED_ACTION, actions_alone, with_executed
from rl_robot.evaluation.replayed_plot import save_replay_plot
from rl_robot.evaluation.replayed_tables import replay_tables
from rl_robot.evaluation.tables import as_text
from rl_robot.robots.cartesian import Motion

NUMBERS = "sensor_msgs/msg/JointState"
POSE = "geometry_msgs/msg/PoseStamped"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
PICTURE = "sensor_msgs/msg/Image"
SECOND = 1_000_000_000


def numbers(at: int, topic: str = "reward", **values: float) -> BagMessage:
    return BagMessage(topic, NUMBERS, at, 0, numbers_bytes(values, at))


def trajectory(at: int, ends: list[float], source: str = "policy") -> BagMessage:
    path = np.linspace(0.0, 1.0, 3)[1:, None] * np.array(ends)
    motion = Motion(("a", "b"), np.array([0.05, 0.1]), path)
    return BagMessage("safety/command", TRAJECTORY, at, 0, trajectory_bytes(motion, at, source))


def compared(recorded: list[BagMessage], again: list[BagMessage]) -> dict[str, Any]:
    comparison = Comparison()
    topics = sorted({message.topic for message in (*recorded, *again)})
    comparison.add("bag", topics, recorded, again, start_ns=SECOND)
    return comparison.figures()


# --- matching ----------------------------------------------------------------------------------


def test_messages_are_matched_by_their_place_in_time() -> None:
    recorded = [numbers(SECOND * i, total=float(i)) for i in (1, 2, 3)]
    again = [numbers(SECOND * i, total=float(i)) for i in (4, 3, 2)]
    figures = compared(recorded, again)["topics"]["reward"]
    counts = {key: figures[key] for key in ("recorded", "again", "matched")}
    assert counts == {"recorded": 3, "again": 3, "matched": 2}
    assert (figures["only_recorded"], figures["only_again"], figures["other"]) == (1, 1, 0)
    assert figures["components"]["total"]["largest"] == 0.0


def test_several_messages_of_one_place_are_matched_in_their_order() -> None:
    recorded = [numbers(SECOND, total=value) for value in (1.0, 2.0)]
    figures = compared(recorded, [*recorded, numbers(SECOND, total=9.0)])["topics"]["reward"]
    assert (figures["matched"], figures["only_again"]) == (2, 1)
    assert figures["components"]["total"]["largest"] == 0.0


def test_the_largest_difference_says_where_it_is() -> None:
    recorded = [numbers(SECOND * i, total=0.0, jerk=1.0) for i in (1, 2, 3)]
    again = [numbers(SECOND * i, total=e, jerk=1.0) for i, e in ((1, 0.3), (2, -0.4), (3, 0.0))]
    total = compared(recorded, again)["topics"]["reward"]["components"]["total"]
    assert total["largest"] == pytest.approx(0.4)
    assert total["rms"] == pytest.approx(0.5 / math.sqrt(3))
    assert (total["bag"], total["at_s"]) == ("bag", 1.0)


# --- contents ----------------------------------------------------------------------------------


def test_a_trajectory_is_its_end_and_its_way_and_its_source() -> None:
    found = contents(trajectory(SECOND, [0.2, 0.4]))
    assert found.words == ("policy", "a", "b")
    assert found.numbers["a end"] == 0.2
    assert found.numbers["duration"] == pytest.approx(0.1)
    np.testing.assert_allclose(found.numbers["points"], [[0.1, 0.2], [0.2, 0.4]])


def test_another_source_is_other_contents() -> None:
    figures = compared([trajectory(SECOND, [0.0, 0.1])], [trajectory(SECOND, [0.0, 0.2], "hold")])
    (safety,) = figures["topics"].values()
    assert (safety["matched"], safety["other"]) == (1, 1)
    assert safety["components"]["b end"]["largest"] == pytest.approx(0.1)


def test_a_held_pose_differs_by_its_age() -> None:
    def pose(seen: int) -> BagMessage:
        raw = pose_bytes(seen, "base", (0.1, 0.2, 0.3), (0.0, 0.0, 0.0, 1.0))
        return BagMessage("perception/block/pose", POSE, 2 * SECOND, 0, raw)

    (figures,) = compared([pose(2 * SECOND)], [pose(SECOND)])["topics"].values()
    assert figures["components"]["age"]["largest"] == pytest.approx(1.0)
    assert figures["components"]["x"]["largest"] == 0.0


def test_pictures_are_compared_by_their_pixels() -> None:
    old, new = np.zeros((2, 4, 3, 3), np.uint8)
    new[1, 2, 0] = 7
    said = [BagMessage("p", PICTURE, 1, 0, image_bytes(rgb, 1, "camera")) for rgb in (old, new)]
    (figures,) = compared(said[:1], said[1:])["topics"].values()
    assert figures["components"]["pixels"]["largest"] == 7.0
    assert figures["components"]["pixels"]["rms"] == pytest.approx(7.0 / 6.0)
    smaller = BagMessage("p", PICTURE, 1, 0, image_bytes(old[:2], 1, "camera"))
    (figures,) = compared(said[:1], [smaller])["topics"].values()
    assert figures["other"] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_no_difference_but_counts(value: float) -> None:
    figures = compared([numbers(1, a=0.0)], [numbers(1, a=value)])
    assert figures["topics"]["reward"]["other"] == 1
    json.dumps(figures, allow_nan=False)
    assert compared([numbers(1, a=value)], [numbers(1, a=value)])["topics"]["reward"]["other"] == 0


def test_a_number_on_one_side_only_counts() -> None:
    figures = compared([numbers(1, a=0.0)], [numbers(1, a=0.0, b=0.0)])
    assert figures["topics"]["reward"]["other"] == 1


@given(st.binary(max_size=64), st.sampled_from([NUMBERS, POSE, TRAJECTORY, PICTURE]))
def test_a_message_of_any_bytes_is_compared_or_counted(data: bytes, kind: str) -> None:
    raw = b"\0\1\0\0" + bytes(8) + data
    strange = BagMessage("topic", kind, 1, 0, raw)
    figures = compared([strange], [strange])
    assert figures["topics"]["topic"]["matched"] == 1
    json.dumps(figures, allow_nan=False)


VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(VALUES, st.integers(0, 7), st.floats(1e-3, 1e3))
def test_one_changed_number_is_found_with_its_size(
    values: list[float], which: int, by: float
) -> None:
    which %= len(values)
    recorded = [numbers(SECOND * (i + 1), total=v) for i, v in enumerate(values)]
    same = compared(recorded, recorded)["topics"]["reward"]
    assert (same["only_recorded"], same["only_again"], same["other"]) == (0, 0, 0)
    assert same["components"]["total"]["largest"] == same["components"]["total"]["rms"] == 0.0
    again = list(recorded)
    again[which] = numbers(SECOND * (which + 1), total=values[which] + by)
    found = compared(recorded, again)["topics"]["reward"]["components"]["total"]
    assert found["largest"] == pytest.approx(by, rel=1e-6)
    assert found["rms"] == pytest.approx(found["largest"] / math.sqrt(len(values)))
    assert found["at_s"] == which


# --- pooled, printed, drawn --------------------------------------------------------------------


def pooled() -> Comparison:
    comparison = Comparison()
    for bag, error in (("one", 0.1), ("two", 0.2)):
        recorded = [numbers(SECOND * (i + 1), total=float(i)) for i in range(3)]
        again = [numbers(SECOND * (i + 1), total=i + error * (i == 2)) for i in range(3)]
        comparison.add(bag, ["reward"], recorded, again, start_ns=SECOND)
    return comparison


def test_bags_are_pooled() -> None:
    figures = pooled().figures({"reward": [0.001, 0.003]})
    assert figures["bags"] == ["one", "two"]
    reward = figures["topics"]["reward"]
    assert reward["matched"] == 6
    assert reward["components"]["total"]["bag"] == "two"
    assert reward["components"]["total"]["rms"] == pytest.approx(math.sqrt(0.05 / 6))
    latency = figures["latency"]["reward"]
    assert (latency["answers"], latency["p50_ms"], latency["largest_ms"]) == (2, 2.0, 3.0)


def test_the_tables_say_what_differs_most_first() -> None:
    figures = pooled().figures({"reward": [0.001]})
    text = "\n".join(map(as_text, replay_tables(figures)))
    assert "reward  total      0.2      0.0913  2.0 s  two" in text
    assert "1.00" in text


def test_equal_recordings_have_no_table_of_differences() -> None:
    figures = compared([numbers(1, a=1.0)], [numbers(1, a=1.0)])
    assert len(replay_tables(figures)) == 1


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    save_replay_plot(pooled(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"plot .*no number was both"):
        save_replay_plot(Comparison(), tmp_path / "none.png")


# --- tolerance ---------------------------------------------------------------------------------


def test_a_tolerance_holds_for_all_topics_but_those_with_one_of_their_own() -> None:
    figures = pooled().figures()
    assert exceeded(figures, {}) == []
    assert exceeded(figures, parse_tolerance("0.2001")) == []
    (line,) = exceeded(figures, parse_tolerance("0.15"))
    assert line == "reward: total differs by 0.2, more than 0.15, at 2.0 s of two"
    assert exceeded(figures, parse_tolerance("0,reward=1")) == []


def test_a_tolerance_for_what_nobody_says_is_refused() -> None:
    check_tolerated(parse_tolerance("0,reward=1"), ["reward", "policy/action"])
    with pytest.raises(UserError, match="nobody who runs again says 'rewrad': expected one of re"):
        check_tolerated(parse_tolerance("0,rewrad=1"), ["reward", "policy/action"])


def test_a_tolerance_is_exceeded_where_something_was_not_tested() -> None:
    comparison = Comparison()
    assert exceeded(comparison.figures(), {}) == []
    assert exceeded(comparison.figures(), {"": 1.0}) == ["nothing was compared"]
    comparison.add("one", ["reward"], [numbers(1, a=0.0)], [numbers(1, a=0.0)])
    assert exceeded(comparison.figures(), {"": 0.0}) == []
    comparison.left_out.append("two")
    assert comparison.figures()["left_out"] == ["two"]
    assert exceeded(comparison.figures(), {"": 0.0}) == ["two: left out"]
    assert exceeded(comparison.figures(), {}) == []


def test_messages_on_one_side_are_beyond_any_tolerance() -> None:
    figures = compared([numbers(1, a=0.0)], [numbers(2, a=0.0)])
    lines = exceeded(figures, {"": 1e9})
    assert lines == ["reward: 1 messages recorded only", "reward: 1 messages said again only"]


def test_executed_actions_are_judged_only_where_they_are_named() -> None:
    old, new = (numbers(1, EXECUTED_ACTION, x=value) for value in (0.0, 1.0))
    same = numbers(1, total=1.0)
    figures = compared([old, same], [new, same])
    assert exceeded(figures, parse_tolerance("0")) == []
    assert exceeded(figures, parse_tolerance(f"{EXECUTED_ACTION}=0.5"))


def test_a_policys_actions_are_compared_with_those_executed() -> None:
    recorded = [numbers(1, "policy/action", x=0.5, version=3.0), numbers(1, total=1.0)]
    again = [numbers(1, "policy/action", x=0.25, version=0.0, explore=0.0), numbers(1, total=1.0)]
    figures = compared(*with_executed(recorded, again, {1: [1.0]}, ["x"]))["topics"]
    assert figures[EXECUTED_ACTION]["components"]["x"]["largest"] == 0.75
    assert figures["policy/action"]["other"] == 1
    alone = [actions_alone(messages, ["x"]) for messages in (recorded, again)]
    figures = compared(*alone)["topics"]
    assert figures["policy/action"]["other"] == 0
    assert set(figures["policy/action"]["components"]) == {"x"}
    assert figures["reward"]["components"]["total"]["largest"] == 0.0


@pytest.mark.parametrize("text", ["a", "-1", "nan", "inf", "=1", "reward=", "reward=x"])
def test_a_tolerance_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a number, 0 or more, or topic=number"):
        parse_tolerance(text)
