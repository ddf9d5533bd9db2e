"""A recorder's process that is killed while it writes loses its open chunks at most."""

import ctypes
import multiprocessing
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import synthetic
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Metadata
from mcap.stream_reader import StreamReader

from rl_robot.bags import EpisodeWriter
from rl_robot.bags.metadata import CUSTOM
from rl_robot.experience.recording import EpisodeCut, Record
from rl_robot.experience.topic_rules import topic_rules

KILLS = 20
LAPS = 6
STEPS = 40
START_NS = 10_000_000_000
WALL_NS = 10**18
CHUNK_BYTES = 256 * 1024
OVERHEAD = 31  # bytes of a message's record beside the message
PICTURES = ("camera/image_raw", "perception/image")  # of sizes that have chunks of their own
RULES = topic_rules(synthetic.TYPES, synthetic.CONTROLLERS)


@cache
def messages() -> tuple[synthetic.Sent, ...]:
    """A long episode: with pictures of 320x240 at first, then with small ones."""
    sent = list(synthetic.episode_messages(START_NS, STEPS, wall_ns=WALL_NS))
    for step in range(STEPS + 1, (LAPS + 1) * STEPS):
        stamp_ns = START_NS + step * synthetic.PERIOD_NS
        sent += synthetic.small_step(stamp_ns, WALL_NS + step * 6_000_000)
    return tuple(sent)


class Recording:
    """The messages handed over one by one, as the recorder does."""

    def __init__(self) -> None:
        self._cut = EpisodeCut(RULES, hold=0.2)
        self._cut.begin(START_NS)

    def hand_over(self, sent: synthetic.Sent) -> list[Record]:
        return self._cut.add(sent.topic, sent.raw, sent.publish_ns)


def write_until_killed(path: Path, handed: Any) -> None:
    recording = Recording()
    begun = synthetic.metadata(0, "broken", 0, reason="the recording was cut short")
    writer = EpisodeWriter(path, synthetic.TYPES, begun=begun)
    for number, sent in enumerate(messages(), start=1):
        for record in recording.hand_over(sent):
            writer.write(*record)
        writer.write_out_old(time.monotonic())
        handed.value = number
    time.sleep(60.0)


def killed_after(seconds: float, path: Path) -> int:
    """Kill a process that writes a bag; return how many messages it had handed over."""
    context = multiprocessing.get_context("fork")  # it has what is imported and made already
    handed = context.Value(ctypes.c_uint64, 0, lock=False)
    process = context.Process(target=write_until_killed, args=(path, handed))
    process.start()
    assert process.pid is not None
    try:
        deadline = time.monotonic() + 60.0
        while not handed.value:
            assert time.monotonic() < deadline
            assert process.is_alive()
            time.sleep(0.0005)
        time.sleep(seconds)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    return int(handed.value)


def read_part(file: Path) -> tuple[dict[str, list[bytes]], list[Metadata]]:
    """The messages of each topic in a bag without an end, and its metadata records."""
    found: dict[str, list[bytes]] = defaultdict(list)
    metadata: list[Metadata] = []
    channels: dict[int, str] = {}
    with file.open("rb") as stream:
        try:
            for record in StreamReader(stream, validate_crcs=True).records:
                if isinstance(record, Channel):
                    channels[record.id] = record.topic.removeprefix("/")
                elif isinstance(record, Message):
                    found[channels[record.channel_id]].append(record.data)
                elif isinstance(record, Metadata):
                    metadata.append(record)
        except (McapError, EOFError):
            pass  # where the process was killed
    return found, metadata


def by_topic(records: Sequence[Record]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for record in records:
        found[record.topic].append(record.raw)
    return found


def released(handed: int) -> list[Record]:
    recording = Recording()
    return [record for sent in messages()[:handed] for record in recording.hand_over(sent)]


def test_all_but_the_open_chunks_outlives_the_process(tmp_path: Path) -> None:
    messages()  # before the children are made
    chance = random.Random(0)
    lost_something = 0
    for trial in range(KILLS):
        path = tmp_path / f"episode_{trial:06d}"
        handed = killed_after(chance.uniform(0.0, 0.3), path)
        assert not path.exists()
        file = path.with_name(f"{path.name}.part") / f"{path.name}.mcap"
        found, metadata = read_part(file)
        given = by_topic(released(handed))
        soon = by_topic(released(handed + 1))  # it may have been killed within a step
        for topic, raws in found.items():
            assert raws == soon[topic][: len(raws)]
        lost = {topic: raws[len(found[topic]) :] for topic, raws in given.items()}
        others = [topic for topic in lost if topic not in PICTURES]
        for together in ([PICTURES[0]], [PICTURES[1]], others):
            rest = [raw for topic in together for raw in lost.get(topic, ())]
            assert sum(len(raw) + OVERHEAD for raw in rest) <= CHUNK_BYTES
            lost_something += bool(rest)
        said = [record.metadata for record in metadata if record.name == CUSTOM]
        assert [(one["outcome"], one["reason"]) for one in said] == [
            ("broken", "the recording was cut short")
        ]
    assert lost_something  # or the kills came when there was nothing to lose


@pytest.mark.parametrize("handed", [60, 400, 900])
def test_what_is_held_back_is_two_control_periods(handed: int) -> None:
    """Of what was handed over, all that is older than the hold went to the writer."""
    newest = max(sent.stamp_ns for sent in messages()[:handed] if sent.topic == "joint_states")
    records = released(handed)
    given = {record.raw for record in records}
    held = [
        sent
        for sent in messages()[:handed]
        if sent.topic == "joint_states" and sent.raw not in given
    ]
    assert all(sent.stamp_ns >= newest - 2 * synthetic.PERIOD_NS for sent in held)
    for before, after in pairwise(records):
        assert before.log_ns <= after.log_ns
