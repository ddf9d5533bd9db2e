"""Control steps rebuilt from a bag, by time stamps alone.

The code is that which policy and reward ran while the bag was recorded (`SnapshotAssembler`,
`ControlLoop`), so a learner is given what the policy saw, whichever message reached which node
first.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rl_robot.bags import BagReader, EpisodeMetadata
from rl_robot.bags.messages import Series
from rl_robot.bags.metadata import TERMINAL
from rl_robot.environments.control_loop import ControlLoop
from rl_robot.errors import UserError
from rl_robot.experience.aligned import AlignedEpisode
from rl_robot.experience.alignment import Snapshot, SnapshotAssembler
from rl_robot.experience.bag_map import Source
from rl_robot.experience.streams import Stream, read_streams
from rl_robot.experience.transitions import EpisodeTransitions, Floats
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.tasks import Observation, Task, flatten_rows

_TICKS = "perception/ages"
_JOINTS = "joint_states"
_GOAL = "goal"
_PROPOSED = "policy/action"
_EXECUTED = "safety/command"
_REWARD = "reward"
_PICTURE = "perception/image"


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

    def __init__(self, task: Task, robot: Robot, *, other_tasks: bool = False) -> None:
        """Make a reader for bags of this task and robot.

        Args:
            task: what observations are made by.
            robot: the bags' robot.
            other_tasks: also take bags that were recorded with another task, whose actions must
                mean the same.
        """
        self._task = task
        self._robot = robot
        self._other_tasks = other_tasks
        self.loop = ControlLoop(task, robot)
        self._assembler = SnapshotAssembler(robot, task.objects, needs_goal=task.has_goal)
        joints = tuple(robot.joint_names)
        self._sources = {
            _TICKS: Source(_TICKS, only_stamps=True),  # it names what was seen so far
            _JOINTS: Source(_JOINTS, fields=("position", "velocity"), names=joints),
            _PROPOSED: Source(_PROPOSED, names=tuple(task.action_names)),
            _EXECUTED: Source(_EXECUTED, names=joints),
            _REWARD: Source(_REWARD, names=("total",)),
            **{name: Source(name) for name in map(_pose_topic, task.objects)},
        }
        if task.has_goal:
            self._sources[_GOAL] = Source(_GOAL)

    def read(self, bag: Path | str | BagReader) -> EpisodeTransitions:
        """Rebuild the episode in a bag, given by its path or opened, for a learner.

        Raises:
            UserError: the bag is missing or damaged, was recorded with another task or robot, or
                holds no whole control step.
        """
        episode = self.read_table(bag)
        return EpisodeTransitions(
            observations=flatten_rows(self._task.observation_spec, episode.observations),
            proposed=episode.proposed,
            executed=episode.action,
            rewards=np.nan_to_num(episode.rewards, nan=0.0),
            terminated=episode.terminated,
            ages=np.max(list(episode.ages.values()), axis=0)[:-1].astype(np.float32),
            latencies=episode.latencies,
            gaps=episode.gaps,
            metadata=episode.metadata,
        )

    def read_table(self, bag: Path | str | BagReader, *, sensors: bool = False) -> AlignedEpisode:
        """Rebuild the episode in a bag with the task's observations by name, and ages by source.

        Args:
            bag: its path, or the bag opened.
            sensors: also "joint_states", positions and velocities as measured, and the policy-sized
                picture of each tick as "image", if there are any.

        Raises:
            UserError: as `read` does.
        """
        if not isinstance(bag, BagReader):
            bag = BagReader(bag)
        self._require_same(bag)
        sources = dict(self._sources)
        if sensors and bag.counts.get(_PICTURE):
            sources[_PICTURE] = Source(_PICTURE)
        counts: Counter[str] = Counter()
        try:
            streams = _streams(sources, bag.series(sources), counts)
            episode = self._rebuild(streams, counts, bag)
            return _with_sensors(episode, streams) if sensors else episode
        except (LookupError, ValueError, UserError) as error:
            raise UserError(f"{bag.path} holds no episode to learn from: {error}") from error

    def ticks(self, bag: BagReader) -> Iterator["Tick"]:
        """Give a bag's control ticks, in order, each when the loop has come to it.

        Raises:
            UserError: as `read` does.
        """
        self._require_same(bag)
        counts: Counter[str] = Counter()
        try:
            streams = _streams(self._sources, bag.series(self._sources), counts)
            yield from self._ticks(streams, counts, _end_of(bag.episode))
        except (LookupError, ValueError) as error:
            raise UserError(f"{bag.path} holds no episode to learn from: {error}") from error

    def lacking(self) -> str:
        """Return in words what the bag read last did not hold of what the task needs to see."""
        return ", ".join(self._assembler.missing())

    def _require_same(self, bag: BagReader) -> None:
        metadata = bag.episode
        made, wanted = (metadata.task, metadata.robot), (self._task.name, self._robot.name)
        if made != wanted and not (self._other_tasks and made[1] == wanted[1]):
            raise UserError(
                f"{bag.path} was recorded with task {made[0]} on robot {made[1]}, "
                f"this is task {wanted[0]} on robot {wanted[1]}"
            )

    def _rebuild(
        self, streams: Mapping[str, Stream], counts: Counter[str], bag: BagReader
    ) -> AlignedEpisode:
        metadata = bag.episode
        ticks = list(self._ticks(streams, counts, _end_of(metadata)))
        if len(ticks) < 2:
            raise ValueError(f"{len(ticks)} whole observations are too few")
        pairs = list(pairwise(ticks))
        proposals = _by_stamp(streams.get(_PROPOSED))
        rewards = _by_stamp(streams.get(_REWARD))
        silence = np.full(len(self._task.action_names), np.nan)
        judged = [rewards.get(tick.stamp_ns) for _, tick in pairs]
        spans = [round((b.stamp_ns - a.stamp_ns) / self._task.period_ns) for a, b in pairs]
        gaps = tuple(
            step
            for step, (span, reward) in enumerate(zip(spans, judged, strict=True))
            if span != 1 or reward is None
        )
        counts["gaps"] += len(gaps)
        ticks_ns = np.array([tick.stamp_ns for tick in ticks], np.int64)
        observations = {
            name: np.stack([tick.observation[name] for tick in ticks])
            for name in self._task.observation_spec
        }
        ages_at = [tick.ages for tick in ticks]
        ages = {name: np.array([age[name] for age in ages_at], np.float64) for name in ages_at[0]}
        terminated = metadata.outcome in TERMINAL
        return AlignedEpisode(
            ticks_ns=ticks_ns,
            observations=observations,
            ages=ages,
            action=np.stack([tick.executed for _, tick in pairs]),
            proposed=_floats(proposals.get(tick.stamp_ns, silence) for tick, _ in pairs),
            action_names=tuple(self._task.action_names),
            rewards=_floats(math.nan if reward is None else reward[0] for reward in judged),
            latencies=_latencies(streams.get(_EXECUTED), [tick for tick, _ in pairs]),
            terminated=terminated,
            truncated=not terminated,
            gaps=gaps,
            counts={kind: count for kind, count in counts.items() if count},
            metadata=metadata,
            origin=str(bag.path),
        )

    def _ticks(
        self, streams: Mapping[str, Stream], counts: Counter[str], end_ns: int
    ) -> Iterator["Tick"]:
        """Give the ticks with a whole observation, in order, until the episode's end."""
        if _TICKS not in streams:
            return
        # Every episode begins where its reset left the set points, at home.
        self.loop.reset(self._robot.home_positions)
        self._assembler.clear()
        feed = _Feed(self._assembler, streams)
        motions = _Motions(streams.get(_EXECUTED))
        for stamp in streams[_TICKS].stamps_ns.tolist():
            if stamp > end_ns:
                break
            motion = motions.before(stamp)
            stay = np.full(len(self._task.action_names), np.nan, np.float32)
            executed = stay if motion is None else self.loop.executed(motion)
            snapshot = feed.at(stamp)
            if snapshot is None:
                counts["ticks left out"] += 1
                continue
            observation = self.loop.observe(snapshot)
            yield Tick(stamp, feed.sensed_ns, snapshot, observation, executed)


