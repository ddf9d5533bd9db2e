"""Every topic of the graph in one table: what it carries, who says it, who hears it, its QoS.

Nodes make their publishers and subscriptions from this table and docs/topics.md is written from it
(``rl_robot topics``), so neither can drift from the other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, Float64MultiArray, String, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory

from rl_robot.robots.description import Robot
from rl_robot.robots.interfaces import FLOAT64_MULTI_ARRAY, JOINT_TRAJECTORY, TWIST_STAMPED
from rl_robot.tasks import Task

# What is added to a topic's name for its real publisher when its messages pass the faults node.
FAULTLESS = "/faultless"


@dataclass(frozen=True)
class Quality:
    """A QoS profile by name. `depth` is the publisher's; subscribers choose their own."""

    name: str
    depth: int
    latched: bool = False

    def profile(self, depth: int | None = None) -> QoSProfile:
        """Return the rclpy profile, with another depth where a subscriber wants one."""
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth or self.depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if self.latched
            else DurabilityPolicy.VOLATILE,
        )


# A publisher keeps the ticks of a whole episode: paced, nothing waits for the recorder until the
# episode is over, and what it missed on a busy machine must then still be there to be sent again.
# Readers that only want the newest message subscribe with depth 1, the recorder with a deep queue.
SENSOR = Quality("sensor", 1000)
IMAGE = Quality("image", 100)
COMMAND = Quality("command", 100)
STATE = Quality("state", 10, latched=True)
EVENT = Quality("event", 10)
LATEST = Quality("latest", 1, latched=True)


@dataclass(frozen=True)
class Topic:
    """One topic. `name` may hold <camera>, <object> or <interface>, filled in from the robot.

    `publisher` and `subscribers` are for people, but our nodes stand in them by name, with commas.
    """

    name: str
    type: Any
    quality: Quality
    publisher: str
    subscribers: str
    meaning: str
    recorded: bool = True

    @property
    def type_name(self) -> str:
        """The ROS name of the message type, such as sensor_msgs/msg/Image."""
        return f"{self.type.__module__.split('.')[0]}/msg/{self.type.__name__}"

    def named(self, **parts: str) -> str:
        """Return the name with its placeholders filled in."""
        name = self.name
        for key, value in parts.items():
            name = name.replace(f"<{key}>", value)
        return name

    def listeners(self, nodes: Sequence[str]) -> int:
        """Count those of a session's nodes that subscribe to this topic.

        The player is the recorder of a replay: it hears what nodes say that run again.
        """
        hearers = ["recorder", "player"] if self.recorded else []
        known = {*self.subscribers.split(", "), *hearers}
        return sum(node in known for node in nodes)

    def said_by(self, nodes: Sequence[str]) -> bool:
        """Whether a node of the session publishes it; not the trainer, who may come and go."""
        known = {*self.publisher.split(", "), self.publisher.split(" or ")[0]} - {"trainer"}
        return any(node in known for node in nodes)

    def matches(self, name: str) -> bool:
        """Whether a topic's name is this row's; an interface's may be any, so it matches none."""
        if self.name == "<interface>":
            return False
        pattern = re.sub(r"<\w+>", "[^/]+", self.name)
        return re.fullmatch(pattern, name) is not None

    def expanded(self, **parts: Sequence[str]) -> list[str]:
        """Return the names for every choice of a placeholder; one without any is itself."""
        names = [self.name]
        for key, values in parts.items():
            if f"<{key}>" in self.name:
                names = [name.replace(f"<{key}>", value) for name in names for value in values]
        return names


