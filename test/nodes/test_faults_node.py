"""The faults node: by itself between two ends of a topic, and in whole sessions."""

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_robot.bags import BagReader
from rl_robot.bags.cdr import read_joint_state, read_trajectory
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.experience.runs import RunFolder
from rl_robot.faults.line import FaultyTopic
from rl_robot.faults.plan import parse_plan
from rl_robot.ros import topics
from rl_robot.ros.messages import joint_state_message, stamp_ns, status_message

PATIENCE = 180.0  # s: a bound for a busy machine, not a measure
SECOND = 1_000_000_000
JOINTS = topics.JOINT_STATES


class Rig:
    """The two ends of a topic, with one faults node in between."""

    def __init__(self, bench: Any, folder: Path, topic: topics.Topic, *faults: object) -> None:
        self.bench = bench
        self.topic = topic
        self.values = {"topics": {topic.name: list(faults)}}
        file = folder / "faults.yaml"
        file.write_text(json.dumps(self.values))
        quality = topic.quality.profile()
        self.source = bench.node.create_publisher(
            topic.type, f"{topic.name}{topics.FAULTLESS}", quality
        )
        self.process = bench.start("faults", faults=file, seed=7)
        self.heard = bench.collect(topic)
        bench.until(lambda: "faults" in bench.health)
        bench.until(lambda: bench.node.count_publishers(topic.name) == 1)
        bench.until(lambda: self.source.get_subscription_count() == 1)

    def count(self, what: str) -> int:
        return int(self.bench.health["faults"].get(f"{self.topic.name} {what}", -1))

    def say(self, count: int) -> None:
        for number in range(1, count + 1):
            values = np.full(2, float(number))
            self.source.publish(joint_state_message(["a", "b"], number * SECOND, values))
            self.bench.spin(0.01)

    def numbers(self) -> list[int]:
        return [stamp_ns(message) // SECOND for message in self.heard]


def test_a_topic_without_faults_passes_as_it_is(bench: Any, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path, JOINTS)
    rig.say(20)
    bench.until(lambda: len(rig.heard) == 20)
    assert rig.numbers() == list(range(1, 21))
    assert [list(message.position) for message in rig.heard] == [[n, n] for n in rig.numbers()]
    bench.until(lambda: (rig.count("heard"), rig.count("said")) == (20, 20))


def test_what_happens_is_what_the_file_and_the_seed_say_and_is_counted(
    bench: Any, tmp_path: Path
) -> None:
    faults = ({"drop": {"probability": 0.3}}, {"duplicate": {"probability": 0.3}})
    rig = Rig(bench, tmp_path, JOINTS, *faults)
    rig.say(60)
    line = FaultyTopic(JOINTS.name, parse_plan(rig.values, "").topics[JOINTS.name], seed=7)
    expected = [int(raw) for number in range(1, 61) for raw in line.take(0.0, b"%d" % number)]
    bench.until(lambda: len(rig.heard) >= len(expected))
    assert rig.numbers() == expected
    bench.until(lambda: rig.count("said") == len(expected))
    counted = {what: rig.count(what) for what in ("drop", "duplicate")}
    assert counted == line.counts
    assert all(counted.values())


def test_what_is_held_back_comes_though_nothing_follows_it(bench: Any, tmp_path: Path) -> None:
    late = {"reorder": {"within": 0.2}}, {"delay": {"seconds": 0.2}}
    rig = Rig(bench, tmp_path, JOINTS, *late)
    rig.say(1)
    bench.until(lambda: rig.numbers() == [1])
    bench.until(lambda: (rig.count("reorder"), rig.count("delay")) == (1, 1))


def test_numbers_are_damaged_and_stamps_are_moved(bench: Any, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path, JOINTS, {"corrupt": {"what": "inf"}}, {"stamp": {"offset": 100.0}})
    rig.say(3)
    bench.until(lambda: len(rig.heard) == 3)
    assert rig.numbers() == [101, 102, 103]
    assert all(list(message.position).count(math.inf) == 1 for message in rig.heard)


def test_who_comes_late_hears_what_a_latched_topic_said_last(bench: Any, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path, topics.EPISODE)
    rig.source.publish(status_message(SECOND, "episode", "running", {}))
    bench.until(lambda: len(rig.heard) == 1)
    late = bench.collect(topics.EPISODE)
    bench.until(lambda: len(late) == 1)
    assert stamp_ns(late[0]) == SECOND


@pytest.mark.parametrize("topic", ["diagnostics", "safety/enable"])
def test_what_cannot_be_relayed_is_one_clear_line(bench: Any, tmp_path: Path, topic: str) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(f"topics: {{{topic}: []}}")
    process = bench.start("faults", faults=file)
    assert process.wait(timeout=60) == 2
    assert f"error: faults: '{topic}' is no topic that can be relayed" in bench.log("faults")
    assert "Traceback" not in bench.log("faults")


# --- whole sessions ------------------------------------------------------------------------------


def run_session(root: Path, graph: str, faults: dict[str, Any], **arguments: object) -> RunFolder:
    """Run a session to its end; return its folder."""
    file = root / "faults.yaml"
    file.write_text(json.dumps({"topics": faults}))
    given = {"policy": "script", "split": "test", "run": "run", "root": root, "faults": file}
    given |= arguments
    command = [sys.executable, "-m", "rl_robot.cli", "launch", f"{graph}.launch.py"]
    command += [f"{name}:={value}" for name, value in given.items()]
    session = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert session.returncode == 0, session.stdout
    assert "starting it again" not in session.stdout  # nothing has died
    return RunFolder.open(root / "run")


def last_health(run: RunFolder, node: str) -> dict[str, str]:
    """What a node last said of itself in the bags of a run."""
    said: dict[str, str] = {}
    for bag in run.list_episodes():
        for record in BagReader(bag).decoded(["diagnostics"]):
            for status in record.message.status:
                if status.name == node:
                    said = {pair.key: pair.value for pair in status.values}
    return said


def test_paced_a_session_goes_on_with_damaged_pictures_and_poses(tmp_path: Path) -> None:
    faults = {
        "camera/image_raw": [
            {"duplicate": {"probability": 0.2}},
            {"reorder": {"probability": 0.1, "within": 0.1}},
            {"corrupt": {"probability": 0.2, "bits": 30}},
        ],
        "perception/block/pose": [
            {"duplicate": {"probability": 0.2}},
            {"corrupt": {"probability": 0.1, "what": "nan"}},
        ],
    }
    run = run_session(tmp_path, "collect", faults, pace="paced", episodes=1)
    assert any(BagReader(bag).episode.outcome == "success" for bag in run.list_episodes())
    health = last_health(run, "faults")
    for topic, listed in faults.items():
        for fault in listed:
            (kind,) = fault
            assert int(health[f"{topic} {kind}"]) > 0
    assert int(health["perception/block/pose said"]) > int(health["perception/block/pose heard"])


def test_at_real_time_the_robot_stands_while_the_policys_commands_are_lost(tmp_path: Path) -> None:
    lost = {"policy/command": [{"drop": {"probability": 0.05, "burst": 8}}]}
    run = run_session(tmp_path, "deploy", lost, pace="1.0", episodes=1, record="true")
    standing = 0
    for bag in run.list_episodes():
        reader = BagReader(bag)
        commands = [header_stamp_ns(one.raw) for one in reader.messages(["policy/command"])]
        joints = [read_joint_state(one.raw) for one in reader.messages(["joint_states"])]
        for before, after in pairwise(commands):
            # Stale after 2.5 periods, and the slowest stop takes less than the other four.
            still = [one for one in joints if before + 0.65 * SECOND < one.stamp_ns < after]
            standing += len(still)
            for one in still:
                assert np.abs(one.velocities).max() < 0.02, (one.stamp_ns, after)
    assert standing


def test_at_real_time_nothing_is_executed_on_joint_states_that_are_frozen(tmp_path: Path) -> None:
    frozen = {"joint_states": [{"freeze": {"probability": 0.01, "burst": 100}}]}
    run = run_session(tmp_path, "deploy", frozen, pace="1.0", episodes=2, record="true")
    waited = 0
    for bag in run.list_episodes():
        reader = BagReader(bag)
        stamps = [header_stamp_ns(one.raw) for one in reader.messages(["joint_states"])]
        done = [read_trajectory(one.raw) for one in reader.messages(["safety/command"])]
        for before, after in pairwise(sorted(set(stamps))):
            # By stamps alone: a command is executed after the picture that it is based on was seen,
            # by 2.5 periods at most; joint states are believed for as long after their capture.
            late = range(before + 36 * SECOND // 100, after - 26 * SECOND // 100)
            waited += len(late) > 0
            assert not [source for at, source, _ in done if at in late and source != "hold"]
    assert waited
