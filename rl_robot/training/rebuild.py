"""Control steps rebuilt from a bag, by time stamps alone.

The code is that which policy and reward ran while the bag was recorded (`SnapshotAssembler`,
`ControlLoop`), so a learner is given what the policy saw, whichever message reached which node
first.
"""

import math
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.serde import SerdeError

from rl_robot.bags import BagMessage, BagReader, EpisodeMetadata, typestore
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.environments.control_loop import ControlLoop
from rl_robot.errors import UserError
from rl_robot.experience.alignment import Snapshot, SnapshotAssembler
from rl_robot.experience.transitions import EpisodeTransitions, Floats
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task, flatten

_TICKS = "perception/ages"
_JOINTS = "joint_states"
_GOAL = "goal"
_PROPOSED = "policy/action"
_EXECUTED = "safety/command"
_REWARD = "reward"

_TERMINAL = ("success", "terminated")  # outcomes after which there was nothing more to gain

Messages = Mapping[str, Sequence[BagMessage]]


def read_transitions(path: Path | str, task: Task, robot: Robot) -> EpisodeTransitions:
    """Rebuild one episode; see `TransitionReader`, which is quicker for many."""
    return TransitionReader(task, robot).read(path)


class TransitionReader:
    """Rebuilds the control steps of bags of one task on one robot.

    Each control tick (a message of ``perception/ages``) has the newest data captured at or before
    it. The action executed is the motion of the set points until the next tick, whoever asked for
    it: a hold of the safety node is a step as any other. Two neighbouring ticks are no step, and
    end what returns over several steps sum up, when they are not one control period apart (at real
    time, when pictures were lost) or the second was not judged; ``gaps`` lists them. Ticks at the
    start, of which not everything is in the bag, are left out.
    """

    def __init__(self, task: Task, robot: Robot) -> None:
        self._task = task
        self._robot = robot
        self._loop = ControlLoop(task, robot)
        self._assembler = SnapshotAssembler(robot, task.objects, needs_goal=task.has_goal)
        self._poses = {f"perception/{name}/pose": name for name in task.objects}
        self._topics = [_TICKS, _JOINTS, _PROPOSED, _EXECUTED, _REWARD, *self._poses]
        self._topics += [_GOAL] if task.has_goal else []

    def read(self, bag: Path | str | BagReader) -> EpisodeTransitions:
        """Rebuild the episode in a bag, given by its path or opened.

        Raises:
            UserError: the bag is missing or damaged, was recorded with another task or robot, or
                holds no whole control step.
        """
        if not isinstance(bag, BagReader):
            bag = BagReader(bag)
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
        except (SerdeError, LookupError, ValueError, struct.error) as error:
            raise UserError(f"{bag.path} holds no episode to learn from: {error}") from error

    def _rebuild(self, messages: Messages, metadata: EpisodeMetadata) -> EpisodeTransitions:
        rewards = _numbers(messages[_REWARD])
        proposals = _numbers(messages[_PROPOSED])
        ticks = self._ticks(messages)
        if len(ticks) < 2:
            raise ValueError(f"{len(ticks)} whole observations are too few")
        pairs = list(pairwise(ticks))
        silence = dict.fromkeys(self._task.action_names, math.nan)
        proposed = [proposals.get(tick.stamp_ns, silence) for tick, _ in pairs]
        after = [rewards.get(tick.stamp_ns) for _, tick in pairs]
        spans = [round((b.stamp_ns - a.stamp_ns) / self._task.period_ns) for a, b in pairs]
        return EpisodeTransitions(
            observations=np.stack([tick.observation for tick in ticks]),
            proposed=_floats([p[name] for name in silence] for p in proposed),
            executed=np.stack([tick.executed for _, tick in pairs]),
            rewards=_floats(reward["total"] if reward else 0.0 for reward in after),
            terminated=metadata.outcome in _TERMINAL,
            ages=_floats(tick.age for tick, _ in pairs),
            latencies=_latencies(messages, [tick for tick, _ in pairs]),
            gaps=tuple(
                step
                for step, (span, reward) in enumerate(zip(spans, after, strict=True))
                if span != 1 or reward is None
            ),
            metadata=metadata,
        )

    def _ticks(self, messages: Messages) -> list["_Tick"]:
        """Return the ticks with a whole observation, in order."""
        # Every episode begins where its reset left the set points, at home.
        self._loop.reset(self._robot.home_positions)
        self._assembler.clear()
        feed = _Feed(self._assembler, messages, self._poses)
        motions = _Motions(messages[_EXECUTED], self._robot)
        ticks = []
        for stamp in sorted({header_stamp_ns(message.raw) for message in messages[_TICKS]}):
            motion = motions.before(stamp)
            stay = np.full(len(self._task.action_names), np.nan, np.float32)
            executed = stay if motion is None else self._loop.executed(motion)
            snapshot = feed.at(stamp)
            if snapshot is None:
                continue
            observation = flatten(self._task.observation_spec, self._loop.observe(snapshot))
            ticks.append(_Tick(stamp, feed.sensed_ns, observation, executed, _oldest(snapshot)))
        return ticks


