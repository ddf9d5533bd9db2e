"""Facts of bags whose rates, gaps and delays are known, as JSON, as text and as a picture."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.bags import BagReader, EpisodeMetadata, EpisodeWriter
from rl_robot.errors import UserError
from rl_robot.evaluation.bag_info import (
    GAP,
    BagFacts,
    TopicFacts,
    _gaps,
    as_json,
    as_lines,
    as_page,
    bag_facts,
)
from rl_robot.evaluation.bag_timeline import save_timeline

MS = 1_000_000
START = 10_000 * MS
WALL = 10**18
JOINT_STATE = "sensor_msgs/msg/JointState"
NOTE = "std_msgs/msg/String"


class Maker:
    """Writes a bag, message by message."""

    def __init__(self, path: Path, topics: dict[str, str]) -> None:
        self._writer = EpisodeWriter(path, topics)
        self._told: list[tuple[int, str, bytes, int]] = []

    def say(
        self, topic: str, log_ns: int, *, stamp_ns: int | None = None, behind_ns: int = 0
    ) -> None:
        """Say a number that is stamped when it is logged, if not otherwise."""
        stamp = log_ns if stamp_ns is None else stamp_ns
        raw = synthetic.numbers("reward", stamp, {"total": log_ns * 1e-9})
        self.say_raw(topic, log_ns, raw, WALL + log_ns + behind_ns)

    def say_raw(self, topic: str, log_ns: int, raw: bytes, publish_ns: int = WALL) -> None:
        self._told.append((log_ns, topic, raw, publish_ns))

    def facts(self, metadata: EpisodeMetadata | None = None) -> BagFacts:
        for log_ns, topic, raw, publish_ns in sorted(self._told, key=lambda told: told[0]):
            self._writer.write(topic, raw, log_ns, publish_ns)
        return bag_facts(BagReader(self._writer.close(metadata)))


def topic_of(facts: BagFacts, name: str) -> TopicFacts:
    return next(topic for topic in facts.topics if topic.name == name)


def strict(facts: BagFacts) -> Any:
    """As JSON and back, by a parser that knows no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(json.dumps(as_json(facts)), parse_constant=refuse)


# --- facts ---------------------------------------------------------------------------------------


def test_counts_rates_and_sizes(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"fast": JOINT_STATE, "slow": JOINT_STATE, "once": NOTE})
    for i in range(101):
        made.say("fast", START + i * 10 * MS)
    for i in range(5):
        made.say("slow", START + i * 200 * MS)
    note = synthetic.serialize("robot_description", data="hello")
    made.say_raw("once", START + 500 * MS, note)
    facts = made.facts()
    assert [topic.name for topic in facts.topics] == ["fast", "once", "slow"]
    fast, once, slow = facts.topics
    assert (fast.count, once.count, slow.count) == (101, 1, 5)
    assert (fast.rate, slow.rate) == (pytest.approx(100.0), pytest.approx(5.0))
    assert (fast.longest, slow.longest) == (pytest.approx(0.01), pytest.approx(0.2))
    assert np.isnan(once.rate)
    assert np.isnan(once.longest)
    assert (once.size, once.type) == (len(note), NOTE)
    assert (facts.start_ns, facts.seconds) == (START, pytest.approx(1.0))
    assert facts.size == sum(file.stat().st_size for file in (tmp_path / "bag").iterdir())
    assert facts.metadata is None
    assert not len(once.behind)  # a type without stamps


def test_silences_longer_than_the_rhythm_allows(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"topic": JOINT_STATE})
    lost = {20, 50, 51, 52, 80, 81}  # one message is too few for a gap, two and three are enough
    for i in range(100):
        if i not in lost:
            made.say("topic", START + i * 10 * MS)
    [topic] = made.facts().topics
    gaps = ((topic.gaps - START) / (10 * MS)).tolist()
    assert gaps == [[49.0, 53.0], [79.0, 82.0]]
    assert topic.longest == pytest.approx(0.04)


