"""A new reward over old bags: the episodes as they were, judged anew.

What was observed and executed stays as it is, byte for byte; the ``reward`` topic is said again by
another task's reward, or by a changed one of the same name, with the code that the reward node runs
(`ControlLoop.judge`). With the reward the end may change: the first tick at which the new task ends
is the episode's last. An episode that the old task had ended, and the new one has not, was cut off
there: its last observation has a value (`EpisodeMetadata.outcome` "truncated").
"""

from collections.abc import Iterator
from dataclasses import replace
from heapq import merge
from operator import attrgetter
from pathlib import Path

import numpy as np

from rl_robot.bags import BagMessage, BagReader, EpisodeMetadata, EpisodeWriter, TopicQos
from rl_robot.bags.cdr import numbers_bytes, read_numbers
from rl_robot.errors import UserError
from rl_robot.experience.topic_rules import topic_rules
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task
from rl_robot.training.rebuild import TransitionReader

REWARD = "reward"
_TYPE = "sensor_msgs/msg/JointState"
_BESIDE = ("lost_periods",)
_BROKEN = "broken"
_LOG_TIME = attrgetter("log_ns")


class Relabeller:
    """Judges bags of one robot by one task's reward."""

    def __init__(self, task: Task, robot: Robot) -> None:
        self._task = task
        self._controllers = {interface.topic for interface in robot.interfaces}
        self._reader = TransitionReader(task, robot, other_tasks=True)

    def relabel(self, bag: Path | str | BagReader, out: Path) -> Path:
        """Write a bag as it would have been recorded with this reward; return its path.

        Raises:
            UserError: the bag is missing, damaged, of another robot, lacks what the task needs to
                see, or ``out`` exists.
        """
        if not isinstance(bag, BagReader):
            bag = BagReader(bag)
        rewards, metadata, is_cut = self._judge(bag)
        kept = self._kept(bag, int(metadata.extra["end_ns"])) if is_cut else bag.messages()
        others = (message for message in kept if message.topic != REWARD)
        types = {**bag.types, REWARD: _TYPE}
        writer = EpisodeWriter(out, types, qos=_qos(bag), namespace=bag.namespace)
        try:
            for topic, _, log_ns, publish_ns, raw in merge(rewards, others, key=_LOG_TIME):
                writer.write(topic, raw, log_ns, publish_ns)
            return writer.close(metadata)
        except BaseException:
            writer.abort()
            raise

    def _kept(self, bag: BagReader, end_ns: int) -> Iterator[BagMessage]:
        """The messages of an episode that ended there, as the recorder would have cut it."""
        rules = topic_rules(bag.types, self._controllers)
        commands = {topic for topic, rule in rules.items() if rule.kind == "command"}
        for message in bag.messages():
            if message.log_ns < end_ns + (message.topic not in commands):
                yield message

    def _judge(self, bag: BagReader) -> tuple[list[BagMessage], EpisodeMetadata, bool]:
        """Return the rewards, what the episode was, and whether it ended before the bag does."""
        old = bag.episode
        rewards: list[BagMessage] = []
        outcome, steps, last_ns, is_cut = _BROKEN, 0, 0, False
        said = _said(bag)
        ticks = self._reader.ticks(bag)
        for tick in ticks:
            last_ns = tick.stamp_ns
            if not np.isfinite(tick.executed).all():
                continue  # nothing led to it
            judged = self._reader.loop.judge(tick.snapshot, tick.executed)
            steps += 1
            numbers = {
                "total": judged.total,
                **judged.terms,
                "success": float(judged.success),
                "terminated": float(judged.terminated),
            }
            published_ns, beside = said.get(tick.stamp_ns, (tick.sensed_ns, {}))
            raw = numbers_bytes(numbers | beside, tick.stamp_ns)
            rewards.append(BagMessage(REWARD, _TYPE, tick.stamp_ns, published_ns, raw))
            if judged.success or judged.terminated:
                outcome = "success" if judged.success else "terminated"
                is_cut = next(ticks, None) is not None
                break
        else:
            outcome = _BROKEN if old.outcome == _BROKEN else "truncated"
        if not rewards:
            lacking = self._reader.lacking()
            why = f": task {self._task.name} needs {lacking}" if lacking else ""
            raise UserError(f"{bag.path} holds no step to judge{why}")
        known = dict(old.extra)
        if is_cut:
            known.pop("beyond_end", None)  # what the recorder had kept from there is cut as well
        changed = replace(
            old,
            task=self._task.name,
            outcome=outcome,
            reason=old.reason if outcome == old.outcome else "judged anew",
            steps=steps,
            extra={**known, "end_ns": str(last_ns), "relabelled_from": old.task},
        )
        return rewards, changed, is_cut


def _said(bag: BagReader) -> dict[int, tuple[int, dict[str, float]]]:
    """What the reward node said: by stamp, when it was published, and what beside the reward."""
    said = {}
    for message in bag.messages([REWARD]):
        try:
            stamp_ns, numbers = read_numbers(message.raw)
        except ValueError:
            continue  # it is judged anew in any case
        beside = {name: value for name, value in numbers.items() if name in _BESIDE}
        said[stamp_ns] = (message.publish_ns, beside)
    return said


def _qos(bag: BagReader) -> dict[str, TopicQos]:
    """The bag's own, but for the reward, which it may not have had."""
    return {REWARD: TopicQos(1000), **bag.qos}