JOINT_STATES = Topic(
    "joint_states",
    JointState,
    SENSOR,
    "simulator or the robot's driver",
    "policy, safety, reward, reset",
    "measured positions, velocities, efforts at 100 Hz",
)
IMAGE_RAW = Topic(
    "<camera>/image_raw",
    Image,
    IMAGE,
    "simulator, camera",
    "perception",
    "the camera's picture; stamp = capture",
)
CAMERA_INFO = Topic(
    "<camera>/camera_info",
    CameraInfo,
    SENSOR,
    "simulator, camera",
    "viewers",
    "the camera's calibration, with each picture",
)
PERCEPTION_IMAGE = Topic(
    "perception/image",
    Image,
    SENSOR,
    "perception",
    "policies that see",
    "the policy-sized picture (64x64); stamp = the source's",
)
OBJECT_POSE = Topic(
    "perception/<object>/pose",
    PoseStamped,
    SENSOR,
    "perception",
    "policy, reward, reset",
    "the object in the base frame; stamp = capture of the picture it was last seen in, so the "
    "stamp stands still while the tool hides it",
)
PERCEPTION_AGES = Topic(
    "perception/ages",
    JointState,
    SENSOR,
    "perception",
    "policy, reward, reset",
    "the tick of the graph, one per control period: stamp = the picture's capture, "
    "name -> age of each object's pose at that time (s); an object never seen is absent",
)
GOAL = Topic(
    "goal",
    PoseStamped,
    STATE,
    "supervisor",
    "policy, reward, reset",
    "the goal of a task that has one, in the base frame",
)
POLICY_ACTION = Topic(
    "policy/action",
    JointState,
    COMMAND,
    "policy",
    "recorder",
    "the normalized action by name, version, explore, and of several candidates how many were "
    "tried and rejected as unsafe; stamp = newest observation used",
)
POLICY_COMMAND = Topic(
    "policy/command",
    JointTrajectory,
    COMMAND,
    "policy",
    "safety",
    "the action as motion of named joints over one control period; stamp = newest observation used",
)
RESET_COMMAND = Topic(
    "reset/command",
    JointTrajectory,
    COMMAND,
    "reset",
    "safety",
    "the reset's motion; stamp = newest observation used",
)
RESET_STATUS = Topic(
    "reset/status",
    DiagnosticArray,
    EVENT,
    "reset",
    "supervisor",
    "working, done or failed, with the attempt and the reason, once per tick while resetting",
)
SAFETY_COMMAND = Topic(
    "safety/command",
    JointTrajectory,
    COMMAND,
    "safety",
    "policy, reward, reset",
    "the motion that was executed; frame_id = its source; stamp = the command's",
)
SAFETY_MARGINS = Topic(
    "safety/margins",
    JointState,
    COMMAND,
    "safety",
    "recorder",
    "distance to each limit within the period, kind/joint -> rad, m, per s or per s^2",
)
SAFETY_INTERVENTIONS = Topic(
    "safety/interventions",
    JointState,
    COMMAND,
    "safety",
    "recorder",
    "what the filter changed, kind/joint -> amount; sent only when there is one",
)
EMERGENCY_STOP = Topic(
    "emergency_stop",
    Bool,
    STATE,
    "anyone",
    "safety",
    "true stops and latches; only the services safety/clear and safety/enable go on",
)
TRAJECTORY_INTERFACE = Topic(
    "<interface>",
    JointTrajectory,
    COMMAND,
    "safety",
    "simulator, the robot's controller",
    "the motion for one controller; stamp 0: start now",
)
ARRAY_INTERFACE = Topic(
    "<interface>",
    Float64MultiArray,
    COMMAND,
    "safety",
    "simulator, the robot's controller",
    "positions or velocities in the interface's joint order: at real time a stream along the "
    "motion, to the end of its braking",
)
TWIST_INTERFACE = Topic(
    "<interface>",
    TwistStamped,
    COMMAND,
    "safety",
    "the robot's Cartesian servo",
    "the tool's velocity along the motion, a stream likewise; frame_id = the link whose axes it is "
    "in; stamp = when it was sent",
)
REWARD = Topic(
    "reward",
    JointState,
    SENSOR,
    "reward",
    "supervisor",
    "total, each term, success, terminated, lost_periods; stamp = the observation judged",
)
EPISODE = Topic(
    "episode",
    DiagnosticArray,
    STATE,
    "supervisor",
    "policy, safety, reward, reset, recorder",
    "the phase (resetting, running, ended) and the episode's id, start, split, policy, seed and "
    "outcome; said when the phase changes",
)
EPISODE_TICK = Topic(
    "episode/tick",
    JointState,
    COMMAND,
    "supervisor",
    "safety",
    "while an episode runs, once per tick: the decision that the tick may be acted on; id, steps, "
    "lost_periods; stamp = the tick",
)
RECORDER_STATUS = Topic(
    "recorder/status",
    DiagnosticArray,
    EVENT,
    "recorder",
    "supervisor",
    "a bag was closed: its episode and path; and where there is no room for another, why the "
    "session must end (full) or wait (waits)",
    recorded=False,
)
POLICY_WEIGHTS = Topic(
    "policy/weights",
    UInt8MultiArray,
    LATEST,
    "trainer",
    "policy",
    "the policy to explore with: a safetensors file, whose header says what it is for and its "
    "version",
    recorded=False,
)
TRAINER_STATUS = Topic(
    "trainer/status",
    DiagnosticArray,
    LATEST,
    "trainer",
    "supervisor",
    "how far training has come: stage, updates, updates_due, transitions, demonstrations, "
    "exploration_steps, version, imitated, milestone, updates_per_second and the learner's metrics",
    recorded=False,
)
DIAGNOSTICS = Topic(
    "diagnostics",
    DiagnosticArray,
    EVENT,
    "every node",
    "supervisor",
    "each node's health twice a second",
)
ROBOT_DESCRIPTION = Topic(
    "robot_description",
    String,
    STATE,
    "supervisor",
    "viewers",
    "the robot's URDF",
)
TRUE_POSE = Topic(
    "simulator/<object>/pose",
    PoseStamped,
    SENSOR,
    "simulator",
    "nobody: for judging afterwards",
    "ground truth of the object",
)
CLOCK = Topic(
    "clock",
    Clock,
    SENSOR,
    "simulator",
    "nodes on simulated time",
    "simulated time: 100 Hz at real time, once per tick when paced",
)

TOPICS = tuple(value for value in list(globals().values()) if isinstance(value, Topic))
INTERFACES = {
    JOINT_TRAJECTORY: TRAJECTORY_INTERFACE,
    FLOAT64_MULTI_ARRAY: ARRAY_INTERFACE,
    TWIST_STAMPED: TWIST_INTERFACE,
}


def named_topics(robot: Robot, task: Task) -> dict[str, Topic]:
    """Return the topics of a robot's graph by name, each with its row of the table.

    A gripper's action is none: what it is sent follows from ``safety/command``.
    """
    cameras = [camera.name for camera in robot.cameras]
    named: dict[str, Topic] = {}
    for topic in TOPICS:
        if "<interface>" not in topic.name:
            named |= dict.fromkeys(topic.expanded(camera=cameras, object=task.objects), topic)
    interfaces = {one.topic: one.type for one in robot.interfaces if one.type in INTERFACES}
    return named | {topic: INTERFACES[kind] for topic, kind in interfaces.items()}