@dataclass(frozen=True)
class Tick:
    """One control tick: what was observed at it, and what had been executed since the one before.

    ``sensed_ns``: wall time at which its joint state was published. ``executed`` is not finite
    where nothing had been, which the reward node does not judge.
    """

    stamp_ns: int
    sensed_ns: int
    snapshot: Snapshot
    observation: Observation
    executed: Floats

    @property
    def ages(self) -> dict[str, float]:
        """Age in s of each part of the observation."""
        objects = {name: pose.age for name, pose in self.snapshot.objects.items()}
        return {"joint_states": self.snapshot.joint_age, **objects}


class _Feed:
    """Gives an assembler what was captured up to a tick, as the tick's turn comes."""

    def __init__(self, assembler: SnapshotAssembler, streams: Mapping[str, Stream]) -> None:
        self._assembler = assembler
        self._joints = streams.get(_JOINTS)
        if self._joints is not None:
            # of joint names in the robot's order: "<name>.position" first, then the velocities
            self._count = len(self._joints.components) // 2
            self._names = [name.rpartition(".")[0] for name in self._joints.components]
        self.sensed_ns = 0  # when the newest joint state of the tick asked for was published
        self._poses = {
            topic: _Waiting(stream) for topic, stream in streams.items() if _is_pose(topic)
        }
        if _GOAL in streams:
            assembler.set_goal(streams[_GOAL].values[0, :3])

    def at(self, stamp_ns: int) -> Snapshot | None:
        """Return the snapshot at a tick, None when something for it is missing."""
        if self._joints is not None:
            row = int(np.searchsorted(self._joints.stamps_ns, stamp_ns, side="right")) - 1
            if row >= 0:  # of all joint states, the assembler only needs the one at the tick
                self.sensed_ns = int(self._joints.published_ns[row])
                values = self._joints.values[row]
                self._assembler.add_joint_state(
                    int(self._joints.stamps_ns[row]),
                    self._names[: self._count],
                    values[: self._count],
                    values[self._count :],
                )
        for topic, waiting in self._poses.items():
            for seen_ns, pose in waiting.until(stamp_ns):
                self._assembler.add_object_pose(_object_of(topic), seen_ns, pose[:3], pose[3:])
        return self._assembler.at(stamp_ns)


