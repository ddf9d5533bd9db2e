"""recorder: one MCAP bag per episode, of the messages as they came over the wire."""

import contextlib
import time
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path

from rl_robot.bags import EpisodeMetadata, EpisodeWriter, TopicQos
from rl_robot.bags.pictures import (
    COMPRESSED_IMAGE,
    RAW,
    compress,
    compressed_topic,
    find_kind,
    is_camera_topic,
)
from rl_robot.evaluation.episodes import read_episode, to_values
from rl_robot.experience.disk_room import NO_LIMIT, Quota, Rules, Storage, is_full, parse_size
from rl_robot.experience.recording import EpisodeCut, Record
from rl_robot.experience.runs import RunFolder
from rl_robot.experience.topic_rules import topic_rules
from rl_robot.robots.description import Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_message
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.observer import episode_of
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.supervision.session import BROKEN, ENDED, RUNNING, Episode
from rl_robot.tasks import Task, load_task
from rl_robot.training.learnt import bags_in_checkpoint, is_removable

LATE = 2.0  # s by which the news of a start may be late, at real time
HOLD = 2.0  # control periods that messages of an episode are held back for
LOOK_PERIOD = 1.0  # s between two looks at the disk
CUT_SHORT = "the recording was cut short"
GRACE = 0.01  # s at the end of an episode for topics that speak now and then
RESENT = 5.0  # s, paced, for the last messages of an episode: DDS asks for lost ones every 3 s
AT_REAL_TIME = 1.0  # s for them at real time, when nothing waits
INCOMPLETE = "incomplete"  # role of an episode that nobody should learn from
QUEUE = 1000  # messages that may wait per topic while a bag is being closed


@dataclass(frozen=True)
class Parameters:
    """Parameters of the recorder node."""

    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"
    run: str = ""  # the run's folder
    quota: str = NO_LIMIT  # size of the run's bags from which on the oldest exploration goes
    reserve: str = "500MB"  # size of the disk to be left free
    pictures: str = RAW  # how full-size pictures are stored: raw, png or jpeg


class RecorderNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("recorder")
        given = read_parameters(self, Parameters)
        robot = load_robot(given.robot)
        task = load_task(given.task)
        self._run = RunFolder.create(Path(given.run))
        self._types = recorded_topics(robot, task)
        controllers = {interface.topic for interface in robot.interfaces}
        stamped = {interface.topic for interface in robot.interfaces if interface.stamped}
        rules = topic_rules(self._types, controllers, stamped)
        # Messages of an episode are held back for little: a process that dies takes them along.
        # Paced, everything of a tick has been said before the next one begins, the news too.
        self._paced = parse_pace(given.pace) is None
        hold = HOLD * task.period
        late = hold if self._paced else LATE
        patience = RESENT if self._paced else AT_REAL_TIME
        # Paced, even what is said now and then was said before the tick on which an episode ends.
        grace = 0.0 if self._paced else GRACE
        self._cut = EpisodeCut(
            rules,
            window=late,
            hold=hold,
            # Paced, what a bag holds and in which order is to be the same every time.
            decisions="" if self._paced else topics.EPISODE_TICK.name,
            period=task.period,
            grace=grace,
            timeout=patience,
        )
        self._pictures = find_kind(given.pictures)
        self._storage = self._make_storage(given)
        self._looked_at = time.monotonic()
        self._writer: EpisodeWriter | None = None
        self._episode: Episode | None = None
        # What an earlier process of this name had begun is its own affair, and not to be reopened.
        self._last_id = self._run.next_episode() - 1
        self._said_id = -1
        self._status = self.publisher(topics.RECORDER_STATUS)
        # Nothing here is urgent: being woken by each of some thirty messages of a control period
        # would cost more than writing them.
        self._mailboxes = {
            name: self.mailbox(replace(topic, name=name), depth=QUEUE, awaited=False)
            for name, topic in self._types.items()
        }
        self._tell_storage()
        self.every(0.005, self._empty_mailboxes)

    def _empty_mailboxes(self) -> None:
        letters = [
            (letter.published_ns, name, letter)
            for name, mailbox in self._mailboxes.items()
            for letter in mailbox.take()
        ]
        for published_ns, name, letter in sorted(letters, key=itemgetter(0)):
            self._write(self._cut.add(name, letter.raw, published_ns))
            if name == topics.EPISODE.name:
                episode = episode_of(self, self._mailboxes[name].decode(letter))
                if episode is not None:
                    self._follow(episode)
        self._write_out_old()
        self._close_when_complete()
        self._look_at_disk()

    def _follow(self, episode: Episode) -> None:
        """Open a bag when an episode starts to run, end it when the episode does.

        A recorder that was restarted hears the latest messages of `episode` again, of which the
        older ones speak of episodes that are no longer its own.
        """
        if episode.phase == RUNNING and self._writer is None and episode.id > self._last_id:
            self._last_id = episode.id
            self._begin(episode)
        elif episode.phase == ENDED and self._writer is not None:
            if self._episode is None or self._episode.phase != ENDED:
                self._cut.end(episode.stamp_ns, time.monotonic())
        elif episode.phase == ENDED and episode.id != self._said_id:
            # It ended before it ran, or the process that recorded it died: there is no bag.
            self._last_id = max(self._last_id, episode.id)
            self._say_closed(episode, "")
        self._episode = episode

    def _begin(self, episode: Episode) -> None:
        types = {name: topic.type_name for name, topic in self._types.items()}
        qos = {
            name: TopicQos(topic.quality.depth, True, topic.quality.latched)
            for name, topic in self._types.items()
        }
        if self._pictures is not None:
            cameras = {name: compressed_topic(name) for name in types if is_camera_topic(name)}
            types |= dict.fromkeys(cameras.values(), COMPRESSED_IMAGE)
            qos |= {compressed: qos[name] for name, compressed in cameras.items()}
        self._cut.begin(episode.stamp_ns)
        known = replace(episode, outcome=BROKEN, reason=CUT_SHORT)
        begun = self._metadata(known, self._cut.bounds)
        path, namespace = self._run.episode_path(episode.id), self.get_namespace()
        try:
            self._writer = EpisodeWriter(path, types, qos=qos, namespace=namespace, begun=begun)
        except OSError as error:
            self._give_up(error)

    def _write(self, records: list[Record]) -> None:
        if self._writer is None:
            return
        try:
            for record in records:
                topic, raw = self._stored(record)
                self._writer.write(topic, raw, record.log_ns, record.publish_ns)
        except OSError as error:
            self._give_up(error)

    def _stored(self, record: Record) -> tuple[str, bytes]:
        """Return where and how a message is stored: full-size pictures as they are asked for."""
        if self._pictures is None or not is_camera_topic(record.topic):
            return record.topic, record.raw
        try:
            return compressed_topic(record.topic), compress(record.raw, self._pictures)
        except ValueError as error:
            self.problem(f"{record.topic}: stored as it came: {error}")
            return record.topic, record.raw

    def _write_out_old(self) -> None:
        if self._writer is not None:
            try:
                self._writer.write_out_old(time.monotonic())
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Go on without the bag in the making, which can't be written any more.

        On a full disk nothing is left of it: that makes room for the session to end properly.
        """
        self._storage.fail(error)
        writer, self._writer = self._writer, None
        if writer is not None and is_full(error):
            with contextlib.suppress(OSError):
                writer.abort()
        elif writer is not None:
            writer.leave()
        self._cut.abandon()
        self._tell_storage()

    def _close_when_complete(self) -> None:
        if self._writer is not None and self._cut.complete(time.monotonic()):
            missing = self._cut.missing()
            if missing:
                self.problem(f"the bag is closed without the last of {', '.join(missing)}")
            self._close()

    def _close(self) -> None:
        assert self._writer is not None
        assert self._episode is not None
        bounds = self._cut.bounds
        self._write(self._cut.finish())
        episode = self._episode
        gaps = self._cut.gaps(episode.steps) if self._paced else []
        if gaps and episode.outcome != BROKEN:
            # On a machine that is far too busy; it is run again, and nothing is learnt from this.
            why = f"the recording is incomplete: {', '.join(gaps)}"
            self.problem(why)
            episode = replace(episode, outcome=BROKEN, reason=why, role=INCOMPLETE)
        path = ""
        if self._writer is not None:
            try:
                path = str(self._writer.close(self._metadata(episode, bounds)))
            except OSError as error:
                self._give_up(error)
        self._writer = None
        self._storage.make_room()
        self._say_closed(episode, "" if gaps else path)

    def _metadata(self, episode: Episode, bounds: tuple[int | None, int | None]) -> EpisodeMetadata:
        """Return what the bag says of itself; ``bounds``: first and last control tick, if known."""
        extra = {"role": episode.role, "stage": episode.stage} if episode.role else {}
        named = zip(("start_ns", "end_ns"), bounds, strict=True)
        extra |= {name: str(stamp) for name, stamp in named if stamp is not None}
        if self._cut.beyond:
            extra["beyond_end"] = str(self._cut.beyond)
        return EpisodeMetadata(
            episode=episode.id,
            robot=episode.robot,
            task=episode.task,
            start=episode.start.to_json(),
            split=episode.split,
            policy=episode.policy,
            policy_version=episode.policy_version,
            seed=episode.seed,
            outcome=episode.outcome,
            reason=episode.reason,
            steps=episode.steps,
            lost_periods=episode.lost_periods,
            index=episode.index,
            extra=extra,
        )

    def _say_closed(self, episode: Episode, path: str) -> None:
        self._said_id = episode.id
        self._tell_storage()
        values = {"id": str(episode.id), "path": path}
        values |= {name: self.health[name] for name in ("full", "waits")}
        self._status.publish(status_message(episode.stamp_ns, "recorder", "closed", values))
        self.health["closed"] = str(episode.id)

    # --- room ------------------------------------------------------------------------------

    def _make_storage(self, given: Parameters) -> Storage:
        quota, limit = None, parse_size("quota", given.quota)
        if limit is not None:
            learnt = partial(bags_in_checkpoint, self._run.path)
            rules = Rules(
                removable=is_removable,
                learnt=learnt if "trainer" in self.session_nodes else None,
                figures=lambda path: to_values(read_episode(path)),
            )
            quota = Quota(self._run, limit, rules)
        reserve = parse_size("reserve", given.reserve) or 0
        return Storage(self._run, reserve=reserve, quota=quota)

    def _look_at_disk(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_PERIOD:
            return
        self._looked_at = now
        if self._writer is not None:
            self._storage.look()
        else:
            self._storage.make_room()
        self._tell_storage()

    def _tell_storage(self) -> None:
        """Say in the health why the session must end or wait; the supervisor looks there."""
        if self._storage.full:
            self.problem(self._storage.full)
        self.health["full"], self.health["waits"] = self._storage.full, self._storage.waits

    def close(self) -> None:
        """Close the bag of an episode that is cut short, so that what it holds is kept."""
        self._empty_mailboxes()
        if self._writer is None or self._episode is None:
            return
        if self._episode.phase != ENDED:
            self._cut.end(max(self._cut.newest_ns, self._episode.stamp_ns), time.monotonic())
            self._episode = replace(
                self._episode, phase=ENDED, outcome=BROKEN, reason="interrupted"
            )
        self._close()


def recorded_topics(robot: Robot, task: Task) -> dict[str, topics.Topic]:
    """Return the topics of the graph that a bag holds, name -> row of the table."""
    named = topics.named_topics(robot, task)
    return {name: topic for name, topic in named.items() if topic.recorded}


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(RecorderNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
