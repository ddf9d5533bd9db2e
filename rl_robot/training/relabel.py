"""A new reward over old bags: the episodes as they were, judged anew.

What was observed and executed stays as it is, byte for byte; the ``reward`` topic is said again by
another task's reward, or by a changed one of the same name, with the code that the reward node runs
(`ControlLoop.judge`). With the reward the end may change: the first tick at which the new task ends
is the episode's last. An episode that the old task had ended, and the new one has not, was cut off
there: its last observation has a value (`EpisodeMetadata.outcome` "truncated").
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rl_robot.bags import BagReader, EpisodeMetadata, EpisodeWriter, TopicQos
from rl_robot.bags.cdr import numbers_bytes, read_numbers
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.tasks import Task
from rl_robot.training.rebuild import TransitionReader

REWARD = "reward"
_TYPE = "sensor_msgs/msg/JointState"
_BESIDE = ("lost_periods",)
_BROKEN = "broken"


class Relabeller:
    """Judges bags of one robot by one task's reward."""

    def __init__(self, task: Task, robot: Robot) -> None:
        self._task = task
        self._reader = TransitionReader(task, robot, other_tasks=True)

    def relabel(self, bag: Path | str | BagReader, out: Path) -> Path:
        """Write a bag as it would have been recorded with this reward; return its path.

        Raises:
            UserError: the bag is missing, damaged, of another robot, lacks what the task needs to
                see, or ``out`` exists.
        """
        if not isinstance(bag, BagReader):
            bag = BagReader(bag)
        verdicts, metadata = self._judge(bag)
        types = {**bag.types, REWARD: _TYPE}
        writer = EpisodeWriter(out, types, qos=_qos(bag), namespace=bag.namespace)
        end_ns = int(metadata.extra["end_ns"])
        waiting = sorted(verdicts.items(), reverse=True)
        for message in bag.messages():
            while waiting and waiting[-1][0] <= message.log_ns:
                stamp_ns, (raw, publish_ns) = waiting.pop()
                writer.write(REWARD, raw, stamp_ns, publish_ns)
            if message.topic != REWARD and message.log_ns <= end_ns:
                writer.write(message.topic, message.raw, message.log_ns, message.publish_ns)
        for stamp_ns, (raw, publish_ns) in reversed(waiting):
            writer.write(REWARD, raw, stamp_ns, publish_ns)
        return writer.close(metadata)

    def _judge(self, bag: BagReader) -> tuple[dict[int, tuple[bytes, int]], EpisodeMetadata]:
        """Return the rewards by their stamps, each with a time of publishing, and what it was."""
        old = bag.episode
        verdicts: dict[int, tuple[bytes, int]] = {}
        outcome, steps, last_ns = _BROKEN, 0, 0
        said = {header_stamp_ns(m.raw): m for m in bag.messages([REWARD])}
        for tick in self._reader.ticks(bag):
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
            before = said.get(tick.stamp_ns)
            if before is not None:
                numbers |= _kept(before.raw)
            published_ns = before.publish_ns if before else tick.sensed_ns
            verdicts[tick.stamp_ns] = (numbers_bytes(numbers, tick.stamp_ns), published_ns)
            if judged.success or judged.terminated:
                outcome = "success" if judged.success else "terminated"
                break
        else:
            outcome = _BROKEN if old.outcome == _BROKEN else "truncated"
        if not verdicts:
            lacking = self._reader.lacking()
            why = f": task {self._task.name} needs {lacking}" if lacking else ""
            raise UserError(f"{bag.path} holds no step to judge{why}")
        changed = replace(
            old,
            task=self._task.name,
            outcome=outcome,
            reason=old.reason if outcome == old.outcome else "judged anew",
            steps=steps,
            extra={**old.extra, "end_ns": str(last_ns), "relabelled_from": old.task},
        )
        return verdicts, changed


def _kept(raw: bytes) -> dict[str, float]:
    """What the reward node says beside the reward."""
    _, numbers = read_numbers(raw)
    return {name: value for name, value in numbers.items() if name in _BESIDE}


def _qos(bag: BagReader) -> dict[str, TopicQos]:
    """The bag's own, but for the reward, which it may not have had."""
    return {REWARD: TopicQos(1000), **bag.qos}