@given(
    period=st.integers(5, 50),
    lengths=st.lists(st.integers(1, 12), min_size=20, max_size=60),
)
def test_gaps_are_silences_of_two_and_a_half_periods_and_more(
    period: int, lengths: list[int]
) -> None:
    most_steady = [1] * (3 * len(lengths)) + lengths
    times = np.cumsum([0, *(length * period for length in most_steady)])
    expected = [[times[i], times[i + 1]] for i, length in enumerate(most_steady) if length > GAP]
    assert _gaps(times).tolist() == expected


def test_what_has_no_rhythm_has_no_gaps(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"few": JOINT_STATE, "odd": JOINT_STATE})
    for at in (0, 10, 20, 30, 900):
        made.say("few", START + at * MS)
    for i in range(12):
        made.say("odd", START + 2**i * MS)
    facts = made.facts()
    assert [topic.gaps.tolist() for topic in facts.topics] == [[], []]


def test_how_far_behind_each_topic_is(tmp_path: Path) -> None:
    made = Maker(
        tmp_path / "bag", {"camera": JOINT_STATE, "policy": JOINT_STATE, "motor": JOINT_STATE}
    )
    for i in range(100):
        now = START + i * 10 * MS
        made.say("camera", now)
        made.say("policy", now, behind_ns=(30 if i == 99 else 3) * MS)
        made.say("motor", now, stamp_ns=0, behind_ns=4 * MS)  # to a controller: start now
    facts = made.facts()
    assert not topic_of(facts, "camera").behind.any()
    policy = topic_of(facts, "policy").behind
    assert policy[:99] == pytest.approx(0.003)
    assert policy[99] == pytest.approx(0.03)
    assert np.isnan(topic_of(facts, "motor").behind).all()
    told = {one["topic"]: one["behind"] for one in strict(facts)["topics"]}
    assert told["motor"] is None
    assert told["camera"] == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert told["policy"]["p50"] == pytest.approx(0.003)
    assert told["policy"]["max"] == pytest.approx(0.03)


def test_rewards_by_their_totals(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"reward": JOINT_STATE})
    made.say("reward", START)
    made.say_raw("reward", START + 1, synthetic.numbers("reward", START + 1, {"other": 1.0}))
    made.say_raw("reward", START + 2, b"no reward")
    made.say_raw("reward", START + 3, b"")
    made.say("reward", START + 4)
    facts = made.facts()
    assert facts.rewards == ((START, START * 1e-9), (START + 4, (START + 4) * 1e-9))
    assert facts.topics[0].count == 5


def test_a_reward_of_another_type_is_no_reward(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"reward": NOTE})
    made.say_raw("reward", START, synthetic.serialize("robot_description", data="much"))
    assert made.facts().rewards == ()


def test_times_beyond_all_stamps_are_refused(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"topic": JOINT_STATE})
    made.say_raw("topic", 2**64 - 1, b"\0\1\0\0")
    with pytest.raises(UserError, match="topic: a message was recorded 18446744073709551615 ns"):
        made.facts()


# --- shown ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> BagFacts:
    path = tmp_path_factory.mktemp("run") / "episode_000007"
    told = synthetic.metadata(7, "broken", 12, reason="node 'policy' died")
    return bag_facts(BagReader(synthetic.write_episode(path, told)))


@pytest.fixture
def empty(tmp_path: Path) -> BagFacts:
    return Maker(tmp_path / "empty", {"reward": JOINT_STATE, "note": NOTE}).facts()


def test_json_holds_all_and_no_number_that_is_none(episode: BagFacts) -> None:
    told = strict(episode)
    assert told["metadata"]["outcome"] == "broken"
    assert told["seconds"] == pytest.approx(1.2)
    assert told["bytes"] == episode.size
    topics = {one["topic"]: one for one in told["topics"]}
    assert topics.keys() == set(synthetic.TYPES)
    assert topics["joint_states"]["messages"] == 121
    assert topics["joint_states"]["rate"] == pytest.approx(100.0)
    assert topics["diagnostics"] == {
        "topic": "diagnostics",
        "type": "diagnostic_msgs/msg/DiagnosticArray",
        "messages": 0,
        "bytes": 0,
        "rate": None,
        "longest_silence": None,
        "gaps": [],
        "behind": None,
    }
    assert topics["safety/command"]["behind"]["p50"] > 0


