"""recorder: one MCAP bag per episode, of the messages as they came over the wire."""

import time
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

from rl_robot.bags import EpisodeMetadata, EpisodeWriter, TopicQos
from rl_robot.experience.recording import EpisodeCut, Record, topic_rules
from rl_robot.experience.runs import RunFolder
from rl_robot.robots.description import Robot, load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_message
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.observer import episode_of
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.supervision.session import BROKEN, ENDED, RUNNING, Episode
from rl_robot.tasks import Task, load_task

LATE = 2.0  # s by which a message may be late, by its stamp
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
        rules = topic_rules(self._types, controllers)
        # Paced, everything of a tick has been said before the next one begins: little need wait,
        # and little is then left to be written when an episode ends and the next one waits.
        self._paced = parse_pace(given.pace) is None
        late = 2.0 * task.period if self._paced else LATE
        patience = RESENT if self._paced else AT_REAL_TIME
        # Paced, even what is said now and then was said before the tick on which an episode ends.
        grace = 0.0 if self._paced else GRACE
        self._cut = EpisodeCut(
            rules, window=late, period=task.period, grace=grace, timeout=patience
        )
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
        if self._writer is not None:
            self._writer.write_out_old(time.monotonic())
        self._close_when_complete()

    def _follow(self, episode: Episode) -> None:
        """Open a bag when an episode starts to run, end it when the episode does.

        A recorder that was restarted hears the latest messages of `episode` again, of which the
        older ones speak of episodes that are no longer its own.
        """
        if episode.phase == RUNNING and self._writer is None and episode.id > self._last_id:
            self._last_id = episode.id
            types = {name: topic_type(topic) for name, topic in self._types.items()}
            qos = {
                name: TopicQos(topic.quality.depth, True, topic.quality.latched)
                for name, topic in self._types.items()
            }
            path = self._run.episode_path(episode.id)
            self._writer = EpisodeWriter(path, types, qos=qos, namespace=self.get_namespace())
            self._cut.begin(episode.stamp_ns)
        elif episode.phase == ENDED and self._writer is not None:
            if self._episode is None or self._episode.phase != ENDED:
                self._cut.end(episode.stamp_ns, time.monotonic())
        elif episode.phase == ENDED and episode.id != self._said_id:
            # It ended before it ran, or the process that recorded it died: there is no bag.
            self._last_id = max(self._last_id, episode.id)
            self._say_closed(episode, "")
        self._episode = episode

    def _write(self, records: list[Record]) -> None:
        if self._writer is not None:
            for record in records:
                self._writer.write(*record)

    def _close_when_complete(self) -> None:
        if self._writer is not None and self._cut.complete(time.monotonic()):
            missing = self._cut.missing()
            if missing:
                self.problem(f"the bag is closed without the last of {', '.join(missing)}")
            self._close()

    def _close(self) -> None:
        assert self._writer is not None
        assert self._episode is not None
        self._write(self._cut.finish())
        episode = self._episode
        gaps = self._cut.gaps(episode.steps) if self._paced else []
        if gaps and episode.outcome != BROKEN:
            # On a machine that is far too busy; it is run again, and nothing is learnt from this.
            why = f"the recording is incomplete: {', '.join(gaps)}"
            self.problem(why)
            episode = replace(episode, outcome=BROKEN, reason=why, role=INCOMPLETE)
        path = self._writer.close(self._metadata(episode))
        self._writer = None
        self._say_closed(episode, "" if gaps else str(path))

    def _metadata(self, episode: Episode) -> EpisodeMetadata:
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
            extra={"role": episode.role, "stage": episode.stage} if episode.role else {},
        )

    def _say_closed(self, episode: Episode, path: str) -> None:
        self._said_id = episode.id
        values = {"id": str(episode.id), "path": path}
        self._status.publish(status_message(episode.stamp_ns, "recorder", "closed", values))
        self.health["closed"] = str(episode.id)

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


def topic_type(topic: topics.Topic) -> str:
    """Return the ROS name of a topic's message type, such as sensor_msgs/msg/Image."""
    package, kind = topic.type.__module__.split(".")[0], topic.type.__name__
    return f"{package}/msg/{kind}"


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(RecorderNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
