"""Replay: a new perception sees what the old one saw, and nothing of the bag moves a robot."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_robot.bags import BagReader
from rl_robot.nodes.player import playable
from rl_robot.nodes.recorder import recorded_topics, topic_type
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import pose_arrays, stamp_ns, status_message
from rl_robot.tasks import load_task

ROBOT = load_robot("arm")
TYPES = {
    name: topic_type(topic) for name, topic in recorded_topics(ROBOT, load_task("grasp")).items()
}
MOVING = {interface.topic for interface in ROBOT.interfaces} | {
    "policy/command",
    "reset/command",
    "emergency_stop",
}
PATIENCE = 180.0  # s: a bound for a busy machine, not a measure


def launch(*arguments: str) -> str:
    """Run a launch file to its end on the bare runner; return what it printed."""
    command = [sys.executable, "-m", "rl_robot.cli", "launch", *arguments]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded episode."""
    root = tmp_path_factory.mktemp("recorded")
    arguments = ["split:=test", "episodes:=1", "pace:=paced", "run:=run", f"root:={root}"]
    launch("collect.launch.py", *arguments)
    return root / "run" / "episodes" / "episode_000000"


# --- what is played ----------------------------------------------------------------------------


@pytest.mark.parametrize("again", [(), ("perception",), ("perception", "policy", "reward")])
def test_what_could_move_a_robot_is_never_played(again: tuple[str, ...]) -> None:
    strange = {
        "teleop/command": "trajectory_msgs/msg/JointTrajectory",
        "other_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
        "cmd_vel": "geometry_msgs/msg/Twist",
        "goal": "std_msgs/msg/Float64MultiArray",
    }
    played = playable(TYPES | strange, again)
    assert not (MOVING | strange.keys()) & played.keys()
    assert {"joint_states", "camera/image_raw", "safety/command"} <= played.keys()


def test_the_robots_interfaces_are_not_played_whatever_they_are_called() -> None:
    types = {"safety/command": "trajectory_msgs/msg/JointTrajectory"}
    assert playable(types, ()).keys() == types.keys()
    assert not playable(types, (), interfaces=types)


def test_an_episode_is_played_for_those_who_act_by_it() -> None:
    assert "episode" not in playable(TYPES, ())
    assert "episode" not in playable(TYPES, ("perception",))
    assert "episode" in playable(TYPES, ("policy",))
    assert "episode" in playable(TYPES, ("perception", "reward"))


def test_what_runs_again_is_not_played() -> None:
    assert "perception/ages" in playable(TYPES, ("policy",))
    perceived = {"perception/ages", "perception/image", "perception/block/pose"}
    assert not perceived & playable(TYPES, ("perception",)).keys()
    assert "diagnostics" not in playable(TYPES, ())


# --- in the graph ------------------------------------------------------------------------------


def test_a_new_perception_finds_in_the_old_pictures_what_the_old_one_found(
    bench: Any, bag: Path
) -> None:
    reader = BagReader(bag)
    ages = bench.collect(topics.PERCEPTION_AGES)
    poses = bench.collect(topics.OBJECT_POSE, object="block")
    session: dict[str, object] = {"nodes": "perception,player", "robot": "arm", "task": "grasp"}
    bench.start("perception", **session)
    said_by = ("perception/ages", "perception/block/pose")
    bench.until(lambda: all(bench.node.count_publishers(name) for name in said_by))
    player = bench.start("player", bag=bag, rate=2.0, **session)
    bench.until(lambda: player.poll() is not None)
    bench.spin(0.5)
    assert player.returncode == 0, bench.log("player")

    said = list(reader.decoded(["perception/ages"]))
    assert [stamp_ns(message) for message in ages] == [stamp_ns(old.message) for old in said]
    found = list(reader.decoded(["perception/block/pose"]))
    assert [stamp_ns(message) for message in poses] == [stamp_ns(old.message) for old in found]
    assert len(found) > 10
    for new, old in zip(poses, found, strict=True):
        np.testing.assert_allclose(pose_arrays(new)[0], pose_arrays(old.message)[0], atol=1e-6)


def test_the_player_waits_until_a_node_that_comes_late_hears_it(bench: Any, bag: Path) -> None:
    session: dict[str, object] = {"nodes": "perception,player", "robot": "arm", "task": "grasp"}
    player = bench.start("player", bag=bag, rate=4.0, **session)
    bench.until(lambda: "player" in bench.health)
    bench.start("perception", **session)
    bench.until(lambda: player.poll() is not None)
    assert player.returncode == 0, bench.log("player")
    # What it says of itself, because this test may not have found its topics in time.
    recorded = str(BagReader(bag).counts["camera/image_raw"])
    bench.until(lambda: bench.health.get("perception", {}).get("pictures") == recorded)


def test_replay_beside_a_live_robot_leaves_it_alone(bench: Any, bag: Path) -> None:
    heard: set[str] = set()
    expected = {"safety/command", "simulator/block/pose", "camera/image_raw"}
    rows = recorded_topics(ROBOT, load_task("grasp"))
    for name in sorted(MOVING | {"episode"} | expected):

        def note(_: Any, name: str = name) -> None:
            heard.add(name)

        bench.node.create_subscription(rows[name].type, name, note, 100)
    health = bench.publisher(topics.DIAGNOSTICS)
    session: dict[str, object] = {"nodes": "perception,player", "robot": "arm", "task": "grasp"}
    player = bench.start("player", bag=bag, rate=4.0, **session)
    # The test is the perception that the player waits for: it plays when all here can be heard.
    bench.until(lambda: all(bench.node.count_publishers(name) for name in expected))
    up = status_message(0, "perception", "ok", {"undiscovered": ""})
    bench.until(lambda: player.poll() is not None, doing=lambda: health.publish(up))
    bench.spin(0.5)
    assert player.returncode == 0, bench.log("player")
    assert heard == expected


def test_a_bag_is_played_without_any_node(bag: Path) -> None:
    output = launch("replay.launch.py", f"bag:={bag}", "rate:=20", "nodes:=none")
    counts = BagReader(bag).counts
    assert f"played {sum(counts[name] for name in playable(TYPES, ()))} messages" in output