def test_json_of_messages_at_one_instant(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"topic": JOINT_STATE})
    for _ in range(12):
        made.say("topic", START)
    told = strict(made.facts())
    assert told["topics"][0]["rate"] is None
    assert told["topics"][0]["longest_silence"] == 0.0
    assert told["seconds"] == 0.0


def test_a_page_of_one_bag(episode: BagFacts) -> None:
    page = as_page(episode).splitlines()
    assert "episode_000007: " in page[0]
    assert page[0].endswith("1.20 s from 10.000 s")
    assert page[1] == (
        "episode 7: grasp on arm, policy script version 1, test start 7, seed 0: "
        "broken (node 'policy' died) after 12 steps"
    )
    [line] = [line for line in page if line.startswith("joint_states ")]
    assert line.split()[:5] == ["joint_states", JOINT_STATE, "121", "0.04", "100.0"]
    assert not any(line.startswith("gap: ") for line in page)


def test_a_page_names_gaps_by_when_they_began(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bag", {"topic": JOINT_STATE})
    for i in [*range(20), *range(30, 40)]:
        made.say("topic", START + i * 10 * MS)
    page = as_page(made.facts())
    assert "gap: topic was silent for 0.110 s from 0.190 s on" in page
    assert "no episode of ours: it says nothing of itself" in page


def test_a_line_per_bag(episode: BagFacts, empty: BagFacts) -> None:
    lines = as_lines([episode, empty]).splitlines()
    assert lines[0] == "2 bags"
    words = lines[-2].split()
    assert words[:7] == ["episode_000007", "grasp", "script", "test", "broken", "12", "1.20"]
    assert lines[-1].split()[:7] == ["empty", "–", "–", "–", "–", "–", "0.00"]


def test_an_empty_bag_is_shown(empty: BagFacts) -> None:
    assert (empty.start_ns, empty.seconds, empty.rewards) == (0, 0.0, ())
    told = strict(empty)
    assert [one["messages"] for one in told["topics"]] == [0, 0]
    assert "0 messages" in as_page(empty)


# --- the timeline --------------------------------------------------------------------------------


def drawn(facts: BagFacts, path: Path) -> np.ndarray:
    save_timeline(facts, path)
    picture = cv2.imread(str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert picture is not None
    return picture


def test_a_timeline_is_a_picture_with_a_row_per_topic(episode: BagFacts, tmp_path: Path) -> None:
    picture = drawn(episode, tmp_path / "timeline.png")
    height, width, _ = picture.shape
    assert width == 11 * 130
    assert 800 < height < 2000
    assert 0.001 < (picture < 128).any(axis=2).mean() < 0.5  # neither empty nor black


def test_gaps_are_amber(tmp_path: Path) -> None:
    def amber(name: str, places: list[int]) -> int:
        made = Maker(tmp_path / name, {"topic": JOINT_STATE})
        for i in places:
            made.say("topic", START + i * 10 * MS)
        picture = drawn(made.facts(), tmp_path / f"{name}.png").astype(int)
        blue, red = picture[..., 0], picture[..., 2]
        return int((red - blue > 60).sum())

    assert amber("gap", [*range(20), *range(60, 80)]) > 1000
    assert amber("whole", [*range(80)]) == 0


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_other_forms(episode: BagFacts, tmp_path: Path, form: str) -> None:
    save_timeline(episode, tmp_path / f"timeline.{form}")
    assert (tmp_path / f"timeline.{form}").stat().st_size > 5000


def test_a_single_message_is_drawn(tmp_path: Path) -> None:
    made = Maker(tmp_path / "$^{$", {"topic": JOINT_STATE})  # a name, no formula
    made.say("topic", START)
    assert drawn(made.facts(), tmp_path / "one.png").shape[1] == 11 * 130


def test_what_can_not_be_drawn_is_said(episode: BagFacts, empty: BagFacts, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--plot: .*empty holds no message"):
        save_timeline(empty, tmp_path / "empty.png")
    with pytest.raises(UserError, match=r"--plot .*a\.xyz: can't be written \(Format 'xyz'"):
        save_timeline(episode, tmp_path / "a.xyz")
    with pytest.raises(UserError, match=r"--plot .*a\.png: can't be written"):
        save_timeline(episode, tmp_path / "absent" / "a.png")
