"""The order in which a bag is played to nodes that run again.

A bag holds messages by their stamps, and everything said of a tick has the tick's stamp: what the
policy asked for there and what safety made of it. In the graph the one came after the other. So a
tick is played as it came about, and the next one not before those who run again have answered it:
then what they say does not depend on how quick they are.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from rl_robot.bags import BagMessage

TICKS = "perception/ages"

# Nodes that can run again, with the topic that tells that they have answered a tick.
ANSWERS = {
    "perception": "perception/ages",
    "policy": "policy/action",
    "safety": "safety/command",
    "reward": "reward",
}

# What of a tick is said when: sensed first, and decided last that the episode is over.
_SENSED, _BEGUN, _ASKED, _DECIDED, _EXECUTED, _ENDED = range(6)
_ANSWERED_AFTER = {
    _SENSED: "perception",
    _BEGUN: "policy",
    _DECIDED: "safety",
    _EXECUTED: "reward",
}


@dataclass(frozen=True)
class Span:
    """When an episode ran: the stamps of its first tick and of the one on which it ended, ns."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Await:
    """Go on when this node has answered the tick."""

    node: str
    tick_ns: int


@dataclass(frozen=True)
class Again:
    """Who runs again, and by what its answers are expected.

    Attributes:
        nodes: by name, of ``ANSWERS``.
        pictures: the topic that perception looks at.
    """

    nodes: frozenset[str]
    pictures: str = ""


def ticks_of(stamps: Iterable[int], pictures: Iterable[int], between_ns: int) -> list[int]:
    """Return the control ticks of a bag, ns.

    Args:
        stamps: of ``perception/ages``; they are the ticks, where there are any.
        pictures: of pictures; else those are, but for such as come sooner.
        between_ns: time between two ticks, at least.
    """
    ticks = sorted(set(stamps))
    if ticks:
        return ticks
    for stamp in sorted(set(pictures)):
        if not ticks or stamp - ticks[-1] >= between_ns:
            ticks.append(stamp)
    return ticks


def play(
    messages: Iterable[BagMessage], ticks: Iterable[int], span: Span, again: Again
) -> Iterator[BagMessage | Await]:
    """Return what to say, and where to wait for answers.

    Args:
        messages: those that are played, in the order of their ``log_ns``.
        ticks: ns, in order.
        span: of the episode.
        again: who runs again.
    """
    coming = iter(messages)
    ahead = next(coming, None)
    for tick in ticks:
        here: list[BagMessage] = []
        while ahead is not None and ahead.log_ns <= tick:
            if ahead.log_ns < tick:
                yield ahead
            else:
                here.append(ahead)
            ahead = next(coming, None)
        yield from _tick(here, tick, span, again)
    while ahead is not None:
        yield ahead
        ahead = next(coming, None)


def _tick(
    messages: Collection[BagMessage], tick: int, span: Span, again: Again
) -> Iterator[BagMessage | Await]:
    said = {message.topic for message in messages}
    for stage in range(_ENDED + 1):
        yield from (message for message in messages if _stage(message, span) == stage)
        node = _ANSWERED_AFTER.get(stage)
        if node is not None and node in _answering(tick, said, span, again):
            yield Await(node, tick)


def _stage(message: BagMessage, span: Span) -> int:
    topic = message.topic
    if topic == "episode":
        return _BEGUN if message.log_ns <= span.start_ns else _ENDED
    if topic.startswith("safety/"):
        return _EXECUTED
    if topic.startswith("policy/") or topic.endswith("/command"):
        return _ASKED
    return _DECIDED if topic in ("reward", "episode/tick") else _SENSED


def _answering(tick: int, said: Collection[str], span: Span, again: Again) -> set[str]:
    """Return those who run again and have something to answer at a tick."""
    running = span.start_ns <= tick < span.end_ns
    asked = "policy" in again.nodes or "policy/command" in said
    answering = {
        "perception": again.pictures in said,
        "policy": running,
        "safety": running and asked,
        "reward": span.start_ns < tick <= span.end_ns,
    }
    return {node for node in again.nodes if answering[node]}
