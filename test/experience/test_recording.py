"""Which messages belong to an episode: by stamp, whatever the order of arrival."""

from collections.abc import Sequence
from functools import cache

import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import PERIOD_NS, Sent

from rl_robot.experience.recording import EpisodeCut, Record
from rl_robot.experience.topic_rules import topic_rules

START_NS = 10_000_000_000
WALL_NS = 10**18
STEPS = 6
END_NS = START_NS + STEPS * PERIOD_NS
RULES = topic_rules(synthetic.TYPES, synthetic.CONTROLLERS)


@cache
def timeline() -> tuple[Sent, ...]:
    """Ticks before, in and after an episode of STEPS steps, in the order of publication."""
    sent = []
    for step in range(-4, STEPS + 5):
        sent += synthetic.small_step(START_NS + step * PERIOD_NS, WALL_NS + step * 6_000_000)
    return tuple(sent)


def cut(
    messages: Sequence[Sent], begin_after: int, end_after: int, hold: float | None = None
) -> tuple[EpisodeCut, list[Record]]:
    """Feed the messages; the news of begin and end come after so many of them."""
    episode = EpisodeCut(RULES, hold=hold)
    records = []
    for count, sent in enumerate(messages):
        if count == begin_after:
            episode.begin(START_NS)
        if count == end_after:
            episode.end(END_NS, now=0.0)
        records += episode.add(sent.topic, sent.raw, sent.publish_ns)
    if begin_after >= len(messages):
        episode.begin(START_NS)
    if end_after >= len(messages):
        episode.end(END_NS, now=0.0)
    return episode, records + episode.finish()


def expected() -> list[tuple[str, int, bytes]]:
    kept = []
    for sent in timeline():
        last = END_NS if RULES[sent.topic].kind == "sensor" else END_NS - 1
        if START_NS <= sent.stamp_ns <= last:
            kept.append((sent.topic, sent.stamp_ns, sent.raw))
    return kept


@st.composite
def arrivals(draw: st.DrawFn) -> list[Sent]:
    """The timeline as another process may receive it: every topic in order, topics interleaved."""
    random = draw(st.randoms(use_true_random=False))
    lag = {topic: random.uniform(0, 20e6) for topic in synthetic.TYPES}
    queues = [(sent.publish_ns + lag[sent.topic], i) for i, sent in enumerate(timeline())]
    return [timeline()[i] for _, i in sorted(queues)]


@settings(max_examples=60, deadline=None)
@given(messages=arrivals(), begin_at=st.floats(0, 1), end_at=st.floats(0, 1))
def test_order_of_arrival_does_not_matter(
    messages: list[Sent], begin_at: float, end_at: float
) -> None:
    n = len(messages)
    begin = int(begin_at * n)
    end = begin + int(end_at * (n + 1 - begin))
    _, records = cut(messages, begin, max(end, begin))
    got = sorted((record.topic, record.log_ns, record.raw) for record in records)
    assert got == sorted(expected())


@settings(max_examples=60, deadline=None)
@given(messages=arrivals(), begin_at=st.floats(0, 1), end_at=st.floats(0, 1))
def test_what_is_held_for_less_lacks_nothing_and_counts_what_is_beyond_the_end(
    messages: list[Sent], begin_at: float, end_at: float
) -> None:
    """The news of the end may be late: only then something from beyond it is there, and counted."""
    n = len(messages)
    begin = int(begin_at * n)
    end = max(begin + int(end_at * (n + 1 - begin)), begin)
    episode, records = cut(messages, begin, end, hold=2 * PERIOD_NS * 1e-9)
    got = sorted((record.topic, record.log_ns, record.raw) for record in records)
    surplus = list(got)
    for one in expected():
        surplus.remove(one)  # everything that belongs is there
    assert episode.beyond == len(surplus)
    for topic, stamp_ns, _ in surplus:
        sensor = RULES[topic].kind == "sensor"
        assert stamp_ns > END_NS if sensor else stamp_ns >= END_NS
    said = max(sent.stamp_ns for sent in messages[: max(end, 1)])
    if said <= END_NS + 2 * PERIOD_NS:  # the news came in time
        assert not surplus


