"""Which topics of a bag are played, to whom, and what nodes that run again say themselves.

A replay lives in a namespace of its own, whose last part is ``replay`` and in which nobody drives
a robot. Yet what could move one is played only where it is needed, and never what a controller
hears:

- the robot's command interfaces, and every topic or type that the table of topics does not know,
  stay in the bag, and so does ``emergency_stop``: it would hold the safety node beyond the episode;
- ``*/command``, but for ``safety/command``, is played to a safety node that runs again, and only
  in that namespace;
- ``episode`` and ``episode/tick`` are played where somebody who acts by them runs again.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from rl_robot.robots.description import Robot
from rl_robot.ros import topics
from rl_robot.tasks import Task

PRIVATE = "replay"  # the last part of a replay's namespace
BY_EPISODES = {"policy", "reward", "safety"}  # who acts by the topic `episode`


def is_private(namespace: str) -> bool:
    """Whether nobody but a replay lives in a node's namespace."""
    return namespace.rstrip("/").endswith(f"/{PRIVATE}")


def playable(
    types: Mapping[str, str], again: Collection[str], interfaces: Collection[str] = ()
) -> dict[str, topics.Topic]:
    """Return what of a bag is played, by name, with its row of the table.

    Args:
        types: the bag's topics, name -> message type.
        again: the nodes that run again, whose topics are not played.
        interfaces: topics of the robot's command interfaces.
    """
    moving = {name.lstrip("/") for name in interfaces}
    rows = {name: _row(name, kind) for name, kind in types.items()}
    return {
        name: row
        for name, row in rows.items()
        if row is not None and name.lstrip("/") not in moving and _harmless(row, again)
    }


def said_again(again: Collection[str], robot: Robot, task: Task) -> dict[str, topics.Topic]:
    """Return the recorded topics that the nodes of ``again`` say, by name, with their rows."""
    return {
        name: replace(row, name=name)
        for name, row in topics.named_topics(robot, task).items()
        if row.recorded and row.publisher in again
    }


def offered(
    row: topics.Topic, name: str, robot: Robot | None = None, task: Task | None = None
) -> topics.Topic:
    """Return a played topic's row, without listeners where this robot and task have none."""
    if _heard(row, name, robot, task):
        return replace(row, name=name)
    return replace(row, name=name, subscribers="nobody")


def _row(name: str, kind: str) -> topics.Topic | None:
    """Return the row of the table that knows the topic under this type."""
    known = (row for row in topics.TOPICS if row.matches(name) and row.type_name == kind)
    return next(known, None)


def _harmless(row: topics.Topic, again: Collection[str]) -> bool:
    """Whether a topic may be played beside these nodes; see the module's text."""
    if row in (topics.DIAGNOSTICS, topics.EMERGENCY_STOP) or not row.recorded:
        return False
    if row.name.endswith("/command") and row is not topics.SAFETY_COMMAND:
        return "safety" in again and row.publisher not in again
    if row in (topics.EPISODE, topics.EPISODE_TICK) and not BY_EPISODES & set(again):
        return False
    return row.publisher not in again


def _heard(row: topics.Topic, name: str, robot: Robot | None, task: Task | None) -> bool:
    if row is topics.IMAGE_RAW and robot is not None:  # perception looks through the first one
        return name in row.expanded(camera=[camera.name for camera in robot.cameras[:1]])
    if row is topics.OBJECT_POSE and task is not None:
        return name in row.expanded(object=task.objects)
    if row is topics.GOAL and task is not None:
        return task.has_goal
    return True
