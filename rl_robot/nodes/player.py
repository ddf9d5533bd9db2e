"""player: recorded episodes back into the graph, and what nodes say again beside what was recorded.

Topics of nodes that run again are left out, so that, say, a new perception sees the old pictures
and nobody hears two of them. A tick is not played before those who run again have answered the one
before, so that what they say does not depend on the rate, nor on the machine. What of a bag is
played, and why nothing of it moves a robot, is said in `ros/played.py`.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.publisher import Publisher
from rosbags.serde import SerdeError

from rl_robot.bags import BagMessage
from rl_robot.bags.messages import starts_with_stamp
from rl_robot.errors import UserError
from rl_robot.evaluation.replayed import (
    Comparison,
    check_tolerated,
    exceeded,
    parse_tolerance,
)
from rl_robot.evaluation.replayed_actions import (
    EXECUTED_ACTION,
    POLICY_ACTION,
    actions_alone,
    with_executed,
)
from rl_robot.evaluation.replayed_tables import replay_tables
from rl_robot.evaluation.tables import as_text
from rl_robot.experience.playback import Await, play
from rl_robot.experience.runs import write_json
from rl_robot.experience.tape import Tape, named_bags, parse_names, restamped
from rl_robot.policies import LEARNED
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.answers import Answers
from rl_robot.ros.messages import status_values
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.opened import Opened, Opener
from rl_robot.ros.parameters import read_parameters
from rl_robot.ros.played import PRIVATE, is_private, offered
from rl_robot.ros.replayed_episode import prologue, start_positions
from rl_robot.tasks import load_task
from rl_robot.training.executed import executed_actions

START_TIMEOUT = 30.0  # s for the nodes that run again to come up and to be heard by
SETTLING = 0.05  # s for what is said before a bag to arrive everywhere
LISTENED = 0.5  # s for the last messages to reach whoever listens
END_WAIT = 2.0  # s for the last answers to arrive, at most
LOOK_AGAIN = 0.02  # s between two looks for them
AT_A_TIME = 0.05  # s of playing between two looks at signals
BEYOND = 1  # exit status when something differs by more than the tolerance

Condition = Callable[[], bool]


@dataclass(frozen=True)
class Parameters:
    """Parameters of the player node."""

    bag: str = ""  # bags, runs or folders of bags, by comma
    rate: float = 1.0  # factor of real time; 0: as fast as the nodes that run again keep up
    robot: str = ""  # the one that the nodes that run again are for; empty when none do
    task: str = ""
    policy: str = ""  # who acts in place of the recorded one; empty: that one again
    remap: str = ""
    compare: str = ""  # file for the figures
    plot: str = ""  # and for a picture
    tolerance: str = ""
    patience: float = 5.0  # s of wall time that a node's answer to a tick is waited for


class PlayerNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("player")
        self._given = given = read_parameters(self, Parameters)
        if not 0.0 <= given.rate < float("inf"):
            raise UserError(f"rate {given.rate} must be above 0, or 0 for as fast as it goes")
        self._again = frozenset(self.session_nodes) - {"player"}
        if "safety" in self._again and not is_private(self.get_namespace()):
            raise UserError(
                f"the safety node runs again only in a namespace .../{PRIVATE}, where nobody "
                f"drives a robot, not in {self.get_namespace()}: use replay.launch.py"
            )
        self._robot = load_robot(given.robot) if given.robot else None
        self._task = load_task(given.task) if given.task else None
        self._bags = named_bags(given.bag)
        self._tolerances = parse_tolerance(given.tolerance)
        if self._again and (self._robot is None or self._task is None):
            raise UserError("nodes that run again need a robot and a task")
        self._answers = Answers(self, self._again, self._robot, self._task)
        names = parse_names(given.remap)
        self._opener = Opener(
            self._answers.again, self._robot, self._task, names, policy=given.policy
        )
        check_tolerated(self._tolerances, self._compared())
        self._comparison = Comparison()
        self._outputs: dict[str, Publisher] = {}
        self._deaf: dict[str, str] = {}  # node that came up -> its topics that some node misses
        self._lacks: dict[str, str] = {}
        self._unanswered: Counter[str] = Counter()  # ticks by node
        self._in_a_row: Counter[str] = Counter()
        self._anchor = (0.0, 0)  # wall time, s, at which messages of this log time are due
        self._end_ns = 0  # stamps that were said so far
        self._count = 0
        self._wall = 0.0  # s of playing
        self._work = self._play_all()
        self._condition: Condition | None = None
        self.listen(topics.DIAGNOSTICS, self._take_health, depth=10)
        self.every(0.001, self._advance)

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = status_values(status)
            self._deaf[status.name] = values.get("undiscovered", "")
            self._lacks[status.name] = values.get("lacks", "")

    def _listeners(self, topic: topics.Topic, publisher: Publisher) -> int:
        """Count those who are to hear a publisher of this node, which does not hear itself."""
        del publisher
        return topic.listeners([node for node in self.session_nodes if node != "player"])

    # --- playing ---------------------------------------------------------------------------

    def _advance(self) -> None:
        """Go on until there is something to wait for."""
        until = time.monotonic() + AT_A_TIME
        self._answers.hear()
        while self._condition is None or self._condition():
            if time.monotonic() > until:
                return
            self._condition = next(self._work, None)
            if self._condition is None:
                return
            self._answers.hear()

    def _play_all(self) -> Iterator[Condition]:
        several = len(self._bags) > 1
        for number, path in enumerate(self._bags):
            try:
                bag = self._open(path, number if several else None)
            except UserError as error:
                if not several:
                    raise
                self._comparison.left_out.append(path.name)
                self._print(f"left out: {error}")
                continue
            for name, row in bag.offers.items():
                self._offer(name, row)
            yield self._acquainted()
            began, count = time.monotonic(), self._count
            yield from self._play(bag)
            took = time.monotonic() - began
            self._wall += took
            yield from self._compare(bag)
            if several:
                played = f"{self._count - count} messages in {took:.1f} s"
                self._print(f"{number + 1} of {len(self._bags)}   {path}   {played}")
        if not self._count:
            raise UserError("there was nothing to play")
        self._report()

    def _open(self, path: Path, number: int | None) -> Opened:
        bag = self._opener.open(path, number, self._end_ns)
        acting = bag.episode.phases[0].policy if bag.episode else ""
        if "policy" in self._again and acting in ("", LEARNED):
            raise UserError(
                f"{path} does not hold the policy that acted: give policy:=script, or a file"
            )
        return bag

    def _offer(self, name: str, row: topics.Topic) -> None:
        if name not in self._outputs:
            self._outputs[name] = self.publisher(offered(row, name, self._robot, self._task))

    def _acquainted(self) -> Condition:
        """Return whether the nodes that run again are up and hear the player and each other."""
        deadline = time.monotonic() + START_TIMEOUT

        def ready() -> bool:
            absent = self._again - self._deaf.keys()
            deaf = (self._deaf.get(node, "") for node in self._again)
            unheard = {*self.undiscovered(), *deaf} - {""}
            if (absent or unheard) and time.monotonic() > deadline:
                if absent:
                    raise UserError(f"{', '.join(sorted(absent))} did not come up")
                missed = ", ".join(sorted(unheard))
                raise UserError(f"a node that runs again does not hear {missed}")
            return not (absent or unheard)

        return ready

    def _play(self, bag: Opened) -> Iterator[Condition]:
        self._answers.begin()
        names = set(bag.rows)
        of_it: list[BagMessage] = []
        if bag.episode is not None:
            yield from self._begin(bag)
            of_it = bag.episode.messages()
            names -= {message.topic for message in of_it}
        messages = heapq.merge(bag.tape.messages(names), of_it, key=lambda m: m.log_ns)
        self._anchor = (0.0, 0)
        for item in play(messages, bag.ticks, bag.span, self._answers.again):
            if isinstance(item, Await):
                yield from self._wait(item, bag.later_ns)
                continue
            if self._due(item.log_ns) > time.monotonic():
                yield _reached(self._due(item.log_ns))
            self._say(item, bag.later_ns)
            self._end_ns = max(self._end_ns, item.log_ns + bag.later_ns)
            self._count += 1

    def _begin(self, bag: Opened) -> Iterator[Condition]:
        """Say how the episode had begun."""
        assert self._robot is not None
        assert self._task is not None
        assert bag.episode is not None
        positions = start_positions(bag.tape, self._robot)
        safety = "safety" in self._again
        if positions is None or not (safety or topics.SAFETY_COMMAND.name in bag.tape.types):
            return
        for message in prologue(bag.episode, positions, self._robot, self._task, safety=safety):
            self._say(message, bag.later_ns)
        if safety:
            began = Await("safety", bag.span.start_ns - self._task.period_ns)
            yield from self._wait(began, bag.later_ns)
        yield _reached(time.monotonic() + SETTLING)

    def _due(self, log_ns: int) -> float:
        """Return the wall time at which a message is due, s of the steady clock."""
        if not self._given.rate:
            return 0.0
        if not self._anchor[1]:
            self._anchor = (time.monotonic(), log_ns)
        wall, at_ns = self._anchor
        return wall + (log_ns - at_ns) * 1e-9 / self._given.rate

    def _say(self, message: BagMessage, later_ns: int) -> None:
        raw = restamped(message.raw, later_ns) if starts_with_stamp(message.type) else message.raw
        self._answers.note_said(message.topic)
        self._outputs[message.topic].publish(raw)

    def _wait(self, awaited: Await, later_ns: int) -> Iterator[Condition]:
        """Wait for a node's answer; less long each time that it gives none."""
        node, stamp = awaited.node, awaited.tick_ns + later_ns
        patience = self._given.patience / 2 ** min(self._in_a_row[node], 10)
        deadline = time.monotonic() + patience
        yield lambda: self._answers.answered(node, stamp) or time.monotonic() > deadline
        if self._answers.answered(node, stamp):
            self._in_a_row[node] = 0
        else:
            self._in_a_row[node] += 1
            self._unanswered[node] += 1
            lacks = self._lacks.get(node)
            why = f": it lacks {lacks}" if lacks else ""
            self.problem(f"{node} did not answer a tick within {patience:.1f} s{why}")
        if self._given.rate and self._anchor[1] and time.monotonic() > self._due(awaited.tick_ns):
            self._anchor = (time.monotonic(), awaited.tick_ns)  # the rest follows at its pace

    # --- comparing -------------------------------------------------------------------------

    def _compare(self, bag: Opened) -> Iterator[Condition]:
        """Wait for what is still to come, and compare what was said with what was recorded."""
        tape = bag.tape
        if self._again and not bag.ticks:
            self._print(f"not compared: {tape.path} holds no control tick")
            self._comparison.left_out.append(tape.path.name)
        if not self._again or not bag.ticks:
            yield _reached(time.monotonic() + LISTENED)
            return
        overdue = _reached(time.monotonic() + END_WAIT)
        while not (overdue() or self._answers.complete(tape, bag.span, bag.later_ns)):
            yield _reached(time.monotonic() + LOOK_AGAIN)
        recorded = self._answers.recorded(tape)
        again = self._answers.said(bag.span, bag.later_ns)
        if "policy" in self._again:
            assert self._task is not None
            names = self._task.action_names
            if self._given.policy:  # another one's version says nothing
                recorded, again = actions_alone(recorded, names), actions_alone(again, names)
            recorded, again = with_executed(recorded, again, self._executed(tape), names)
        self._comparison.add(
            tape.path.name, self._compared(), recorded, again, start_ns=bag.span.start_ns
        )

    def _compared(self) -> list[str]:
        """Return what is compared: all that those who run again say, and what was executed."""
        compared = list(self._answers.topics)
        if "policy" in self._again:
            compared.insert(compared.index(POLICY_ACTION) + 1, EXECUTED_ACTION)
        return compared

    def _executed(self, tape: Tape) -> dict[int, list[float]]:
        """Return the actions that were executed in a bag, by stamp."""
        assert self._robot is not None
        assert self._task is not None
        start = start_positions(tape, self._robot)
        if start is None:
            return {}
        messages = tape.messages([topics.SAFETY_COMMAND.name])
        executed = executed_actions(messages, start, self._task, self._robot)
        try:
            return {stamp: action.tolist() for stamp, action in executed}
        except (ValueError, LookupError, SerdeError) as error:
            self.problem(f"{tape.path}: what was executed can't be read: {error}")
            return {}

    def _report(self) -> None:
        """Print the figures and write them down; end the process."""
        self._print(f"played {self._count} messages in {self._wall:.1f} s")
        self.exit_code = 0
        if not self._again:
            return
        given = self._given
        figures = {
            "rate": given.rate or "max",
            "nodes": sorted(self._again),
            "policy": given.policy or None,
            "messages": self._count,
            "wall_s": round(self._wall, 3),
            "unanswered": dict(self._unanswered),
            **self._comparison.figures(self._answers.latencies),
        }
        figures["exceeded"] = exceeded(figures, self._tolerances)
        self._print("\n" + "\n\n".join([*map(as_text, replay_tables(figures))]))
        for node, ticks in self._unanswered.items():
            self._print(f"{node} did not answer {ticks} ticks in time")
        if given.compare:
            try:
                write_json(Path(given.compare), figures)
            except OSError as error:
                raise UserError(f"compare {given.compare}: can't be written ({error})") from None
        if given.plot:
            from rl_robot.evaluation.replayed_plot import save_replay_plot  # takes a while

            save_replay_plot(self._comparison, Path(given.plot))
        for line in figures["exceeded"]:
            self._print(f"beyond the tolerance: {line}")
        self.exit_code = BEYOND if figures["exceeded"] else 0

    def close(self) -> None:
        """Say what was found so far, when the end comes early."""
        if self.exit_code is None and self._comparison.bags:
            done = len(self._comparison.bags) + len(self._comparison.left_out)
            self._comparison.left_out += [path.name for path in self._bags[done:]]
            self._report()

    def _print(self, text: str) -> None:
        print(text, flush=True)


def _reached(wall: float) -> Condition:
    """Return whether a time of the steady clock, in s, has come."""
    return lambda: time.monotonic() >= wall


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(PlayerNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
