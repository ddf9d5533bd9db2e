"""Replay: real nodes say of a bag again what they had said, and nothing of it moves a robot."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ros_launch import launch_command, launch_environment, make_prefix
from rosbags.rosbag2 import StoragePlugin, Writer

from rl_robot.bags import BagMessage, BagReader, EpisodeWriter, typestore
from rl_robot.bags.cdr import read_image
from rl_robot.nodes.recorder import recorded_topics
from rl_robot.policies.network import NetworkPolicy
from rl_robot.policies.policy import PolicySpec
from rl_robot.resources import resource_path
from rl_robot.robots.description import load_robot
from rl_robot.ros.played import playable
from rl_robot.tasks import load_task

ROBOT, TASK = load_robot("arm"), load_task("grasp")
CONTROLLERS = {interface.topic for interface in ROBOT.interfaces}
PATIENCE = 180.0  # s: a bound for a busy machine, not a measure
ALL = "nodes:=perception,policy,reward,safety"
PRESSED = "sensor_msgs/msg/CompressedImage"


def launch(*arguments: str, fails: bool = False, **environment: str) -> str:
    """Run a launch file to its end on the bare runner; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "rl_robot.cli", "launch", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | environment,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def collect(root: Path, *arguments: str) -> Path:
    """Record episodes; return the run's folder."""
    launch("collect.launch.py", "split:=test", "run:=run", f"root:={root}", *arguments)
    return root / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two paced episodes of the script."""
    return collect(tmp_path_factory.mktemp("recorded"), "episodes:=2")


@pytest.fixture(scope="module")
def bag(run: Path) -> Path:
    return run / "episodes" / "episode_000000"


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Replay, and return the figures of the comparison."""

    def replayed(*arguments: str, **options: Any) -> dict[str, Any]:
        file = tmp_path / "figures.json"
        output = launch("replay.launch.py", f"compare:={file}", *arguments, **options)
        figures: dict[str, Any] = json.loads(file.read_text())
        return figures | {"output": output}

    return replayed


def all_alike(figures: dict[str, Any], *topics: str) -> bool:
    """Whether these topics were said again as they had been, bit by bit."""
    assert all(figures["topics"][topic]["matched"] > 10 for topic in topics)
    return not any(
        one["only_recorded"] or one["only_again"] or one["other"] or component["largest"]
        for one in map(figures["topics"].__getitem__, topics)
        for component in one["components"].values()
    )


# --- as it was ---------------------------------------------------------------------------------


def test_a_run_is_said_again_exactly_as_fast_as_the_nodes_keep_up(
    replay: Callable[..., dict[str, Any]], run: Path
) -> None:
    figures = replay(f"bag:={run}", ALL, "rate:=max", "tolerance:=0")
    assert figures["exceeded"] == []
    assert figures["bags"] == ["episode_000000", "episode_000001"]
    assert figures["unanswered"] == {}
    assert {"reward", "policy/command", "safety/margins", *CONTROLLERS} <= figures["topics"].keys()
    said = ("perception/block/pose", "policy/action", "safety/command", "reward")
    assert all_alike(figures, *said)
    steps = sum(BagReader(path).episode.steps for path in sorted((run / "episodes").iterdir()))
    assert figures["topics"]["policy/action"]["matched"] == steps
    assert set(figures["latency"]) == {"perception", "policy", "reward", "safety"}
    assert "Recorded and again" in figures["output"]


def test_an_episode_is_said_again_exactly_at_real_time(
    replay: Callable[..., dict[str, Any]], bag: Path
) -> None:
    figures = replay(f"bag:={bag}", ALL, "rate:=1.0", "tolerance:=0")
    assert figures["exceeded"] == []
    assert figures["wall_s"] > 0.9 * BagReader(bag).seconds


def test_a_network_that_explored_acts_again_exactly(
    replay: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    policy = tmp_path / "policy.safetensors"
    NetworkPolicy(PolicySpec.of(load_task("reach"), ROBOT)).save(policy)
    run = collect(tmp_path, "task:=reach", f"policy:={policy}", "episodes:=1")
    figures = replay(f"bag:={run}", "nodes:=policy,reward", "rate:=max", "tolerance:=0")
    assert figures["exceeded"] == []
    assert all_alike(figures, "policy/action", "policy/command", "reward")


# --- otherwise than it was ---------------------------------------------------------------------


OWN_TASK = """
from dataclasses import dataclass, replace
from rl_robot.tasks.grasp import Grasp

@dataclass(frozen=True)
class Stingy(Grasp):
    def reward(self, memory, snapshot, action):
        judged = super().reward(memory, snapshot, action)
        return replace(judged, terms=judged.terms | {"time": judged.terms["time"] - 0.25})
"""


def test_another_policy_and_another_reward_are_compared_with_what_was_recorded(
    replay: Callable[..., dict[str, Any]], bag: Path, tmp_path: Path
) -> None:
    (tmp_path / "stingy.py").write_text(OWN_TASK)
    picture = tmp_path / "plot.png"
    figures = replay(
        f"bag:={bag}",
        "nodes:=policy,reward",
        "policy:=weak_script",
        "task:=stingy:Stingy",
        "rate:=max",
        "tolerance:=policy/action=1e-6",
        f"plot:={picture}",
        fails=True,
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]),
    )
    compared = figures["topics"]
    # All the shadow's actions were answers to recorded observations, and none was acted on.
    assert compared["policy/action"]["matched"] == BagReader(bag).episode.steps
    assert compared["policy/action"]["only_again"] == 0
    assert max(one["largest"] for one in compared["policy/action"]["components"].values()) > 0.1
    assert max(one["largest"] for one in compared["executed action"]["components"].values()) > 0.1
    rewarded = compared["reward"]["components"]
    assert rewarded["time"]["largest"] == pytest.approx(0.25)
    assert rewarded["time"]["rms"] == pytest.approx(0.25)
    assert rewarded["reach"]["largest"] == rewarded["success"]["largest"] == 0.0
    assert all(line.startswith("policy/action: ") for line in figures["exceeded"])
    assert "beyond the tolerance: policy/action: " in figures["output"]
    assert picture.stat().st_size > 1000


