"""A robot's command interfaces: what its controllers take, and what they do on silence."""

from collections.abc import Sequence
from dataclasses import dataclass

from rl_robot.robots.joints import Gripper, Joint, joint_called
from rl_robot.robots.section import Section

JOINT_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
FLOAT64_MULTI_ARRAY = "std_msgs/msg/Float64MultiArray"
TWIST_STAMPED = "geometry_msgs/msg/TwistStamped"
GRIPPER_COMMAND = "control_msgs/action/GripperCommand"
POSITION, VELOCITY, TWIST = "position", "velocity", "twist"
MODES = {
    JOINT_TRAJECTORY: (POSITION,),
    FLOAT64_MULTI_ARRAY: (POSITION, VELOCITY),
    TWIST_STAMPED: (TWIST,),
    GRIPPER_COMMAND: (POSITION,),
}
STREAMED = (FLOAT64_MULTI_ARRAY, TWIST_STAMPED)
# What topics of the graph begin with. A controller that listens there would hear commands that have
# not passed the safety filter.
GRAPHS_OWN = (
    "clock", "diagnostics", "dry_run", "emergency_stop", "episode", "goal", "perception", "policy",
    "recorder", "recovery", "reset", "reward", "robot_description", "safety", "script", "simulator",
    "teleop", "trainer",
)  # fmt: skip
MOST_RATE = 1000.0  # Hz
MOST_LAG = 0.3  # s: the motions that are remembered
# Messages of a stream within its driver's timeout, at least: one may be late.
LEAST_IN_TIMEOUT = 2.0


@dataclass(frozen=True)
class CommandInterface:
    """One topic through which some joints are commanded, and what its driver does on silence.

    Attributes:
        name: of the interface.
        topic: of its messages; of a GripperCommand, the action's name.
        type: ROS name of JointTrajectory, Float64MultiArray, TwistStamped or GripperCommand.
        mode: ``position``, ``velocity`` or ``twist``: what the messages hold.
        joints: that it moves, in the order of its messages.
        timeout: s of silence after which the driver does what ``on_timeout`` says.
        on_timeout: ``hold``.
        rate: Hz of the stream that it is sent at real time, where the type is of set points without
            a time; 0 for the others.
        frame: link in whose axes a twist is given, the base's or the tool's; otherwise empty.
        lag: s by which its joints are known to follow late, where it takes velocities or twists.
    """

    name: str
    topic: str
    type: str
    mode: str
    joints: tuple[str, ...]
    timeout: float
    on_timeout: str
    rate: float = 0.0
    frame: str = ""
    lag: float = 0.0

    @property
    def streamed(self) -> bool:
        """Whether it takes a stream of set points, at ``rate``, and not a motion at once."""
        return self.type in STREAMED

    @property
    def stamped(self) -> bool:
        """Whether its messages carry the time at which they were sent."""
        return self.type == TWIST_STAMPED


@dataclass(frozen=True)
class Commanded:
    """What interfaces may command: a robot's joints, its gripper, the frames of its twists.

    ``rate`` (Hz) is that of the joint states: the default of streams.
    """

    joints: tuple[Joint, ...]
    gripper: Gripper | None
    frames: tuple[str, str]
    rate: float

    @property
    def arm(self) -> list[str]:
        """Names of the joints that are not the gripper's."""
        return [j.name for j in self.joints if self.gripper is None or j.name != self.gripper.joint]


def parse_interfaces(section: Section, commanded: Commanded) -> tuple[CommandInterface, ...]:
    """Return the interfaces of the YAML's section.

    Raises:
        UserError: a type with a mode, joints, or keys that make no sense with it, a joint that none
            or more than one commands, or two interfaces with one topic.
    """
    interfaces = tuple(
        _interface(section.section(name), name, commanded) for name in section.names()
    )
    owners: dict[str, str] = {}
    for interface in interfaces:
        for name in interface.joints:
            if name in owners:
                both = f"{owners[name]} and {interface.name}"
                raise section.error(f"joint {name} is commanded twice, by {both}")
            owners[name] = interface.name
    for joint in commanded.joints:
        if joint.name not in owners:
            raise section.error(f"no interface commands joint {joint.name}")
    for topic in (topics := [interface.topic for interface in interfaces]):
        if topics.count(topic) > 1:
            raise section.error(f"topic {topic} is used by more than one interface")
    return interfaces


def _interface(section: Section, name: str, commanded: Commanded) -> CommandInterface:
    kind = section.choice("type", tuple(MODES))
    interface = CommandInterface(
        name=name,
        topic=section.topic("topic"),
        type=kind,
        mode=section.choice("mode", MODES[kind]),
        joints=section.texts("joints"),
        timeout=section.positive("timeout"),
        on_timeout=section.choice("on_timeout", ["hold"]),
        rate=_rate(section, kind, commanded.rate),
        frame=section.choice("frame", commanded.frames) if kind == TWIST_STAMPED else "",
        lag=_lag(section) if "lag" in section else 0.0,
    )
    section.refuse_others()
    if interface.topic.lstrip("/").split("/")[0] in GRAPHS_OWN:
        raise section.error(f"topic {interface.topic} is the graph's own: give the controller's")
    for joint in interface.joints:
        joint_called(section, joint, commanded.joints)
    _check_joints(section, interface, commanded)
    if interface.streamed and interface.rate * interface.timeout < LEAST_IN_TIMEOUT:
        raise section.error(
            f"timeout {interface.timeout:g} s is too short for a stream of {interface.rate:g} Hz: "
            f"at least {LEAST_IN_TIMEOUT:g} messages must come within it"
        )
    return interface


def _rate(section: Section, kind: str, default: float) -> float:
    if kind not in STREAMED:
        return 0.0
    rate = section.positive("rate") if "rate" in section else default
    if rate > MOST_RATE:
        raise section.error(f"rate is {rate:g}, it must be at most {MOST_RATE:g} Hz")
    return rate


def _lag(section: Section) -> float:
    lag = section.positive("lag")
    if section.text("mode") == POSITION:
        raise section.error("lag is for velocities and twists, where it would count as drift")
    if lag > MOST_LAG:
        raise section.error(f"lag is {lag:g}, it must be at most {MOST_LAG:g} s")
    return lag


def _check_joints(section: Section, interface: CommandInterface, commanded: Commanded) -> None:
    """Refuse joints that a type can't command."""
    joints, arm, gripper = list(interface.joints), commanded.arm, commanded.gripper
    if interface.type == TWIST_STAMPED and sorted(joints) != sorted(arm):
        raise section.error(
            f"joints are {_named(joints)}, a twist moves all of the arm's: {_named(arm)}"
        )
    if interface.type == GRIPPER_COMMAND and (gripper is None or joints != [gripper.joint]):
        only = "the robot has no gripper" if gripper is None else f"it must be [{gripper.joint}]"
        raise section.error(f"joints are {_named(joints)}, a GripperCommand's is one: {only}")


def _named(joints: Sequence[str]) -> str:
    return f"[{', '.join(joints)}]"
