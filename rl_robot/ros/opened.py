"""One bag, ready to be played to nodes that run again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rl_robot.errors import UserError
from rl_robot.experience.playback import TICKS, Again, Span, ticks_of
from rl_robot.experience.tape import Tape
from rl_robot.robots.description import Robot
from rl_robot.ros import topics
from rl_robot.ros.played import BY_EPISODES, playable
from rl_robot.ros.replayed_episode import ReplayedEpisode, replayed_episode
from rl_robot.tasks import Task

APART_NS = 1_000_000_000  # between two bags, where the second is not later anyway
_JITTER = 0.9  # periods between two pictures that are both ticks, at least


@dataclass(frozen=True)
class Opened:
    """What is played of a bag, ``later_ns`` after its own stamps.

    Attributes:
        tape: the bag.
        ticks: its control ticks, ns.
        rows: its topics that are played, by name.
        offers: these, and what else is said of it.
        episode: where somebody runs again who acts by it.
        span: what is compared, ns.
    """

    tape: Tape
    ticks: list[int]
    rows: dict[str, topics.Topic]
    offers: dict[str, topics.Topic]
    episode: ReplayedEpisode | None
    span: Span
    later_ns: int


@dataclass(frozen=True)
class Opener:
    """Opens bags, one after the other, for the same nodes.

    Attributes:
        again: who runs again.
        robot: what they are for; None when none do.
        task: likewise.
        names: of topics: see `Tape`.
        policy: who acts in place of the recorded policy; "": that one again.
    """

    again: Again
    robot: Robot | None = None
    task: Task | None = None
    names: Mapping[str, str] | None = None
    policy: str = ""

    def open(self, path: Path, number: int | None, said_until_ns: int) -> Opened:
        """Open a bag, to be played as episode ``number``, or as its own where that is None.

        ``said_until_ns``: newest stamp of the bags before; time never goes back.

        Raises:
            UserError: it can't be read, or those who run again can't do so on it.
        """
        tape = Tape(path, self.names)
        nodes = self.again.nodes
        interfaces = [one.topic for one in self.robot.interfaces] if self.robot else ()
        rows = playable(tape.types, nodes, interfaces)
        ticks = self._ticks(tape)
        episode = None
        span = Span(ticks[0], ticks[-1] + 1) if ticks else Span(0, 0)
        offers = dict(rows)
        if nodes & BY_EPISODES:
            episode = self._episode(tape, ticks, number)
            span = episode.span
            offers |= {row.name: row for row in _said_of_it(safety="safety" in nodes)}
        late = said_until_ns + APART_NS - ticks[0] if ticks and said_until_ns else 0
        return Opened(tape, ticks, rows, offers, episode, span, max(0, late))

    def _ticks(self, tape: Tape) -> list[int]:
        looks = [self.again.pictures] if "perception" in self.again.nodes else []
        between_ns = round(_JITTER * self.task.period_ns) if self.task else 0
        stamps, pictures = (
            [message.log_ns for message in tape.messages(names)] for names in ([TICKS], looks)
        )
        return ticks_of(stamps, pictures, between_ns)

    def _episode(self, tape: Tape, ticks: list[int], number: int | None) -> ReplayedEpisode:
        assert self.robot is not None
        assert self.task is not None
        nodes = self.again.nodes
        episode = replayed_episode(tape, ticks, number, self.policy, self.robot, self.task)
        for node, needed, source in (
            ("reward", topics.SAFETY_COMMAND, "safety"),
            ("safety", topics.POLICY_COMMAND, "policy"),
        ):
            if node in nodes and source not in nodes and needed.name not in tape.types:
                raise UserError(f"{node} can't run again on {tape.path}: no {needed.name} in it")
        return episode


def _said_of_it(*, safety: bool) -> tuple[topics.Topic, ...]:
    """Return what the player says of an episode, in the bag or not."""
    begun = (topics.JOINT_STATES, topics.RESET_COMMAND) if safety else (topics.SAFETY_COMMAND,)
    return topics.EPISODE, topics.EPISODE_TICK, *begun