def test_while_it_is_recorded_little_is_held_back_and_before_much_is_kept() -> None:
    """A killed recorder takes along what is held; what the start's news overtook must be there."""
    episode = EpisodeCut(RULES, window=2.0, hold=0.2)
    written: list[Record] = []
    for step in range(15):
        for sent in synthetic.small_step(START_NS + step * PERIOD_NS, WALL_NS + step * 6_000_000):
            written += episode.add(sent.topic, sent.raw, sent.publish_ns)
        if step == 8:
            episode.begin(START_NS)
    newest = START_NS + 14 * PERIOD_NS
    rewards = [record.log_ns for record in written if record.topic == "reward"]
    assert rewards == list(range(START_NS, newest - 2 * PERIOD_NS, PERIOD_NS))
    assert episode.bounds == (START_NS, None)


def test_what_surely_belongs_is_not_held_back() -> None:
    """Once a tick is acted on the episode reaches to the next: what is stamped before is given."""
    rules = topic_rules([*synthetic.TYPES, "episode/tick"], synthetic.CONTROLLERS)
    episode = EpisodeCut(rules, window=2.0, hold=5.0, decisions="episode/tick")
    episode.begin(START_NS)
    given: list[Record] = []
    for step in range(6):
        tick_ns = START_NS + step * PERIOD_NS
        for sent in synthetic.small_step(tick_ns, WALL_NS + step * 6_000_000):
            given += episode.add(sent.topic, sent.raw, sent.publish_ns)
        latest = {record.log_ns for record in given if record.topic == "reward"}
        assert max(latest, default=START_NS - PERIOD_NS) == tick_ns - PERIOD_NS  # as was decided
        if step == 5:
            break  # the last tick is judged, and not acted on
        decided = synthetic.numbers("safety/margins", tick_ns, {"id": 1.0})
        given += episode.add("episode/tick", decided, WALL_NS + step * 6_000_000 + 5_000_000)
        assert max(r.log_ns for r in given if r.topic == "reward") == tick_ns
        assert max(r.log_ns for r in given) < tick_ns + PERIOD_NS
    episode.end(START_NS + 5 * PERIOD_NS, now=0.0)
    assert episode.beyond == 0


def test_a_message_later_than_the_hold_is_written_when_it_comes() -> None:
    episode = EpisodeCut(RULES, window=2.0, hold=0.2)
    sent = [
        one
        for step in range(8)
        for one in synthetic.small_step(START_NS + step * PERIOD_NS, WALL_NS + step * 6_000_000)
    ]
    late = next(one for one in sent if one.topic == "policy/action")
    episode.begin(START_NS)
    for one in sent:
        if one is not late:
            episode.add(one.topic, one.raw, one.publish_ns)
    assert [r.raw for r in episode.add(late.topic, late.raw, late.publish_ns)] == [late.raw]


def test_an_episode_that_is_given_up_leaves_the_next_one_alone() -> None:
    episode, _ = cut(timeline(), 20, 200)
    episode.begin(START_NS + 20 * PERIOD_NS)
    episode.abandon()
    assert not episode.recording
    episode.begin(START_NS + 40 * PERIOD_NS)
    assert episode.bounds == (START_NS + 40 * PERIOD_NS, None)


def test_records_come_in_the_order_of_their_stamps() -> None:
    _, records = cut(timeline(), 20, 200)
    stamps = [record.log_ns for record in records]
    assert stamps == sorted(stamps)
    assert len(stamps) == len(expected())


def test_long_episode_is_written_while_it_goes_on() -> None:
    episode = EpisodeCut(RULES, window=0.5)
    written: list[Record] = []
    for step in range(20):
        for sent in synthetic.small_step(START_NS + step * PERIOD_NS, WALL_NS + step * 6_000_000):
            written += episode.add(sent.topic, sent.raw, sent.publish_ns)
        if step == 0:
            episode.begin(START_NS)
    assert max(record.log_ns for record in written) >= START_NS + 13 * PERIOD_NS


