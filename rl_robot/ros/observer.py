"""What policy, reward and reset have in common: the newest complete observation of a tick.

A tick is a message on `perception/ages`: one per control period, stamped with the capture time of
the picture it speaks of.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image

from rl_robot.bags.cdr import read_joint_state, read_numbers, read_pose, read_trajectory
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.experience.alignment import Snapshot, SnapshotAssembler
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.ros import topics
from rl_robot.ros.mailbox import Letter
from rl_robot.ros.messages import pose_arrays, stamp_ns, status_values
from rl_robot.ros.node import GraphNode
from rl_robot.supervision.session import BROKEN, Episode
from rl_robot.tasks import Task

TICK_PATIENCE = 5.0  # s of wall time without a tick after which it is ticks that are lacking
LOOK_AGAIN = 0.05  # s between two looks for what a tick still lacks


@dataclass(frozen=True)
class Executed:
    """What the safety node executed for one tick, and where the set points stood before it."""

    stamp_ns: int
    source: str
    start: np.ndarray  # (n,) set points before the motion, in the robot's joint order
    motion: Motion

    @property
    def end(self) -> np.ndarray:
        """Set points after the motion (n,)."""
        return self.motion.positions[-1]


class Observer:
    """Subscribes to what one tick is made of and calls back when there may be a new one.

    Joint states, poses and executed commands wake nobody: they are said before the tick that they
    belong to and wait in mailboxes until it is looked at.

    Paced, a tick is complete only with the joint states up to it, the pose of every object that
    its ages speak of and the command executed in the period before: then the order in which topics
    are delivered can't change a result. At real time the newest of each is used, its age known.
    """

    def __init__(
        self,
        node: GraphNode,
        robot: Robot,
        task: Task,
        on_change: Callable[[], None],
        *,
        paced: bool,
        images: bool = False,
        needs_all: bool = True,
    ) -> None:
        """Observe for a node. `needs_all`: no snapshot before every object and the goal are known.

        `on_change` is called after a tick's messages and once more while something is lacking;
        `images` adds the policy-sized picture.
        """
        self._node = node
        self._paced = paced
        self._images = images
        self._on_change = on_change
        self._period_ns = round(task.period * 1e9)
        self._objects = task.objects
        self._assembler = SnapshotAssembler(
            robot,
            task.objects,
            needs_objects=needs_all,
            needs_goal=task.has_goal and needs_all,
            needs_image=images,
        )
        self._pose_ns: dict[str, int] = {}
        self._ages: dict[str, float] = {}
        self._joints: deque[tuple[int, Letter]] = deque(maxlen=100)  # stamp, message as it came
        self._joint_ns = 0
        self._image_ns = 0
        self.tick_ns = 0
        self.episode: Episode | None = None
        self._executed: deque[Executed] = deque(maxlen=10)
        self._emptied = False  # whether the mailboxes were, since this callback began

        self._tick_at = float("-inf")  # steady clock, s
        node.health["lacks"] = topics.PERCEPTION_AGES.name
        node.every(0.5, self._watch_ticks)
        self._unheard: set[str] = set()
        if not paced:  # paced, nothing is said before the graph is started
            self._listen_anew()
            node.every(LOOK_AGAIN, self._watch_streams)
        node.every(LOOK_AGAIN, self._look_again)
        self._joint_letters = node.mailbox(topics.JOINT_STATES, depth=20)
        self._pose_letters = {
            name: node.mailbox(topics.OBJECT_POSE, depth=4, object=name) for name in task.objects
        }
        self._executed_letters = node.mailbox(topics.SAFETY_COMMAND, depth=4)
        node.listen(topics.PERCEPTION_AGES, self._take_ages, depth=2, raw=True)
        if images:
            node.listen(topics.PERCEPTION_IMAGE, self._take_image, depth=2)
        node.listen(topics.EPISODE, self._take_episode, depth=5)
        if task.has_goal:
            node.listen(topics.GOAL, self._take_goal)

    @property
    def reference(self) -> np.ndarray | None:
        """Joint set points (n,) that the next motion starts from: the last commanded ones."""
        self._empty_mailboxes()
        if self._executed:
            return self._executed[-1].end
        latest = self._assembler.at(self.tick_ns)
        return None if latest is None else latest.joint_positions

    @property
    def reference_velocities(self) -> np.ndarray | None:
        """Velocities (n,) at the end of what was commanded last; None before any command."""
        if not self._executed:
            return None
        last = self._executed[-1].motion
        if len(last.times) < 2:
            return np.zeros(last.positions.shape[1])
        return (last.positions[-1] - last.positions[-2]) / (last.times[-1] - last.times[-2])

    def executed(self) -> Executed | None:
        """Return what was executed last before the newest tick."""
        self._empty_mailboxes()
        before = [done for done in self._executed if done.stamp_ns < self.tick_ns]
        return before[-1] if before else None

    def snapshot(self) -> Snapshot | None:
        """Return the observation of the newest tick, None while something is still missing."""
        self._empty_mailboxes()
        lacks = self._lacks()
        self._node.health["lacks"] = ", ".join(lacks)
        return None if lacks else self._assembler.at(self.tick_ns)

    def _lacks(self) -> list[str]:
        """Name what the newest tick still waits for."""
        if not self.tick_ns:
            return [topics.PERCEPTION_AGES.name]
        if self._paced and not self._complete():
            return ["the messages of this tick"]
        self._add_joints()
        return self._assembler.missing(self.tick_ns)

    def _watch_ticks(self) -> None:
        """Keep `lacks` true while nobody asks for a snapshot: when ticks stop, and come again."""
        health, ticks = self._node.health, topics.PERCEPTION_AGES.name
        if time.monotonic() - self._tick_at <= TICK_PATIENCE:
            if health["lacks"] == ticks:
                health["lacks"] = ""
        elif not (self._paced and health["lacks"]):  # a paced graph stands still on what it lacks
            health["lacks"] = ticks

    def _listen_anew(self) -> None:
        """Have `unheard` name the streams that are acted on, until something of each has come."""
        self._unheard = {topics.PERCEPTION_AGES.name, topics.JOINT_STATES.name}
        self._tell_unheard()

    def _hear(self, topic: topics.Topic) -> None:
        if topic.name in self._unheard:
            self._unheard.remove(topic.name)
            self._tell_unheard()

    def _tell_unheard(self) -> None:
        self._node.health["unheard"] = ",".join(sorted(self._unheard))

    def _watch_streams(self) -> None:
        """Look for joint states, which wake nobody, as long as none are heard."""
        if self._unheard:
            self._emptied = False
            self._empty_mailboxes()

    def _look_again(self) -> None:
        """Call back for what came into a mailbox after the tick that it belongs to."""
        if self._node.health["lacks"]:
            self._changed()

    def _changed(self) -> None:
        self._emptied = False
        self._on_change()

    def _empty_mailboxes(self) -> None:
        if self._emptied:
            return
        self._emptied = True
        for name, mailbox in self._pose_letters.items():
            for letter in mailbox.take():
                self._take_pose(name, letter.raw)
        for letter in self._executed_letters.take():
            self._take_executed(letter)
        # Last: when they tell that the clock was set back, what was executed before is forgotten.
        for letter in self._joint_letters.take():
            self._take_joints(letter)

    def _add_joints(self) -> None:
        """Decode the newest joint state captured at or before the tick."""
        letter: Letter | None = None
        while self._joints and self._joints[0][0] <= self.tick_ns:
            letter = self._joints.popleft()[1]
        if letter is None:
            return
        try:
            self._assembler.add_joint_state(*read_joint_state(letter.raw)[:4])
        except ValueError as error:
            self._node.problem(f"joint_states: {error}")

    def _complete(self) -> bool:
        executed_ns = self._executed[-1].stamp_ns if self._executed else self.tick_ns
        poses_came = all(
            self._pose_ns.get(name, -1) == self.tick_ns - round(age * 1e9)
            for name, age in self._ages.items()
        )
        return (
            poses_came
            and self._joint_ns >= self.tick_ns
            # A replay is of real cameras too, whose pictures are not quite a period apart.
            and executed_ns >= self.tick_ns - 3 * self._period_ns // 2
            and (self._image_ns == self.tick_ns or not self._images)
        )

    def _take_joints(self, letter: Letter) -> None:
        stamp = header_stamp_ns(letter.raw)
        if stamp < self._joint_ns - self._period_ns:  # the clock was set back
            self._assembler.clear()
            self._executed.clear()
            self._joints.clear()
        self._joint_ns = stamp
        self._hear(topics.JOINT_STATES)
        self._joints.append((stamp, letter))

    def _take_ages(self, raw: bytes) -> None:
        try:
            self.tick_ns, ages = read_numbers(raw)
        except ValueError as error:
            self._node.problem(f"perception/ages: {error}")
            return
        self._tick_at = time.monotonic()
        self._hear(topics.PERCEPTION_AGES)
        self._ages = {name: age for name, age in ages.items() if name in self._objects}
        self._changed()

    def _take_image(self, message: Image) -> None:
        self._image_ns = stamp_ns(message)
        picture = np.frombuffer(message.data, np.uint8)
        self._assembler.add_image(self._image_ns, picture.reshape(message.height, message.width, 3))
        self._changed()

    def _take_pose(self, name: str, raw: bytes) -> None:
        try:
            stamp, position, quaternion = read_pose(raw)
            self._pose_ns[name] = stamp
            self._assembler.add_object_pose(name, stamp, position, quaternion)
        except ValueError as error:
            self._node.problem(f"{name}: {error}")

    def _take_executed(self, letter: Letter) -> None:
        try:
            stamp, source, done = read_trajectory(letter.raw)
        except ValueError as error:
            self._node.problem(f"safety/command: {error}")
            return
        start = self._executed[-1].end if self._executed else done.positions[0]
        self._executed.append(Executed(stamp, source, start, done))

    def _take_goal(self, message: PoseStamped) -> None:
        self._assembler.set_goal(pose_arrays(message)[0])
        self._changed()

    def _take_episode(self, message: DiagnosticArray) -> None:
        episode = episode_of(self._node, message)
        if episode is not None:
            self.episode = episode
            if episode.outcome == BROKEN and not self._paced:
                # Who says these may have been started again: what came from before doesn't count.
                self._emptied = False
                self._empty_mailboxes()
                self._listen_anew()
            self._changed()


def episode_of(node: GraphNode, message: DiagnosticArray) -> Episode | None:
    """Return the episode that a message of the topic `episode` carries; report a bad one.

    The node's health says which one it `heard` of last.
    """
    try:
        status = message.status[0]
        episode = Episode.from_values(status.message, stamp_ns(message), status_values(status))
    except (ValueError, IndexError) as error:
        node.problem(f"episode: refused: {error}")
        return None
    node.health["heard"] = str(episode.id)
    return episode