class _Waiting:
    """A stream's values, given out once, as their time comes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._given = 0

    def until(self, stamp_ns: int) -> Iterable[tuple[int, npt.NDArray[np.float64]]]:
        end = int(np.searchsorted(self._stream.stamps_ns, stamp_ns, side="right"))
        start, self._given = self._given, max(end, self._given)
        stamps = self._stream.stamps_ns[start:end].tolist()
        return zip(stamps, self._stream.values[start:end], strict=True)


class _Motions:
    """What the safety node executed, by the stamp of the command that it was made of."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream

    def before(self, stamp_ns: int) -> Motion | None:
        """Return what was executed last before a tick, None when nothing was."""
        if self._stream is None:
            return None
        newest = int(np.searchsorted(self._stream.stamps_ns, stamp_ns, side="left")) - 1
        if newest < 0:
            return None
        # Only where it ended: that is what the set points have come to.
        end = self._stream.values[newest]
        return Motion(self._stream.components, np.zeros(1), end[None])


def _streams(
    sources: Mapping[str, Source], series: Mapping[str, Series], counts: Counter[str]
) -> dict[str, Stream]:
    """Read the topics that have messages.

    Raises:
        ValueError: the clock was restarted within the episode.
    """
    streams = {}
    for topic, source in sources.items():
        if not series[topic].raws:
            continue
        stretches = read_streams(source, series[topic], counts)
        if len(stretches) > 1:
            raise ValueError(f"the clock of {topic} was restarted within the episode")
        streams[topic] = stretches[0]
    return streams


def _with_sensors(episode: AlignedEpisode, streams: Mapping[str, Stream]) -> AlignedEpisode:
    """Add what sensors said at each tick to what the task made of it."""
    observations, ages = dict(episode.observations), dict(episode.ages)
    components = dict(episode.components)
    for name, topic in (("joint_states", _JOINTS), ("image", _PICTURE)):
        stream = streams.get(topic)
        if stream is None or stream.stamps_ns[0] > episode.ticks_ns[0]:
            continue
        rows = stream.newest(episode.ticks_ns)
        values = stream.take(rows)
        observations[name] = values if topic == _PICTURE else values.astype(np.float32)
        components[name] = stream.components
        ages[name] = np.asarray((episode.ticks_ns - stream.stamps_ns[rows]) * 1e-9, np.float64)
    return replace(episode, observations=observations, ages=ages, components=components)


def _by_stamp(stream: Stream | None) -> dict[int, Floats]:
    if stream is None:
        return {}
    return dict(zip(stream.stamps_ns.tolist(), stream.values, strict=True))


def _latencies(executed: Stream | None, ticks: Iterable[Tick]) -> Floats:
    """Return the wall time from each observation to its command, NaN where there is none."""
    sent: dict[int, int] = {}
    if executed is not None:
        stamps, published = executed.stamps_ns.tolist(), executed.published_ns.tolist()
        sent = dict(zip(stamps, published, strict=True))
    return _floats((sent.get(tick.stamp_ns, math.nan) - tick.sensed_ns) * 1e-9 for tick in ticks)


def _end_of(metadata: EpisodeMetadata) -> int:
    """The stamp of an episode's last tick, where its bag says it."""
    return int(metadata.extra.get("end_ns", 2**63 - 1))


def _pose_topic(name: str) -> str:
    return f"perception/{name}/pose"


def _is_pose(topic: str) -> bool:
    return topic.startswith("perception/") and topic.endswith("/pose")


def _object_of(topic: str) -> str:
    return topic.removeprefix("perception/").removesuffix("/pose")


def _floats(values: Iterable[object]) -> Floats:
    return np.array(list(values), dtype=np.float32)
