"""Rebuilt control steps against the simulation's own state, with sensors that lag and jitter.

The simulation is looked at every 10 ms. Joint states and block poses are captured at random moments
of it, and published up to 0.2 s later. What the rebuilt observation at a tick says must be the
simulation's state at the newest capture until the tick, and its age the time since then, exactly.
"""

import random
from pathlib import Path

import numpy as np
import pytest
from recordings import Recording, point, pose

from rl_robot.bags import EpisodeMetadata
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.robots.kinematics import Kinematics
from rl_robot.training.rebuild import TransitionReader

SAMPLE_NS, PERIOD_NS, STEPS = 10_000_000, 100_000_000, 30
MOST_DELAY_NS = 200_000_000


class Truth:
    """A simulated episode: the state at each moment, and what sensors said of it, and when."""

    def __init__(self, env: RobotEnv, chance: random.Random) -> None:
        env.reset(seed=1, options={"split": "train", "index": 3})
        self.env = env
        self.joints: dict[int, np.ndarray] = {}
        self.blocks: dict[int, np.ndarray] = {}
        self.captured: dict[str, list[int]] = {"joints": [], "block": []}
        self.recording = Recording(
            EpisodeMetadata(0, "arm", "grasp", "train", 3, "{}", "random", "0", 1, "truncated")
        )
        simulator, robot = env.simulator, env.robot
        start = simulator.time_ns
        target = np.array(robot.home_positions)
        for moment in range(STEPS * PERIOD_NS // SAMPLE_NS + 1):
            now = simulator.time_ns
            assert now == start + moment * SAMPLE_NS
            self.joints[now] = simulator.joint_sample().positions.copy()
            self.blocks[now] = simulator.object_pose("block")[0].copy()
            if moment == 0 or chance.random() < 0.6:
                self._say_joints(now, chance)
            if moment == 0 or chance.random() < 0.12:
                self._say_block(now, chance)
            if (now - start) % PERIOD_NS == 0:
                target = target + np.array([chance.uniform(-0.03, 0.03) for _ in target])
                self._say_tick(now, target)
                for interface in robot.interfaces:
                    columns = [robot.joint_names.index(name) for name in interface.joints]
                    simulator.command(interface.name, [0.1], [target[columns]])
                # The block moves too, as if somebody pushed it.
                x, y, _ = self.blocks[now]
                simulator.place("block", float(x) + 0.002, float(y) - 0.001, 0.0)
            simulator.advance(SAMPLE_NS * 1e-9)

    def _say_joints(self, now: int, chance: random.Random) -> None:
        sample = self.env.simulator.joint_sample()
        self.captured["joints"].append(now)
        self.recording.say(
            "joint_states",
            now,
            after_ns=chance.randrange(MOST_DELAY_NS),
            name=list(self.env.robot.joint_names),
            position=sample.positions,
            velocity=sample.velocities,
            effort=sample.efforts,
        )

    def _say_block(self, now: int, chance: random.Random) -> None:
        self.captured["block"].append(now)
        self.recording.say(
            "perception/block/pose",
            now,
            after_ns=chance.randrange(MOST_DELAY_NS),
            pose=pose(self.blocks[now], (0.0, 0.0, 0.0, 1.0)),
        )

    def _say_tick(self, now: int, target: np.ndarray) -> None:
        recording = self.recording
        recording.say_numbers("perception/ages", now, {"block": 0.0})
        recording.say(
            "safety/command",
            now,
            joint_names=list(self.env.robot.joint_names),
            points=[point(target)],
        )
        recording.say_numbers("reward", now, {"total": 0.0})


@pytest.fixture(scope="module", params=[0, 1, 2])
def truth(request: pytest.FixtureRequest) -> Truth:
    return Truth(RobotEnv("grasp", perception="truth"), random.Random(request.param))


def test_observations_are_the_newest_truth_until_the_tick(truth: Truth, tmp_path: Path) -> None:
    messages = sorted(truth.recording.messages, key=lambda message: message.publish_ns)
    stamps = [m.stamp_ns for m in messages if m.topic == "joint_states"]
    assert stamps != sorted(stamps), "no message overtook another: nothing is tried"
    task, robot = truth.env.task, truth.env.robot
    table = TransitionReader(task, robot).read_table(
        truth.recording.write(tmp_path / "bag", messages)
    )
    assert len(table) == STEPS
    kinematics = Kinematics(robot)
    arm = [robot.joint_names.index(name) for name in robot.arm_joints]
    for row, tick in enumerate(table.ticks_ns.tolist()):
        seen = max(stamp for stamp in truth.captured["joints"] if stamp <= tick)
        found = max(stamp for stamp in truth.captured["block"] if stamp <= tick)
        assert table.ages["joint_states"][row] == (tick - seen) * 1e-9
        assert table.ages["block"][row] == (tick - found) * 1e-9
        tool, _ = kinematics.tool_pose(truth.joints[seen][arm])
        np.testing.assert_array_equal(
            table.observations["tool_position"][row], tool.astype(np.float32)
        )
        offset = table.observations["block_relative"][row]
        np.testing.assert_allclose(
            np.linalg.norm(offset), np.linalg.norm(truth.blocks[found] - tool), rtol=1e-5
        )
    old = np.concatenate([table.ages["block"], table.ages["joint_states"]])
    assert old.max() > 0.1


def test_the_learner_gets_the_same(truth: Truth, tmp_path: Path) -> None:
    task, robot = truth.env.task, truth.env.robot
    path = truth.recording.write(tmp_path / "bag")
    reader = TransitionReader(task, robot)
    episode, table = reader.read(path), reader.read_table(path)
    np.testing.assert_array_equal(episode.executed, table.action)
    oldest = np.maximum(table.ages["block"], table.ages["joint_states"])
    np.testing.assert_array_equal(episode.ages, oldest[:-1].astype(np.float32))
