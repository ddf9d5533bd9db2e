"""supervisor: runs episodes for as long as it is left alone, in the stages of a session.

It decides each tick of an episode, has the scene reset, waits for the bag, notices nodes that died
or hang, marks the episode they broke and runs it again. A person is asked for only when that fails.
"""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from rl_robot.bags.cdr import numbers_bytes
from rl_robot.evaluation.report import write_report
from rl_robot.experience.disk_room import write_failure
from rl_robot.experience.runs import IMITATION_FILE, RunFolder
from rl_robot.policies import LEARNED, policy_version
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import (
    numbers,
    pose_message,
    stamp_ns,
    status_message,
    status_values,
)
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.supervision.health import Roll
from rl_robot.supervision.programme import Programme
from rl_robot.supervision.progress import ProgressLine, TrainingLine
from rl_robot.supervision.room import Room
from rl_robot.supervision.session import (
    BROKEN,
    ENDED,
    RESETTING,
    RUNNING,
    Episode,
    Session,
    SessionPlan,
)
from rl_robot.supervision.stages import Curriculum, Stage, done_by_stage
from rl_robot.tasks import Task, load_task

START_TIMEOUT = 60.0  # s for all nodes to come up, or back
STUCK_TIMEOUT = 30.0  # s of wall time in which an episode must get on
CLOSE_TIMEOUT = 10.0  # s for the recorder to close a bag
BAGS_WHEN_STOPPED = 25  # more than can be read in the seconds that a stopped session has
INTERRUPTED = 130  # exit status
TRAINER_TIMEOUT = 120.0  # s of silence from a trainer that is waited for
WAITING_SHOWN = 5.0  # s between two lines while it is
SPEAKING_PERIOD = 0.5  # s after which, at real time, it speaks even if nobody gave it reason to
HANG_TIMEOUT = 5.0  # s of silence after which a process that still exists is ended


@dataclass(frozen=True)
class Parameters:
    """Parameters of the supervisor node."""

    robot: str = "arm"
    task: str = "grasp"
    policy: str = "script"
    pace: str = "1.0"
    episodes: int = 20
    split: str = "train"
    first: int = 0
    seed: int = 0
    explore: bool = False
    run: str = ""  # the run's folder
    record: bool = True
    arguments: str = "{}"  # JSON: those of the launch file, to go on with after a kill
    train: bool = False  # run the stages of training, of which these are the fields of `Curriculum`
    demonstrations: int = Curriculum.demonstrations
    blocks: int = Curriculum.blocks
    block_steps: int = Curriculum.block_steps
    validation: int = Curriculum.validation
    test: int = Curriculum.test
    compare: bool = Curriculum.compare


class SupervisorNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("supervisor")
        self._given = given = read_parameters(self, Parameters)
        self._robot = load_robot(given.robot)
        task = load_task(given.task)
        self._period = task.period
        self._run = RunFolder.create(Path(given.run))
        self._lock = self._run.lock()
        self._programme = self._make_programme(task)
        # The trainer may come and go: what it has to say lies in the run's folder.
        apart = ("supervisor", "trainer")
        self._roll = Roll([name for name in self.session_nodes if name not in apart])
        self._trainer: dict[str, str] = {}
        self._trainer_at = time.monotonic()
        self._pids: dict[str, int] = {}
        self._arguments = json.loads(given.arguments)
        self._stage_at = self._shown_at = time.monotonic()
        self._waiting_since = time.monotonic()  # for nodes, or for a bag to be closed
        self._progress_at = time.monotonic()
        self._published_again = False
        self._closed_id = -1
        self._closed_path = ""
        self._room = Room()
        self._said_phase = (-1, "")  # episode and phase
        self._said_at = 0.0
        self._settled_id = -1
        self._broken_at = 0.0
        self._tick_ns = 0
        self._began = 0.0
        self._steps = 0
        self._episode_began = 0.0
        self._line = TrainingLine() if given.train else ProgressLine(given.episodes)

        self._episode = self.publisher(topics.EPISODE)
        self._decision = self.publisher(topics.EPISODE_TICK)
        self._goal = self.publisher(topics.GOAL) if task.has_goal else None
        self._description = self.publisher(topics.ROBOT_DESCRIPTION)
        self._description.publish(String(data=self._robot.urdf_xml))
        self._hear(topics.REWARD, self._take_reward, depth=10)
        self._hear(topics.RESET_STATUS, self._take_reset, depth=10)
        self._hear(topics.RECORDER_STATUS, self._take_closed, depth=10)
        self._hear(topics.DIAGNOSTICS, self._take_health, depth=50)
        self._hear(topics.TRAINER_STATUS, self._take_trainer, depth=1)
        self._paced = parse_pace(given.pace) is None
        self._publish_again = self.create_client(Trigger, "simulator/publish")
        self.every(0.05, self._supervise)
        self._write_session()  # so that it can be resumed whenever it is killed

    def _make_programme(self, task: Task) -> Programme:
        given = self._given
        plan = SessionPlan(
            robot=self._robot.name,
            policy=given.policy,
            episodes=given.episodes,
            split=given.split,
            first=given.first,
            seed=given.seed,
            explore=given.explore,
        )
        first_id = self._run.next_episode()
        if not given.train:
            return Programme([Stage(plan)], task, first_id=first_id)
        curriculum = Curriculum(
            demonstrations=given.demonstrations,
            demonstrator=given.policy,
            blocks=given.blocks,
            block_steps=given.block_steps,
            validation=given.validation,
            test=given.test,
            compare=given.compare,
        )
        return Programme(
            curriculum.stages(plan, self._run.policies),
            task,
            first_id=first_id,
            done=done_by_stage(self._run.closed_episodes()),
            records=self._run.read_session().get("stages", ()),
        )

    @property
    def _session(self) -> Session:
        return self._programme.session

    # --- what is heard ---------------------------------------------------------------------

    def _hear(self, topic: topics.Topic, take: Callable[[Any], None], *, depth: int) -> None:
        """Subscribe to a topic; a damaged message is said and refused, and does not end the graph.

        Nothing is restarted in this node's place.
        """

        def take_if_sound(message: Any) -> None:
            try:
                take(message)
            except (KeyError, IndexError, ValueError, OverflowError) as error:
                self.problem(f"{topic.name}: refused: {error!r}")

        self.listen(topic, take_if_sound, depth=depth)

    def _take_reward(self, message: JointState) -> None:
        decided = self._session.on_reward(stamp_ns(message), numbers(message))
        self._advance(stamp_ns(message))
        self._publish(decided)

    def _take_reset(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        values = status_values(status)
        self._advance(stamp_ns(message))
        episode = self._session.episode
        if episode is not None and values.get("episode") == str(episode.id):
            reason = values.get("reason", "")
            self._publish(self._session.on_reset(stamp_ns(message), status.message, reason))

    def _take_closed(self, message: DiagnosticArray) -> None:
        values = status_values(message.status[0])
        self._closed_id = int(values.get("id", "-1"))
        self._closed_path = values.get("path", "")
        self._room.hear(values)
        self._supervise()

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = status_values(status)
            self._roll.hear(status.name, values, time.monotonic())
            if status.name == "recorder":
                self._room.hear(values)
            if values.get("host") == socket.gethostname() and values.get("pid", "").isdigit():
                self._pids[status.name] = int(values["pid"])

    def _take_trainer(self, message: DiagnosticArray) -> None:
        self._trainer = status_values(message.status[0])
        self._trainer_at = time.monotonic()

    def _advance(self, stamp: int) -> None:
        """Count a tick and remember that the graph gets on."""
        self._progress_at = time.monotonic()
        if stamp > self._tick_ns:
            self._steps += 1
            self._programme.record.control_steps += 1
        self._tick_ns = stamp

    def _publish(self, episode: Episode | None) -> None:
        self._say(episode)
        if episode is not None and episode.phase == ENDED:
            self._waiting_since = time.monotonic()
            if episode.outcome == BROKEN:
                # What broke it may be a node that is about to be missed: all must speak again.
                self._broken_at = self._waiting_since

    def _say(self, episode: Episode | None) -> None:
        """Say a new phase to everyone, and that a tick of the same phase may be acted on."""
        if episode is None:
            return
        self._said_at = time.monotonic()
        phase = (episode.id, episode.phase)
        if phase == self._said_phase:
            decided = {
                "id": float(episode.id),
                "steps": float(episode.steps),
                "lost_periods": float(episode.lost_periods),
            }
            self._decision.publish(numbers_bytes(decided, episode.stamp_ns))
            return
        self._said_phase = phase
        stamp, values = episode.stamp_ns, episode.to_values()
        self._episode.publish(status_message(stamp, "episode", episode.phase, values))

    # --- the session -----------------------------------------------------------------------

    def _supervise(self) -> None:
        now = time.monotonic()
        missing = self._roll.missing(now, self._broken_at)
        restarted = self._roll.take_restarted()
        episode = self._session.episode
        if restarted:
            self._published_again = False
        if episode is not None and episode.phase in (RESETTING, RUNNING):
            self._watch_episode(missing, restarted, now)
        elif self._room.full:
            self._end_full(episode, now)
        elif lacking := missing or self._undiscovered() or self._unheard():
            self._wait_for(lacking, now)
        elif not self._ready() or (episode is not None and not self._settle(episode, now)):
            return
        elif not self._enabled():
            # Hardware starts disabled, and goes on after a stop only when a person says so.
            self.problem("waiting: the robot is disabled, call the service safety/enable")
        else:
            self._go_on()

    def _watch_episode(self, missing: list[str], restarted: list[str], now: float) -> None:
        """Break the episode off when a node it needs died, hangs, or nothing happens."""
        reason = ""
        if restarted:
            reason = f"{', '.join(restarted)} died and was started again"
        elif missing:
            reason = f"{', '.join(missing)} is silent"
        elif not self._enabled():
            reason = "the robot was stopped or disabled"
        elif self._room.full:
            reason = self._room.full
        elif now - self._progress_at > STUCK_TIMEOUT:
            reason = f"nothing happened for {STUCK_TIMEOUT:.0f} s{self._lacking()}"
        if reason:
            self._published_again = False
            self.get_logger().warning(f"episode broken: {reason}")
            self._publish(self._session.break_off(self._tick_ns, reason))
        elif not self._paced and now - self._said_at > SPEAKING_PERIOD:
            self._speak()

    def _speak(self) -> None:
        """Let safety, which stops the robot for a supervisor that is silent, hear that it is not.

        The reward may be: until that is noticed, and the episode ended, the policy goes on.
        """
        episode = self._session.episode
        if episode is not None and episode.phase == RUNNING:
            self._say(episode)

    def _lacking(self) -> str:
        """Say which observations the nodes wait for."""
        lacks = {node: self._roll.value(node, "lacks") for node in ("policy", "reward", "reset")}
        return "".join(f"; {node} waits for {what}" for node, what in lacks.items() if what)

    def _wait_for(self, missing: list[str], now: float) -> None:
        waited = now - self._waiting_since
        if self._session.episode is not None and waited > HANG_TIMEOUT:
            self._end_hanging(missing)
        if waited > START_TIMEOUT:
            self._fail(
                f"{', '.join(missing)} did not come up or connect within {START_TIMEOUT:.0f} s"
            )

    def _undiscovered(self) -> list[str]:
        """Name the topics that some node does not hear yet."""
        own = ",".join(self.undiscovered())
        said = [self._roll.value(node, "undiscovered") for node in self._roll.expected]
        return [topic for text in [own, *said] for topic in text.split(",") if topic]

    def _unheard(self) -> list[str]:
        """Name what some node does not hear yet after an episode broke.

        A node may have been started again. That it was discovered says little: DDS counts its
        predecessor for a while longer, and a first message may come seconds after that. So each
        has to say that it heard of the episode and, at real time, the streams that it acts on.
        """
        episode = self._session.episode
        if episode is None or episode.outcome != BROKEN:
            return []
        followers = topics.EPISODE.subscribers.split(", ")
        late = self._roll.without(followers, "heard", str(episode.id))
        silent = [
            f"{stream} to {node}"
            for node in self._roll.expected
            for stream in self._roll.value(node, "unheard").split(",")
            if stream
        ]
        return [f"{topics.EPISODE.name} to {node}" for node in late] + silent

    def _end_hanging(self, missing: list[str]) -> None:
        """End processes that exist but are silent; whoever started them starts them again."""
        for name in missing:
            pid = self._pids.pop(name, None)
            if pid is not None and self._executable_of(pid, name):
                self.get_logger().warning(f"{name} hangs: its process {pid} is ended")
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _executable_of(pid: int, name: str) -> bool:
        """Whether the process is (still) that node: process ids are used again."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        except OSError:
            return False
        # `python -m rl_robot.nodes.NAME`, or the script NAME of a ROS installation; NAME may be the
        # container that holds the node.
        return any(re.fullmatch(rf"(.*[./])?({name}|container)", part) for part in command[:3])

    def _ready(self) -> bool:
        """Paced: have the simulator say the present tick (again) when nodes came up or back."""
        if not self._paced or self._published_again:
            return True
        if self._publish_again.service_is_ready():
            self._published_again = True
            self._publish_again.call_async(Trigger.Request())
        return self._published_again

    def _is_closed(self, episode: Episode, now: float) -> bool:
        if not self._given.record or self._closed_id == episode.id:
            return True
        if now - self._waiting_since > CLOSE_TIMEOUT:
            self.problem(f"the recorder did not close the bag of episode {episode.id}")
            return True
        return False

    def _settle(self, episode: Episode, now: float) -> bool:
        """Count an ended episode when its bag is closed; False while that is awaited."""
        if episode.id == self._settled_id:
            return True
        if not self._is_closed(episode, now):
            return False
        self._settled_id = episode.id
        kept = not self._given.record or (self._closed_id == episode.id and bool(self._closed_path))
        self._programme.settle(kept=kept)
        self._programme.record.wall_seconds += now - self._episode_began
        self._episode_began = now
        self._show()
        if not kept:
            self._broken_at = now
        return kept

    def _enabled(self) -> bool:
        """Whether safety lets anything move the robot."""
        return (
            "safety" not in self._roll.expected or self._roll.value("safety", "enabled") == "true"
        )

    def _go_on(self) -> None:
        """Begin the next episode, or end the session."""
        programme = self._programme
        if self._session.gave_up:
            self._fail(f"a person is needed: {self._session.gave_up}")
        elif programme.finished:
            self._finish(0)
        elif self._session.finished:
            programme.go_on()
            self._stage_at = time.monotonic()
        elif self._room.waits:
            self._wait_for_room()
        elif lacking := self._stage_lacks():
            self._wait_for_trainer(lacking)
        else:
            now = time.monotonic()
            if not self._began:
                self._began = now
            if self._episode_began < self._stage_at:  # the first of a stage
                programme.record.waited_seconds += now - self._stage_at
                self._episode_began = now
            self._progress_at = now
            version = self._version()
            programme.record.policy_version = version
            episode = self._session.begin(self._tick_ns, policy_version=version)
            goal = episode.start.values.get("goal")
            if self._goal is not None and goal is not None:
                upright = (0.0, 0.0, 0.0, 1.0)
                self._goal.publish(
                    pose_message(self._tick_ns, self._robot.base_frame, goal, upright)
                )
            self._publish(episode)

    def _stage_lacks(self) -> str:
        """Name what the present stage still needs of the trainer."""
        if self._session.plan.policy == LEARNED:
            return "" if self._roll.value("policy", "weights") else "the first weights"
        return self._programme.prepare()

    def _version(self) -> str:
        """Return the version of the policy that is about to act."""
        policy = self._session.plan.policy
        if policy == LEARNED:
            return self._roll.value("policy", "weights")
        return str(policy_version(policy))

    def _wait_for_trainer(self, lacking: str) -> None:
        now = time.monotonic()
        past_imitation = self._trainer.get("stage") in ("pretraining", "exploration", "done")
        if lacking == IMITATION_FILE and past_imitation and self._trainer["imitated"] != "1":
            self.get_logger().warning("imitation is not tested: there was too little to imitate")
            self._programme.go_on()
            self._stage_at = now
        else:
            self._wait_while_it_speaks(lacking)

    def _wait_for_room(self) -> None:
        """Wait for the trainer, so that bags may be removed which it has learnt from then."""
        done = self._trainer.get("stage") == "done"
        if self._room.in_vain(time.monotonic(), trainer_done=done):
            self._fail(f"waited in vain for {self._room.waits}: give a greater quota:=")
        else:
            self._wait_while_it_speaks(self._room.waits)

    def _wait_while_it_speaks(self, lacking: str) -> None:
        """Say what is waited for, and end the session when the trainer is silent for too long."""
        now = time.monotonic()
        if now - self._trainer_at > TRAINER_TIMEOUT:
            self._fail(f"the trainer is silent, and what comes next waits for {lacking}")
        elif now - self._shown_at > WAITING_SHOWN:
            self._show(f"waiting for {lacking}")

    # --- the end ---------------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        self._line.end()
        self.get_logger().error(why)
        self._finish(1)

    def _end_full(self, episode: Episode | None, now: float) -> None:
        """End the session for want of room, when the bag in the making is closed or given up."""
        if episode is not None and episode.id != self._settled_id:
            self._settle(episode, now)
            if episode.id != self._settled_id:
                return
        self._line.end()
        # Printed: the log may lie on the very disk that has no room for a line.
        print(self._room.full, flush=True)
        whole = self._programme.finished and not self._session.gave_up  # all that was asked for
        self._finish(0 if whole else 1)

    def _finish(self, exit_code: int) -> None:
        self._write_session()
        self._line.end()
        bags = len(self._run.list_episodes())
        if exit_code == INTERRUPTED and bags > BAGS_WHEN_STOPPED:
            print(f"rl_robot report {self._run.path}   writes the report of {bags} episodes")
        elif bags:
            try:
                print(f"report: {write_report(self._run)}", flush=True)
            except OSError as error:
                why = write_failure(self._run.path, error)
                print(f"no report could be written: {why}", flush=True)
        self.exit_code = exit_code

    def _show(self, waiting: str = "") -> None:
        self._shown_at = time.monotonic()
        session = self._session
        wall = self._shown_at - self._began if self._began else 0.0
        if isinstance(self._line, TrainingLine):
            self._line.show(self._programme, self._steps, wall, self._trainer, waiting)
        else:
            simulated = self._steps * self._period
            self._line.show(
                session.done, session.successes, session.broken, wall, simulated, self._steps
            )
        self._write_session()

    def _write_session(self) -> None:
        """Write session.json; a disk without room for it ends the session."""
        try:
            self._run.write_session(self._session_values())
        except OSError as error:
            self._room.fill(write_failure(self._run.path, error))

    def _session_values(self) -> dict[str, Any]:
        wall = time.monotonic() - self._began if self._began else 0.0
        session = self._session
        return {
            "robot": self._robot.name,
            "task": self._given.task,
            "policy": self._given.policy,
            "pace": self._given.pace,
            "split": self._given.split,
            "first": self._given.first,
            "seed": self._given.seed,
            "episodes": session.done,
            "successes": session.successes,
            "broken": session.broken,
            "wall_seconds": wall,
            "control_steps": self._steps,
            "control_period": self._period,
            "lost_periods": session.lost_periods,
            "gave_up": session.gave_up,
            "arguments": self._arguments,
            **(self._training_values() if self._given.train else {}),
        }

    def _training_values(self) -> dict[str, Any]:
        return {
            "stages": self._programme.table(),
            "chosen": self._programme.chosen,
            "trainer": self._trainer,
        }

    def close(self) -> None:
        """Interrupted: mark the episode, let the recorder close its bag, write what there is."""
        if self.exit_code is None:
            self._say(self._session.break_off(self._tick_ns, "interrupted"))
            deadline = time.monotonic() + 1.5
            while self._run.unfinished_episodes() and time.monotonic() < deadline:
                time.sleep(0.05)
            # A session without an end is ended so; any other was cut short.
            self._finish(INTERRUPTED)
            if not self._given.episodes:
                self.exit_code = 0
        self._lock.release()


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(SupervisorNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