# --- bags of others ----------------------------------------------------------------------------


def test_a_bag_of_another_recorder_with_other_names_and_compressed_pictures(
    replay: Callable[..., dict[str, Any]], bag: Path, tmp_path: Path
) -> None:
    """Logged as it arrived, pictures 30 ms late; no word of an episode, a robot or a task."""
    foreign = tmp_path / "foreign"
    taken = ["joint_states", "camera/image_raw", "safety/command", "perception/block/pose"]
    with Writer(foreign, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {
            "/arm/joints": "sensor_msgs/msg/JointState",
            "/front/jpg": PRESSED,
            "/safety/command": "trajectory_msgs/msg/JointTrajectory",
            "/perception/block/pose": "geometry_msgs/msg/PoseStamped",
        }
        channels = {t: writer.add_connection(t, k, typestore=typestore()) for t, k in kinds.items()}
        names = dict(zip(taken, kinds, strict=True))
        for message in sorted(map(_arrived, BagReader(bag).messages(taken)), key=lambda m: m[2]):
            topic, raw, log_ns = message
            writer.write(channels[names[topic]], log_ns, raw)
    arguments = [
        f"bag:={foreign}",
        "remap:=/arm/joints=joint_states,/front/jpg=camera/image_raw/compressed",
        "nodes:=perception,policy,reward",
        "rate:=max",
    ]
    assert "foreign does not say what it is of" in launch(
        "replay.launch.py", *arguments, fails=True
    )
    named = ["robot:=arm", "task:=grasp", "policy:=script"]
    figures = replay(*arguments, *named)
    poses = figures["topics"]["perception/block/pose"]
    assert poses["matched"] > 10
    # Where it was hidden, the pose said again and the one recorded then have one stamp each.
    assert max(one["largest"] for one in poses["components"].values()) < 1e-6
    assert figures["unanswered"] == {}
    assert figures["topics"]["policy/action"]["again"] > 10
    assert figures["topics"]["reward"]["again"] > 10


def _arrived(message: BagMessage) -> tuple[str, bytes, int]:
    """Return a message as another recorder would have logged it: topic, contents, log time."""
    if message.topic != "camera/image_raw":
        return message.topic, message.raw, message.log_ns + 1_000_000
    picture = read_image(message.raw)
    rgb = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    _, data = cv2.imencode(".png", rgb[:, :, ::-1])
    header = typestore().deserialize_cdr(message.raw, "sensor_msgs/msg/Image").header
    pressed = typestore().types[PRESSED](header, "rgb8; png compressed bgr8", data.ravel())
    raw = bytes(typestore().serialize_cdr(pressed, PRESSED))
    return message.topic, raw, message.log_ns + 30_000_000


def test_a_node_that_can_not_answer_is_waited_for_less_and_less_and_named(
    replay: Callable[..., dict[str, Any]], bag: Path, tmp_path: Path
) -> None:
    reader = BagReader(bag)
    kept = {name: kind for name, kind in reader.types.items() if name != "joint_states"}
    writer = EpisodeWriter(tmp_path / "numb", kept)
    for message in reader.messages(list(kept)):
        writer.write(message.topic, message.raw, message.log_ns, message.publish_ns)
    numb = writer.close(replace(reader.episode))
    figures = replay(f"bag:={numb}", "nodes:=reward", "rate:=max", "patience:=0.2")
    assert figures["unanswered"] == {"reward": reader.episode.steps}
    assert figures["topics"]["reward"]["only_recorded"] == reader.counts["reward"]
    assert f"reward did not answer {reader.episode.steps} ticks in time" in figures["output"]


# --- nothing moves -----------------------------------------------------------------------------


def absolute_arm(folder: Path) -> str:
    """Write the arm with a controller whose topic is absolute; return the YAML's path."""
    built_in = resource_path("config/robots/arm.yaml")
    text = built_in.read_text().replace("topic: arm_controller", "topic: /arm_controller")
    text = text.replace("../../urdf", str(built_in.parents[2] / "urdf"))
    (folder / "absolute.yaml").write_text(text)
    return str(folder / "absolute.yaml")


class LiveRobot:
    """Notes what somebody who drives a robot would hear, in the same ROS domain."""

    def __init__(self, bench: Any) -> None:
        self.heard: set[str] = set()
        rows = recorded_topics(ROBOT, TASK)
        for name in sorted(rows.keys() - {"diagnostics"}):
            row = rows[name]
            for where in (f"/{name}", f"/replay/{name}"):

                def note(_: Any, where: str = where) -> None:
                    self.heard.add(where)

                quality = row.quality.profile(100)
                bench.node.create_subscription(row.type, where, note, quality)


@pytest.mark.parametrize("with_launch", [False, True], ids=["bare", "ros2 launch"])
def test_safety_runs_again_beside_a_live_robot_and_leaves_it_alone(
    bench: Any, bag: Path, tmp_path: Path, with_launch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_launch:
        pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed here")
        command = _ros2_launch(tmp_path, monkeypatch)
    else:
        command = [sys.executable, "-m", "rl_robot.cli", "launch", "replay.launch.py"]
    live = LiveRobot(bench)
    robot = absolute_arm(tmp_path)
    output = tmp_path / "output"
    arguments = [f"bag:={bag}", f"robot:={robot}", "nodes:=perception,safety", "rate:=1.0"]
    with output.open("w") as stream:
        player = subprocess.Popen(
            [*command, *arguments, "tolerance:=0"],
            env=os.environ | {"ROS_DOMAIN_ID": str(bench.domain)},
            stdout=stream,
            stderr=stream,
        )
    bench.processes.append(player)
    bench.until(lambda: player.poll() is not None)
    assert player.returncode == 0, output.read_text()
    assert {where for where in live.heard if not where.startswith("/replay/")} == set()
    # It did run, and what it said to the controllers stayed in there.
    assert {f"/replay/{name}" for name in (*CONTROLLERS, "policy/command")} <= live.heard
    assert "/replay/emergency_stop" not in live.heard


def _ros2_launch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what starts the launch file as `ros2 launch` does, with executables to be found."""
    prefix = make_prefix(folder, ["rl_robot"])
    (prefix / "share" / "rl_robot").mkdir()
    executables = prefix / "lib" / "rl_robot"
    executables.mkdir(parents=True)
    for name in ("perception", "safety", "player"):
        lines = [f"#!{sys.executable}", f"from rl_robot.nodes.{name} import main", "exit(main())"]
        (executables / name).write_text("\n".join(lines))
        (executables / name).chmod(0o755)
    for name, value in launch_environment(folder, prefix).items():
        monkeypatch.setenv(name, value)
    return launch_command("replay")


def test_safety_does_not_run_again_where_a_robot_may_be_driven(bench: Any, bag: Path) -> None:
    session: dict[str, object] = {"nodes": "safety,player", "robot": "arm", "task": "grasp"}
    player = bench.start("player", bag=bag, **session)
    bench.until(lambda: player.poll() is not None)
    assert player.returncode == 2
    assert "only in a namespace .../replay" in bench.log("player")


# --- playing -----------------------------------------------------------------------------------


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


def test_a_bag_is_played_without_any_node(bag: Path) -> None:
    output = launch("replay.launch.py", f"bag:={bag}", "rate:=20", "nodes:=none")
    counts, types = BagReader(bag).counts, BagReader(bag).types
    assert f"played {sum(counts[name] for name in playable(types, ()))} messages" in output


def test_of_several_bags_a_damaged_one_is_left_out_and_named(bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / "a")
    shutil.copytree(bag, tmp_path / "b")
    (damaged,) = (tmp_path / "b").glob("*.mcap")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    output = launch("replay.launch.py", f"bag:={tmp_path}", "rate:=100", "nodes:=none")
    assert "left out: " in output
    assert "is damaged" in output
    assert f"1 of 2   {tmp_path / 'a'}   " in output


def test_a_bag_that_is_left_out_is_no_test_passed(bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / "a")
    shutil.copytree(bag, tmp_path / "b")
    (damaged,) = (tmp_path / "b").glob("*.mcap")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    report = tmp_path / "report.json"
    arguments = ("replay.launch.py", f"bag:={tmp_path}", "rate:=max", "nodes:=reward")
    output = launch(*arguments, "tolerance:=1e9", f"compare:={report}", fails=True)
    assert "beyond the tolerance: b: left out" in output
    assert json.loads(report.read_text())["left_out"] == ["b"]


def test_a_tolerance_for_a_mistyped_topic_is_refused_before_anything_is_played(bag: Path) -> None:
    arguments = ("replay.launch.py", f"bag:={bag}", "rate:=max", "nodes:=reward")
    output = launch(*arguments, "tolerance:=rewrad=0", fails=True)
    assert "tolerance: nobody who runs again says 'rewrad': expected one of reward" in output
    assert "played" not in output
