"""Writes docs/topics.md from the table of topics, so that the page can't drift from the code."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from std_srvs.srv import SetBool, Trigger

from rl_robot.ros.topics import TOPICS, Quality, Topic
from rl_robot.safety.arbiter import SOURCES


@dataclass(frozen=True)
class Service:
    """One service of the graph."""

    name: str
    type: Any
    server: str
    meaning: str


SERVICES = (
    Service(
        "safety/enable",
        SetBool,
        "safety",
        "lets commands move the robot, or no more; refused while the emergency stop is latched, "
        "and at real time without fresh joint states",
    ),
    Service("safety/emergency_stop", Trigger, "safety", "stops the robot and latches"),
    Service(
        "safety/clear",
        Trigger,
        "safety",
        "clears the latch; nothing moves before `safety/enable` is called again",
    ),
    Service(
        "simulator/publish",
        Trigger,
        "simulator, when paced",
        "says the present tick (again): starts a paced graph, and brings in nodes that came back",
    ),
    Service(
        "stand_in/press_stop",
        Trigger,
        "stand_in",
        "presses the button that is wired to the stand-in, which says `emergency_stop`",
    ),
)

_HEAD = """\
# Topics

Made from `rl_robot/ros/topics.py`: don't edit this page, run `rl_robot topics > docs/topics.md`.

Names are relative: a graph started with `namespace:=lab` says `/lab/joint_states`. `<camera>` and
`<interface>` come from the robot's YAML, `<object>` from the task. All types are stock messages.
Stamps are capture times: what was sensed then, or the newest observation that the message is based
on. History is always "keep last"; the depth is the publisher's, subscribers choose their own.
Every subscription asks for the reliability and the durability shown. Nobody requests a deadline.

The recorder, left out below where others listen too, takes every topic into the bags, except
{unrecorded}."""

_SOURCES = """\
The safety node listens for commands on {open_sources} as well. Of the nodes here only the doctor
publishes one of those, teleop: they are for your own. Recovery and teleop take over for as long as
they send; `script` is reserved."""

_NUMBERS = """\
Named numbers (actions, rewards, margins, ages) travel as `sensor_msgs/msg/JointState`: `name[i]`
goes with `position[i]`. That is a stamped table of numbers that every plotting tool reads."""

_SERVICES = """\
The simulator's standard parameter services are on, and one kind of parameter is meant to be set
while it runs: `place.<object>`, three numbers x, y (m) and yaw (rad) in the robot's base frame.
Setting it puts the object there, at rest on the table; a place beside the table is refused with
the reason. The reset node does so through `simulator/set_parameters`."""


def topics_page(topics: Sequence[Topic] = TOPICS, services: Sequence[Service] = SERVICES) -> str:
    """Return the page about topics and services as markdown."""
    unrecorded = ", ".join(f"`{topic.name}`" for topic in topics if not topic.recorded)
    parts = [
        _HEAD.format(unrecorded=unrecorded or "none"),
        _table(
            ("topic", "type", "QoS", "publisher", "subscribers", "meaning"),
            (_topic_row(topic) for topic in topics),
        ),
        _SOURCES.format(open_sources=_open_sources(topics)),
        _NUMBERS,
        "## Services and parameters",
        _table(
            ("service", "type", "server", "meaning"),
            (
                (f"`{service.name}`", _type_name(service.type), service.server, service.meaning)
                for service in services
            ),
        ),
        _SERVICES,
    ]
    return "\n\n".join(parts) + "\n"


def _topic_row(topic: Topic) -> tuple[str, ...]:
    return (
        f"`{topic.name}`",
        _type_name(topic.type),
        _quality(topic.quality),
        topic.publisher,
        topic.subscribers,
        topic.meaning,
    )


def _open_sources(topics: Sequence[Topic]) -> str:
    """Return the command topics that the arbiter knows and nobody publishes."""
    published = {topic.name for topic in topics}
    names = (f"{source}/command" for source in SOURCES)
    return ", ".join(f"`{name}`" for name in names if name not in published)


def _type_name(kind: Any) -> str:
    """Return a type's ROS name, such as sensor_msgs/msg/Image."""
    package, group = kind.__module__.split(".")[:2]
    return f"{package}/{group}/{kind.__name__}"


def _quality(quality: Quality) -> str:
    profile = quality.profile()
    words = (profile.reliability.name, profile.durability.name)
    return ", ".join(word.lower().replace("_", " ") for word in words) + f", depth {profile.depth}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