@dataclass(frozen=True)
class _Tick:
    """One control tick: what was observed at it, and what had been executed since the one before.

    ``sensed_ns``: wall time at which its joint state was published. ``executed`` is not finite
    where nothing had been, which the reward node does not judge.
    """

    stamp_ns: int
    sensed_ns: int
    observation: Floats
    executed: Floats
    age: float


class _Feed:
    """Gives an assembler what was captured up to a tick, as the tick's turn comes."""

    def __init__(
        self, assembler: SnapshotAssembler, messages: Messages, poses: Mapping[str, str]
    ) -> None:
        self._assembler = assembler
        self._joints = messages[_JOINTS]
        self._joint_ns = [header_stamp_ns(message.raw) for message in self._joints]
        self.sensed_ns = 0  # when the newest joint state of the tick asked for was published
        self._poses = {name: _in_order(messages[topic]) for topic, name in poses.items()}
        for message in messages.get(_GOAL, ())[:1]:
            assembler.set_goal(_xyz(_decoded(message).pose.position))

    def at(self, stamp_ns: int) -> Snapshot | None:
        """Return the snapshot at a tick, None when something for it is missing."""
        newest = bisect_right(self._joint_ns, stamp_ns) - 1
        if newest >= 0:  # of all joint states, only the one at the tick is decoded
            self.sensed_ns = self._joints[newest].publish_ns
            message = _decoded(self._joints[newest])
            self._assembler.add_joint_state(
                self._joint_ns[newest], message.name, message.position, message.velocity
            )
        for name, waiting in self._poses.items():
            while waiting and waiting[-1][0] <= stamp_ns:
                seen_ns, raw = waiting.pop()
                pose = _decoded(raw).pose
                quaternion = [*_xyz(pose.orientation), pose.orientation.w]
                self._assembler.add_object_pose(name, seen_ns, _xyz(pose.position), quaternion)
        return self._assembler.at(stamp_ns)


class _Motions:
    """What the safety node executed, by the stamp of the command that it was made of."""

    def __init__(self, messages: Sequence[BagMessage], robot: Robot) -> None:
        self._messages = sorted(messages, key=lambda message: header_stamp_ns(message.raw))
        self._stamps = [header_stamp_ns(message.raw) for message in self._messages]
        self._names = robot.joint_names

    def before(self, stamp_ns: int) -> Motion | None:
        """Return what was executed last before a tick, None when nothing was."""
        newest = bisect_left(self._stamps, stamp_ns) - 1
        if newest < 0:
            return None
        message = _decoded(self._messages[newest])
        # Only where it ended: that is what the set points have come to.
        end = message.points[-1].positions
        return Motion(tuple(message.joint_names), np.zeros(1), np.asarray(end)[None])


def _latencies(messages: Messages, ticks: Iterable[_Tick]) -> Floats:
    """Return the wall time from each observation to its command, NaN where there is none."""
    sent = {header_stamp_ns(message.raw): message.publish_ns for message in messages[_EXECUTED]}
    return _floats((sent.get(tick.stamp_ns, math.nan) - tick.sensed_ns) * 1e-9 for tick in ticks)


def _oldest(snapshot: Snapshot) -> float:
    return max([snapshot.joint_age, *(pose.age for pose in snapshot.objects.values())])


def _in_order(messages: Iterable[BagMessage]) -> list[tuple[int, BagMessage]]:
    """Return each pose once with its capture time, the oldest last; held poses repeat."""
    once = {header_stamp_ns(message.raw): message for message in messages}
    return sorted(once.items(), reverse=True)


def _numbers(messages: Iterable[BagMessage]) -> dict[int, dict[str, float]]:
    """Return named numbers by the stamp that they came with."""
    found = {}
    for message in messages:
        decoded = _decoded(message)
        values = zip(decoded.name, decoded.position.tolist(), strict=True)
        found[header_stamp_ns(message.raw)] = dict(values)
    return found


def _decoded(message: BagMessage) -> Any:
    return typestore().deserialize_cdr(message.raw, message.type)


def _xyz(vector: Any) -> list[float]:
    return [vector.x, vector.y, vector.z]


def _floats(values: Iterable[Any]) -> Floats:
    return np.array(list(values), dtype=np.float32)
