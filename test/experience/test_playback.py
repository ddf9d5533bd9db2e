"""The order in which a bag is played, and where answers are waited for."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from rl_robot.bags import BagMessage
from rl_robot.experience.playback import Again, Await, Span, play, ticks_of

# In a bag all of a tick is in the order of the table of topics, not in that in which it came about.
OF_A_TICK = (
    "joint_states",
    "perception/ages",
    "policy/action",
    "policy/command",
    "safety/command",
    "reward",
    "episode/tick",
    "camera/image_raw",
)
SPAN = Span(100, 300)
TICKS = [100, 200, 300]
PICTURES = "camera/image_raw"


def said(topic: str, at: int) -> BagMessage:
    return BagMessage(topic, "", at, 0, b"")


def recording() -> list[BagMessage]:
    messages = [said(topic, tick) for tick in TICKS for topic in OF_A_TICK]
    messages += [said("joint_states", at) for at in (50, 150, 250, 350)]
    messages += [said("safety/command", 250), said("episode", 100), said("episode", 300)]
    return sorted(messages, key=lambda message: message.log_ns)


def played(*nodes: str) -> list[BagMessage | Await]:
    left = [m for m in recording() if m.topic != "perception/ages" or "perception" not in nodes]
    return list(play(left, TICKS, SPAN, Again(frozenset(nodes), PICTURES)))


def place(items: list[BagMessage | Await], what: BagMessage | Await) -> int:
    return items.index(what)


def test_a_tick_is_played_as_it_came_about() -> None:
    items = played("perception", "policy", "reward", "safety")
    first = [
        said(PICTURES, 100),
        Await("perception", 100),
        said("episode", 100),
        Await("policy", 100),
        said("policy/command", 100),
        said("episode/tick", 100),
        Await("safety", 100),
        said("safety/command", 100),
        said("joint_states", 150),
    ]
    places = [place(items, item) for item in first]
    assert places == sorted(places)


def test_the_end_is_said_when_the_last_tick_was_judged() -> None:
    items = played("reward", "policy", "safety")
    assert place(items, Await("reward", 300)) < place(items, said("episode", 300))
    # There is nothing to do any more at the tick on which the episode ended, and nothing yet to
    # judge at the one on which it began.
    awaited = {(item.node, item.tick_ns) for item in items if isinstance(item, Await)}
    assert awaited == {
        *(("policy", tick) for tick in (100, 200)),
        *(("safety", tick) for tick in (100, 200)),
        *(("reward", tick) for tick in (200, 300)),
    }


def test_what_was_executed_between_two_ticks_stays_there() -> None:
    items = played("policy")
    assert place(items, Await("policy", 200)) < place(items, said("safety/command", 250))
    assert place(items, said("safety/command", 250)) < place(items, said("joint_states", 300))


def test_a_tick_without_picture_is_not_waited_for_by_perception() -> None:
    messages = [said("joint_states", 100), said("joint_states", 200), said(PICTURES, 200)]
    items = play(messages, [100, 200], SPAN, Again(frozenset({"perception"}), PICTURES))
    assert [item for item in items if isinstance(item, Await)] == [Await("perception", 200)]


def test_safety_answers_what_was_asked_for() -> None:
    messages = [said("policy/command", 100), said("joint_states", 200)]
    alone = play(messages, [100, 200], SPAN, Again(frozenset({"safety"})))
    assert [item.tick_ns for item in alone if isinstance(item, Await)] == [100]
    asked = list(play(messages, [100, 200], SPAN, Again(frozenset({"policy", "safety"}))))
    assert Await("safety", 200) in asked


def test_without_ticks_all_is_played() -> None:
    assert list(play(recording(), [], Span(0, 0), Again(frozenset()))) == recording()


NODES = st.sets(st.sampled_from(["perception", "policy", "reward", "safety"]))
ANYTHING = st.lists(
    st.tuples(st.sampled_from([*OF_A_TICK, "episode", "goal"]), st.integers(0, 40)), max_size=40
)


@given(ANYTHING, st.sets(st.integers(0, 40), max_size=6), NODES)
def test_each_message_is_played_once_and_none_before_an_earlier_tick_is_answered(
    spoken: list[tuple[str, int]], ticks: set[int], nodes: set[str]
) -> None:
    messages = sorted((said(*one) for one in spoken), key=lambda message: message.log_ns)
    again = Again(frozenset(nodes), PICTURES)
    items = list(play(messages, sorted(ticks), Span(10, 30), again))
    heard = [item for item in items if isinstance(item, BagMessage)]
    assert sorted(heard) == sorted(messages)
    times = [item.tick_ns if isinstance(item, Await) else item.log_ns for item in items]
    assert times == sorted(times)
    # Within a topic nothing overtakes.
    for _, same in groupby(sorted(heard, key=lambda m: m.topic), key=lambda m: m.topic):
        stamps = [message.log_ns for message in same]
        assert stamps == sorted(stamps)


def test_ticks_are_those_recorded_else_pictures_a_period_apart() -> None:
    assert ticks_of([3, 1, 3], [1, 2, 3], 5) == [1, 3]
    assert ticks_of([], [0, 33, 66, 100, 133, 189], 90) == [0, 100]
    assert ticks_of([], [], 90) == []