def test_complete_waits_for_each_topic_of_the_episode() -> None:
    late = ("camera/image_raw", "safety/margins")
    last = {"sensor": END_NS, "command": END_NS - PERIOD_NS}
    messages = [s for s in timeline() if s.stamp_ns <= last[RULES[s.topic].kind]]
    final = {"camera/image_raw": END_NS, "safety/margins": END_NS - PERIOD_NS}
    held_back = [s for s in messages if final.get(s.topic) == s.stamp_ns]
    episode = EpisodeCut(RULES, grace=0.05, timeout=1.0)
    for count, sent in enumerate(s for s in messages if s not in held_back):
        if count == 100:
            episode.begin(START_NS)
        episode.add(sent.topic, sent.raw, sent.publish_ns)
    assert not episode.complete(now=5.0)  # it has not ended
    episode.end(END_NS, now=5.0)
    assert sorted(episode.missing()) == sorted(late)
    assert not episode.complete(now=5.5)
    assert episode.complete(now=6.0)  # a topic that died is not waited for for ever
    for sent in held_back:
        episode.add(sent.topic, sent.raw, sent.publish_ns)
    assert episode.missing() == []
    assert not episode.complete(now=5.01)
    assert episode.complete(now=5.06)


def test_what_came_after_the_end_begins_the_next_episode() -> None:
    episode, first = cut(timeline(), 20, len(timeline()))
    episode.begin(END_NS + PERIOD_NS)
    episode.end(END_NS + 3 * PERIOD_NS, now=0.0)
    second = episode.finish()
    rewards = [r.log_ns for r in first + second if r.topic == "reward"]
    assert rewards == list(range(START_NS, END_NS + 4 * PERIOD_NS, PERIOD_NS))


def test_latched_topics_give_their_newest_value_to_every_episode() -> None:
    rules = topic_rules(["joint_states", "goal", "robot_description"], ())
    episode = EpisodeCut(rules)

    def hear(topic: str, raw: bytes) -> list[Record]:
        return episode.add(topic, raw, WALL_NS)

    def goal(stamp_ns: int) -> bytes:
        return synthetic.pose("perception/block/pose", stamp_ns, 0.4, 0.0, 0.1)

    description = synthetic.serialize("robot_description", data="<robot/>")
    hear("robot_description", description)
    hear("goal", goal(START_NS - 9 * PERIOD_NS))
    hear("goal", goal(START_NS - 5 * PERIOD_NS))
    for number in range(2):
        start_ns = START_NS + number * 100 * PERIOD_NS
        hear("joint_states", synthetic.numbers("joint_states", start_ns, {}))
        episode.begin(start_ns)
        hear("robot_description", description)  # said again, which is no news
        hear("goal", goal(start_ns + PERIOD_NS))
        hear("goal", goal(start_ns + 9 * PERIOD_NS))  # of the next episode
        episode.end(start_ns + 2 * PERIOD_NS, now=0.0)
        records = [r for r in episode.finish() if r.topic != "joint_states"]
        assert [r.log_ns for r in records if r.raw == description] == [start_ns]
        goals = [(r.raw, r.log_ns) for r in records if r.topic == "goal"]
        before = START_NS - 5 * PERIOD_NS if number == 0 else START_NS + 9 * PERIOD_NS
        assert goals == [
            (goal(before), start_ns),
            (goal(start_ns + PERIOD_NS), start_ns + PERIOD_NS),
        ]


def test_health_is_placed_by_when_it_was_said() -> None:
    """Nodes stamp it by the wall clock, which in simulation is no time of the graph's."""
    messages = list(timeline())
    health = synthetic.status("diagnostics", WALL_NS, "policy", "", {})
    place = WALL_NS + 3 * 6_000_000 + 2_000_000  # in the control period of step 3
    messages.append(Sent("diagnostics", health, WALL_NS, place))
    _, records = cut(sorted(messages, key=lambda sent: sent.publish_ns), 20, 200)
    assert [r.log_ns for r in records if r.topic == "diagnostics"] == [START_NS + 3 * PERIOD_NS]


