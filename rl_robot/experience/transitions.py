"""Episodes as a learner takes them: what was observed, what was executed, what it was worth.

An episode is rebuilt from its bag by time stamps alone, by the code that policy and reward ran
while it was recorded (`SnapshotAssembler`, `ControlLoop`). So the learner is given what the policy
saw, whichever message reached which node first.
"""

import math
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.serde import SerdeError

from rl_robot.environments.control_loop import ControlLoop
from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot, SnapshotAssembler
from rl_robot.experience.bags import BagMessage, BagReader, EpisodeMetadata, typestore
from rl_robot.experience.stamps import header_stamp_ns
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task, flat_size, flatten

Floats = npt.NDArray[np.float32]

_TICKS = "perception/ages"
_JOINTS = "joint_states"
_GOAL = "goal"
_PROPOSED = "policy/action"
_EXECUTED = "safety/command"
_REWARD = "reward"

_TERMINAL = ("success", "terminated")  # outcomes after which nothing more was to be gained


def _none() -> Floats:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class EpisodeTransitions:
    """T control steps of one episode.

    Attributes:
        observations: (T + 1, D) flat (``rl_robot.tasks.flatten``); the last one follows the last
            step.
        proposed: (T, A) the policy's normalized actions; NaN where it said nothing.
        executed: (T, A) what safety made of them, as normalized actions: what is learnt from.
        rewards: (T,) of the observation that each step led to.
        terminated: the last observation was a true terminal. Otherwise the episode was cut off
            there (time limit, something broke) and the last observation has a value.
        ages: (T,) s, of the oldest part of the observation when it was acted on; empty: unknown.
        latencies: (T,) s of wall time from the observation to its command; NaN or empty: unknown.
        gaps: the steps that are none, because ticks are missing between their two observations.
        metadata: of the bag; None for an episode without one.
    """

    observations: Floats
    proposed: Floats
    executed: Floats
    rewards: Floats
    terminated: bool
    ages: Floats = field(default_factory=_none)
    latencies: Floats = field(default_factory=_none)
    gaps: tuple[int, ...] = ()
    metadata: EpisodeMetadata | None = None

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        if not len(self.observations) - 1 == len(self.proposed) == len(self.executed) == steps:
            raise ValueError(
                f"{steps} rewards do not go with {len(self.observations)} observations and "
                f"{len(self.executed)} actions"
            )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def steps(self) -> int:
        """Control steps that can be learnt from."""
        return len(self) - len(self.gaps)

    def contiguous(self) -> list["EpisodeTransitions"]:
        """The stretches between gaps, in order; returns over several steps hold within each.

        A stretch that a gap ends is not terminal: its last observation has a value.
        """
        if not self.gaps:
            return [self]
        starts = [0, *(gap + 1 for gap in self.gaps)]
        ends = [*self.gaps, len(self)]
        return [self._part(a, b) for a, b in zip(starts, ends, strict=True) if b > a]

    def _part(self, start: int, end: int) -> "EpisodeTransitions":
        return replace(
            self,
            observations=self.observations[start : end + 1],
            proposed=self.proposed[start:end],
            executed=self.executed[start:end],
            rewards=self.rewards[start:end],
            terminated=self.terminated and end == len(self),
            ages=self.ages[start:end],
            latencies=self.latencies[start:end],
            gaps=(),
        )


def read_transitions(path: Path | str, task: Task, robot: Robot) -> EpisodeTransitions:
    """Rebuild one episode; see `TransitionReader`, which is quicker for many."""
    return TransitionReader(task, robot).read(path)


class TransitionReader:
    """Rebuilds the control steps of bags of one task on one robot.

    At each control tick (a message of ``perception/ages``) it takes the newest data captured at or
    before the tick, and as executed action the motion that the set points made until the next
    tick, whoever asked for it: a hold of the safety node is a step as any other. Two neighbouring
    ticks that are not one control period apart (at real time, when pictures were lost), or the
    second of which was not judged, are no step: they are listed in ``gaps``.
    """

    def __init__(self, task: Task, robot: Robot) -> None:
        self._task = task
        self._robot = robot
        self._loop = ControlLoop(task, robot)
        self._assembler = SnapshotAssembler(robot, task.objects, needs_goal=task.has_goal)
        self._poses = {f"perception/{name}/pose": name for name in task.objects}
        self._topics = [_TICKS, _JOINTS, _PROPOSED, _EXECUTED, _REWARD, *self._poses]
        self._topics += [_GOAL] if task.has_goal else []

    def read(self, path: Path | str) -> EpisodeTransitions:
        """Rebuild the episode in the bag at ``path``.

        Raises:
            UserError: the bag is missing or damaged, was recorded with another task or robot, or
                holds no whole control step.
        """
        bag = BagReader(path)
        metadata = bag.episode
        made, wanted = (metadata.task, metadata.robot), (self._task.name, self._robot.name)
        if made != wanted:
            raise UserError(
                f"{bag.path} was recorded with task {made[0]} on robot {made[1]}, "
                f"this is task {wanted[0]} on robot {wanted[1]}"
            )
        messages: dict[str, list[BagMessage]] = {topic: [] for topic in self._topics}
        for message in bag.messages(self._topics):
            messages[message.topic].append(message)
        try:
            return self._rebuild(messages, metadata)
        except (SerdeError, KeyError, IndexError, ValueError, struct.error) as error:
            raise UserError(f"{bag.path} holds no episode to learn from: {error}") from error

    def _rebuild(
        self, messages: dict[str, list[BagMessage]], metadata: EpisodeMetadata
    ) -> EpisodeTransitions:
        rewards = {stamp: numbers["total"] for stamp, numbers in _numbers(messages[_REWARD])}
        proposals = dict(_numbers(messages[_PROPOSED]))
        feed = _Feed(self._assembler, messages, self._poses)
        motions = _Motions(messages[_EXECUTED])
        walls = _first_published([*messages[_JOINTS], *messages[_TICKS]])
        # Every episode begins where its reset left the set points: at home.
        self._loop.reset(self._robot.home_positions)
        ticks: list[int] = []
        observations: list[Floats] = []
        executed: list[Floats] = []
        ages: list[float] = []
        for tick in sorted({header_stamp_ns(message.raw) for message in messages[_TICKS]}):
            done = motions.before(tick)
            if done is not None:
                action = self._loop.executed(done)
            if done is not None and ticks:
                executed.append(action)
            snapshot = feed.at(tick)
            if snapshot is None or (ticks and done is None):
                continue
            ticks.append(tick)
            ages.append(_oldest(snapshot))
            observation = self._loop.observe(snapshot)
            observations.append(flatten(self._task.observation_spec, observation))
        raise NotImplementedError
