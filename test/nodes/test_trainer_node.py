"""The trainer as a process: what it says, how it ends, and what it makes of the graph's bags."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rl_robot.bags import BagReader
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.experience.runs import RunFolder
from rl_robot.policies import PolicySpec
from rl_robot.policies.network import NetworkPolicy
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.messages import status_values
from rl_robot.tasks import load_task
from rl_robot.training.rebuild import read_transitions

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from recordings import record

PLAN = {
    "task": "reach",
    "demonstrations": 3,
    "imitation_updates": 50,
    "pretraining_updates": 100,
    "updates_per_step": 5.0,
    "block_steps": 10,
    "blocks": 2,
    "publish_every": 10,
    "nice": 0,
}


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    env = RobotEnv("reach", perception="truth")
    for index, policy in enumerate(["weak_script"] * 3 + ["random"] * 2):
        recording = record(env, index, policy=policy, most_steps=10)
        recording.write(folder / f"episode_{index:06d}")
    return folder


def run_with(bags: Path, folder: Path) -> Path:
    """A run that has recorded these bags."""
    shutil.copytree(bags, folder / "run" / "episodes")
    return folder / "run"


def test_it_says_how_far_it_is_and_sends_weights(bench: Any, bags: Path, tmp_path: Path) -> None:
    said: list[dict[str, str]] = []
    stages: list[str] = []

    def take(message: object) -> None:
        status = message.status[0]  # type: ignore[attr-defined]
        said.append(status_values(status))
        stages.append(status.message)

    bench.hear(topics.TRAINER_STATUS, take)
    sent = bench.collect(topics.POLICY_WEIGHTS)
    process = bench.start("trainer", run=run_with(bags, tmp_path), **PLAN)
    bench.until(lambda: "done" in stages)
    assert (said[-1]["milestone"], said[-1]["imitated"], said[-1]["bags"]) == ("2", "1", "5")
    assert said[-1]["updates"] == "200"
    bench.until(lambda: sent and bench.health.get("trainer", {}).get("updates") == "200")
    policy = NetworkPolicy.from_bytes(bytes(sent[-1].data))
    policy.spec.require(load_task("reach"), load_robot("arm"), "weights")
    versions = [NetworkPolicy.from_bytes(bytes(message.data)).spec.version for message in sent]
    assert versions == sorted(set(versions))
    assert versions[-1] == int(said[-1]["version"]) == 200

    # A policy that starts now hears the newest weights; so does the trainer's next process.
    late = bench.collect(topics.POLICY_WEIGHTS)
    bench.until(lambda: late)
    assert bytes(late[-1].data) == bytes(sent[-1].data)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def test_a_killed_trainer_goes_on(bench: Any, bags: Path, tmp_path: Path) -> None:
    said = bench.collect(topics.TRAINER_STATUS)
    plan = PLAN | {"updates_per_step": 0.1, "pretraining_updates": 10_000_000}
    process = bench.start("trainer", run=run_with(bags, tmp_path), **plan)
    checkpoint = tmp_path / "run" / "trainer" / "checkpoint.safetensors"
    bench.until(checkpoint.exists)
    bench.until(lambda: said and int(status_values(said[-1].status[0])["updates"]) > 0)
    process.kill()
    process.wait()
    said.clear()
    bench.start("trainer", run=tmp_path / "run", **plan)
    bench.until(lambda: said and int(status_values(said[-1].status[0])["updates"]) > 0)
    assert status_values(said[-1].status[0])["imitated"] == "1"
    assert "goes on from 3 bags" in bench.log("trainer")


def test_two_trainers_of_one_run_are_refused(bench: Any, bags: Path, tmp_path: Path) -> None:
    said = bench.collect(topics.TRAINER_STATUS)
    bench.start("trainer", run=tmp_path / "run", **PLAN)
    bench.until(lambda: said)
    second = bench.start("trainer", run=tmp_path / "run", **PLAN)
    bench.until(lambda: second.poll() is not None)
    assert second.returncode == 2
    assert "in use by process" in bench.log("trainer")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bags": "/nowhere"}, "there are no bags at /nowhere"),
        ({"learner": "magic"}, "unknown learner 'magic'"),
    ],
)
def test_bad_input_ends_it_with_one_line(
    bench: Any, tmp_path: Path, wrong: dict[str, object], words: str
) -> None:
    process = bench.start("trainer", **({"run": tmp_path / "run"} | PLAN | wrong))
    bench.until(lambda: process.poll() is not None)
    assert process.returncode == 2
    lines = bench.log("trainer").splitlines()
    assert len(lines) == 1
    assert words in lines[0]


def offline(run: Path, *bags: Path, updates: int = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rl_robot.nodes.trainer", "--ros-args"]
    given = {"run": run, "task": "reach", "offline": "true", "updates": updates}
    given["bags"] = ",".join(str(path) for path in bags)
    for name, value in given.items():
        command += ["-p", f"{name}:={value}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_offline_it_trains_and_ends(bags: Path, tmp_path: Path) -> None:
    done = offline(tmp_path / "run", bags)
    assert done.returncode == 0, done.stderr
    assert "updates 60/60" in done.stdout
    learned = NetworkPolicy.load(tmp_path / "run" / "policies" / "learned.safetensors")
    assert learned.spec.version == 60


def test_offline_without_anything_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = offline(tmp_path / "run", tmp_path / "empty")
    assert done.returncode == 2
    assert "there is nothing to train on" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_the_trainer_rebuilds_is_what_the_policy_saw(tmp_path: Path) -> None:
    """A network's recorded actions follow from the observations rebuilt from the bag, exactly."""
    task, robot = load_task("grasp"), load_robot("arm")
    torch.manual_seed(0)
    policy = NetworkPolicy(PolicySpec.of(task, robot, version=1))
    policy.save(tmp_path / "policy.safetensors")
    command = [sys.executable, "-m", "rl_robot.cli", "launch", "deploy.launch.py"]
    command += [f"policy:={tmp_path / 'policy.safetensors'}", "pace:=paced", "episodes:=1"]
    command += ["split:=train", "run:=run", "record:=true", f"root:={tmp_path}"]
    session = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert session.returncode == 0, session.stdout + session.stderr
    (bag,) = RunFolder.open(tmp_path / "run").list_episodes()
    episode = read_transitions(bag, task, robot)
    metadata = BagReader(bag).episode
    assert len(episode) == metadata.steps
    assert not episode.gaps
    explored = any(m.message.position[-1] for m in BagReader(bag).decoded(["policy/action"]))
    assert not explored, "exploration would hide what the policy saw"
    with torch.inference_mode():
        for observation, proposed in zip(episode.observations, episode.proposed, strict=False):
            mean, _ = policy.actor(torch.from_numpy(observation)[None])
            np.testing.assert_array_equal(torch.tanh(mean)[0].numpy(), proposed)
    # What was executed is in the next observation: its action history.
    history = episode.observations[1:, -5:]
    np.testing.assert_allclose(history, episode.executed, atol=1e-6)
    rewards = [m.message.position[0] for m in BagReader(bag).decoded(["reward"])]
    np.testing.assert_allclose(episode.rewards, rewards, rtol=1e-6)
    assert (episode.latencies > 0).all()