def test_clock_that_starts_again_between_episodes() -> None:
    episode, _ = cut(timeline(), 20, 200)
    for sent in synthetic.small_step(0, WALL_NS + 10**9):
        episode.add(sent.topic, sent.raw, sent.publish_ns)
    for sent in synthetic.small_step(PERIOD_NS, WALL_NS + 2 * 10**9):
        episode.add(sent.topic, sent.raw, sent.publish_ns)
    episode.begin(0)
    episode.end(PERIOD_NS, now=0.0)
    stamps = {r.log_ns for r in episode.finish() if r.topic == "reward"}
    assert stamps == {0, PERIOD_NS}


def test_messages_without_a_usable_stamp_are_dropped_and_counted() -> None:
    episode = EpisodeCut(RULES)
    episode.add("reward", b"\0\1\0\0", WALL_NS)
    episode.add("joint_states", synthetic.numbers("joint_states", START_NS, {}), WALL_NS)
    far = synthetic.numbers("policy/action", START_NS + 10**12, {})
    episode.add("policy/action", far, WALL_NS)
    controller = synthetic.CONTROLLERS[0]
    episode.add(controller, b"\0\1\0\0", WALL_NS)  # its node never said what it follows
    episode.begin(START_NS)
    episode.end(START_NS + PERIOD_NS, now=0.0)
    assert [r.topic for r in episode.finish()] == ["joint_states"]
    assert episode.dropped == {"malformed": 1, "future": 1, "nothing to follow": 1}


def test_episodes_do_not_nest() -> None:
    episode = EpisodeCut(RULES)
    with pytest.raises(ValueError, match="no episode is running"):
        episode.end(START_NS, now=0.0)
    episode.begin(START_NS)
    with pytest.raises(ValueError, match="finish the episode"):
        episode.begin(START_NS)
    with pytest.raises(ValueError, match="has not ended"):
        episode.finish()


@pytest.mark.parametrize(
    ("topic", "kind", "follows"),
    [
        ("camera/image_raw", "sensor", None),
        ("simulator/block/pose", "sensor", None),
        ("perception/block/pose", "sensor", "perception/ages"),
        ("reset/command", "command", None),
        ("safety/command", "command", None),
        ("arm_controller/joint_trajectory", "command", "safety/command"),
        ("goal", "latched", None),
    ],
)
def test_rules_follow_from_names(topic: str, kind: str, follows: str | None) -> None:
    rule = topic_rules([topic], synthetic.CONTROLLERS)[topic]
    assert (rule.kind, rule.anchor) == (kind, follows)


def test_a_controllers_twists_are_placed_by_when_they_were_sent() -> None:
    rules = topic_rules(["servo/twists", "arm/commands"], {"arm/commands"}, {"servo/twists"})
    assert (rules["servo/twists"].kind, rules["servo/twists"].stamped) == ("command", True)
    assert rules["servo/twists"].anchor is None
    assert rules["arm/commands"].anchor == "safety/command"


def test_a_topic_that_fell_silent_is_waited_for_and_named() -> None:
    """Heard in one episode and not in the next: it is late, or lost."""
    episode, _ = cut(timeline(), 20, 200)
    start = START_NS + 20 * PERIOD_NS
    sent = [
        sent
        for step in range(4)
        for sent in synthetic.small_step(start + step * PERIOD_NS, WALL_NS + 10**9 + step * 6000000)
    ]
    episode.begin(start)
    for one in sent:
        if one.topic != "reward":
            episode.add(one.topic, one.raw, one.publish_ns)
    episode.end(start + 2 * PERIOD_NS, now=0.0)
    assert episode.missing() == ["reward"]
    assert not episode.complete(0.5)
    assert episode.complete(2.0)
    episode.finish()
    assert episode.gaps(2) == ["reward (2 missing)"]


def test_a_whole_episode_has_no_gaps() -> None:
    episode, _ = cut(timeline(), 20, 200)
    assert episode.gaps(STEPS) == []
    assert episode.gaps(STEPS + 3) != []
