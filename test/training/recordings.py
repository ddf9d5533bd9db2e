"""Bags of episodes in an environment: what the graph would have recorded, without a graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_robot.bags import EpisodeMetadata, EpisodeWriter, typestore
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.policies import load_policy
from rl_robot.tasks import Start
from rl_robot.training.trainer import Trainer, TrainingPlan

TYPES = {
    "joint_states": "sensor_msgs/msg/JointState",
    "perception/ages": "sensor_msgs/msg/JointState",
    "perception/block/pose": "geometry_msgs/msg/PoseStamped",
    "goal": "geometry_msgs/msg/PoseStamped",
    "policy/action": "sensor_msgs/msg/JointState",
    "safety/command": "trajectory_msgs/msg/JointTrajectory",
    "reward": "sensor_msgs/msg/JointState",
}
WALL_NS = 10**18
LATENCY_NS = 3_000_000


@dataclass
class Message:
    """One message of a recording."""

    topic: str
    stamp_ns: int
    raw: bytes
    publish_ns: int


@dataclass
class Recording:
    """An episode as the environment gave it, and as the messages of a bag."""

    metadata: EpisodeMetadata
    observations: list[np.ndarray] = field(default_factory=list)
    proposed: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def say(self, topic: str, stamp_ns: int, *, after_ns: int = 0, **fields: Any) -> None:
        message = make(TYPES[topic], header=header(stamp_ns), **fields)
        raw = bytes(typestore().serialize_cdr(message, TYPES[topic]))
        self.messages.append(Message(topic, stamp_ns, raw, WALL_NS + stamp_ns + after_ns))

    def say_numbers(self, topic: str, stamp_ns: int, values: dict[str, float]) -> None:
        self.say(
            topic,
            stamp_ns,
            name=list(values),
            position=np.array(list(values.values()), dtype=float),
            velocity=np.zeros(0),
            effort=np.zeros(0),
        )

    def write(self, path: Path, messages: Sequence[Message] | None = None) -> Path:
        """Write the bag, of other messages where they are given."""
        writer = EpisodeWriter(path, TYPES)
        for message in self.messages if messages is None else messages:
            writer.write(message.topic, message.raw, message.stamp_ns, message.publish_ns)
        return writer.close(self.metadata)


def make(message_type: str, **fields: Any) -> Any:
    return typestore().types[message_type](**fields)


def header(stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id="")


def pose(position: Sequence[float], quaternion: Sequence[float]) -> Any:
    x, y, z = (float(value) for value in position)
    qx, qy, qz, qw = (float(value) for value in quaternion)
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
    )


def point(positions: np.ndarray) -> Any:
    empty = np.zeros(0)
    return make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=positions,
        velocities=empty,
        accelerations=empty,
        effort=empty,
        time_from_start=make("builtin_interfaces/msg/Duration", sec=0, nanosec=100_000_000),
    )


def record(
    env: RobotEnv, index: int, *, policy: str = "weak_script", most_steps: int = 60, **changes: Any
) -> Recording:
    """Run one episode from a training start and note everything that a bag would hold."""
    task = env.task
    actor = load_policy(policy, task, env.robot)
    actor.reset(index)
    observation, info = env.reset(seed=index, options={"split": "train", "index": index})
    recording = Recording(_metadata(env, index, policy, Start(info["start"])))
    if "goal" in info["start"]:
        recording.say("goal", _now(env), pose=pose(info["start"]["goal"], (0, 0, 0, 1)))
    _say_sensed(recording, env)
    recording.observations.append(observation)
    terminated = truncated = False
    while not (terminated or truncated or len(recording.rewards) == most_steps):
        action = actor.act(info["observation"], explore=True)
        now = _now(env)
        observation, reward, terminated, truncated, info = env.step(action)
        numbers = dict(zip(task.action_names, action.tolist(), strict=True))
        recording.say_numbers("policy/action", now, {**numbers, "version": 0.0})
        recording.say(
            "safety/command",
            now,
            after_ns=LATENCY_NS,
            joint_names=list(env.robot.joint_names),
            points=[point(env._loop.reference)],
        )
        _say_sensed(recording, env)
        verdict = {"total": reward, "success": float(info["success"])}
        recording.say_numbers("reward", _now(env), verdict)
        recording.observations.append(observation)
        recording.proposed.append(action)
        recording.executed.append(info["executed"])
        recording.rewards.append(reward)
    outcome = "success" if terminated else "truncated"
    values = {"outcome": outcome, "steps": len(recording.rewards)} | changes
    recording.metadata = EpisodeMetadata(**{**recording.metadata.__dict__, **values})
    return recording


def _metadata(env: RobotEnv, index: int, policy: str, start: Start) -> EpisodeMetadata:
    return EpisodeMetadata(
        episode=index,
        robot=env.robot.name,
        task=env.task.name,
        split="train",
        index=index,
        start=start.to_json(),
        policy=policy,
        policy_version="0",
        seed=index,
        outcome="truncated",
    )


def _now(env: RobotEnv) -> int:
    return env.simulator.time_ns


def _say_sensed(recording: Recording, env: RobotEnv) -> None:
    now = _now(env)
    sample = env.simulator.joint_sample()
    recording.say(
        "joint_states",
        now,
        name=list(env.robot.joint_names),
        position=sample.positions,
        velocity=sample.velocities,
        effort=sample.efforts,
    )
    for name in env.task.objects:
        recording.say(f"perception/{name}/pose", now, pose=pose(*env.simulator.object_pose(name)))
    recording.say_numbers("perception/ages", now, dict.fromkeys(env.task.objects, 0.0))


def train(folder: Path, plan: TrainingPlan, slices: Any = None) -> None:
    """Train until there is nothing more to do, checkpointing often; what a test may kill.

    ``slices`` is a shared number that counts the work done.
    """
    import torch

    torch.set_num_threads(1)
    env = RobotEnv("reach", perception="truth")
    trainer = Trainer(folder, env.task, env.robot, plan, checkpoint_every=0.02)
    while trainer.step():
        if slices is not None:
            slices.value += 1
    trainer.close()
