"""What a replay says of an episode, and what its bag does not hold: how it had begun.

A bag begins with the first tick of the running episode. Policy, reward and safety know from the
reset before it where the set points stood. The player says that in a tick before the first one:
they stood at home, where every reset leaves them, or in bags of others where the robot was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message, serialize_message

from rl_robot.bags import BagMessage
from rl_robot.bags.cdr import (
    joint_state_bytes,
    numbers_bytes,
    read_joint_state,
    read_numbers,
    trajectory_bytes,
)
from rl_robot.errors import UserError
from rl_robot.experience.playback import Span
from rl_robot.experience.tape import Tape
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.ros import topics
from rl_robot.ros.messages import stamp_ns, status_message, status_values
from rl_robot.supervision.session import ENDED, RESETTING, RUNNING, Episode
from rl_robot.tasks import Start, Task

_SUBSTEPS = 5  # points of the motion that holds still


@dataclass(frozen=True)
class ReplayedEpisode:
    """An episode as a replay says it.

    Attributes:
        span: of the running episode.
        phases: running and ended, as they are said.
        decisions: the messages of `episode/tick`.
    """

    span: Span
    phases: tuple[Episode, ...]
    decisions: tuple[BagMessage, ...]

    def messages(self) -> list[BagMessage]:
        """Return all that is said of it, by stamp."""
        said = [_episode_message(episode) for episode in self.phases]
        return sorted([*said, *self.decisions], key=lambda message: message.log_ns)


def replayed_episode(
    tape: Tape, ticks: Sequence[int], number: int | None, policy: str, robot: Robot, task: Task
) -> ReplayedEpisode:
    """Return the episode of a bag; one that reaches over all its ticks where it names none.

    Args:
        tape: the bag.
        ticks: its control ticks, ns.
        number: the id that it is played under, so that no two bags have one; None: its own.
        policy: who acts in its place, without exploring; "": the one that was recorded.
        robot: of the nodes that run again.
        task: likewise.

    Raises:
        UserError: the bag has no tick, or its episodes can't be read.
    """
    if not ticks:
        raise UserError(
            f"{tape.path} has no control tick: it holds no perception/ages, and no pictures for a "
            "perception that runs again (remap:= gives topics other names)"
        )
    phases = _recorded(tape) or _invented(ticks, policy, robot, task)
    shown = phases[0].id if number is None else number
    played = [replace(episode, id=shown) for episode in phases]
    if policy:
        played = [replace(episode, policy=policy, explore=False) for episode in played]
    running = [episode.stamp_ns for episode in phases if episode.phase == RUNNING]
    ended = [episode.stamp_ns for episode in phases if episode.phase == ENDED]
    span = Span(running[0] if running else ticks[0], ended[-1] if ended else ticks[-1] + 1)
    return ReplayedEpisode(span, tuple(played), _decisions(tape, ticks, span, shown))


def _recorded(tape: Tape) -> list[Episode]:
    found = []
    for message in tape.messages(["episode"]):
        try:
            said = deserialize_message(message.raw, DiagnosticArray)
            status = said.status[0]
            values = status_values(status)
            found.append(Episode.from_values(status.message, stamp_ns(said), values))
        except (ValueError, IndexError, RuntimeError) as error:
            raise UserError(f"{tape.path}: the topic episode can't be read: {error}") from None
    return found


def _invented(ticks: Sequence[int], policy: str, robot: Robot, task: Task) -> list[Episode]:
    running = Episode(
        phase=RUNNING,
        stamp_ns=ticks[0],
        id=0,
        index=0,
        split="test",
        start=Start({}),
        seed=0,
        robot=robot.name,
        task=task.name,
        policy=policy,
    )
    return [running, replace(running, phase=ENDED, stamp_ns=ticks[-1], outcome="truncated")]


def _decisions(tape: Tape, ticks: Sequence[int], span: Span, number: int) -> tuple[BagMessage, ...]:
    said = {"id": float(number)}
    if topics.EPISODE.name in tape.types:
        try:
            recorded = [read_numbers(message.raw) for message in tape.messages(["episode/tick"])]
        except ValueError as error:
            raise UserError(f"{tape.path}: episode/tick can't be read: {error}") from None
    else:
        recorded = [(tick, {}) for tick in ticks if span.start_ns <= tick < span.end_ns]
    return tuple(
        _message(topics.EPISODE_TICK, stamp, numbers_bytes(numbers | said, stamp))
        for stamp, numbers in recorded
    )


def _episode_message(episode: Episode) -> BagMessage:
    said = status_message(episode.stamp_ns, "supervisor", episode.phase, episode.to_values())
    return _message(topics.EPISODE, episode.stamp_ns, bytes(serialize_message(said)))


def start_positions(tape: Tape, robot: Robot) -> np.ndarray | None:
    """Return where the set points (n,) stood before a bag begins; None: nobody knows.

    Raises:
        UserError: the bag's joint states can't be read.
    """
    if tape.is_episode:
        return robot.home_positions
    for message in tape.messages(["joint_states"]):
        try:
            measured = read_joint_state(message.raw)
        except ValueError as error:
            raise UserError(f"{tape.path}: joint_states can't be read: {error}") from None
        positions = dict(zip(measured.names, measured.positions.tolist(), strict=False))
        if set(robot.joint_names) <= positions.keys():
            return np.array([positions[name] for name in robot.joint_names])
    return None


def prologue(
    episode: ReplayedEpisode, positions: np.ndarray, robot: Robot, task: Task, *, safety: bool
) -> list[BagMessage]:
    """Return what is said before a bag begins, in order.

    Args:
        episode: what follows.
        positions: set points (n,) that it begins with.
        robot: of the nodes that run again.
        task: likewise.
        safety: whether the safety node runs again; it then makes the tick's command itself.
    """
    stamp = episode.span.start_ns - task.period_ns
    times = np.asarray(task.period / _SUBSTEPS * np.arange(1, _SUBSTEPS + 1), dtype=np.float64)
    hold = Motion(robot.joint_names, times, np.tile(positions, (_SUBSTEPS, 1)))
    if not safety:
        return [_message(topics.SAFETY_COMMAND, stamp, trajectory_bytes(hold, stamp, "reset"))]
    still = np.zeros(len(positions))
    joints = joint_state_bytes(robot.joint_names, stamp, positions, still)
    return [
        _message(topics.JOINT_STATES, stamp, joints),
        _episode_message(replace(episode.phases[0], phase=RESETTING, stamp_ns=stamp)),
        _message(topics.RESET_COMMAND, stamp, trajectory_bytes(hold, stamp)),
    ]


def _message(row: topics.Topic, stamp: int, raw: bytes) -> BagMessage:
    return BagMessage(row.name, row.type_name, stamp, 0, raw)
