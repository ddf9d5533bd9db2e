from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import rl_robot.environments  # noqa: F401  (registers the environments)
from rl_robot.environments import robot_env
from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import run_episode
from rl_robot.errors import UserError
from rl_robot.policies import load_policy
from rl_robot.robots.description import load_robot
from rl_robot.tasks import flatten


@pytest.fixture(scope="module")
def grasp():
    env = RobotEnv("grasp")
    yield env
    env.close()


@pytest.mark.parametrize("name", ["rl_robot/Grasp-v0", "rl_robot/Reach-v0"])
def test_the_environments_keep_the_contracts_of_gymnasium_and_stable_baselines(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env.unwrapped)
    assert env.reset()[0].shape == env.observation_space.shape
    assert env.render().shape == (240, 320, 3)
    env.close()


def test_the_expert_grasps_what_the_camera_sees(grasp):
    expert = load_policy("script", grasp.task, grasp.robot)
    result = run_episode(grasp, expert, "test", 0)
    assert result.success
    assert result.steps < grasp.task.max_steps
    assert grasp.simulator.object_pose("block")[0][2] > grasp.task.lift - 0.01  # truth agrees


def test_an_episode_repeats_exactly_under_its_seed(grasp):
    weak = load_policy("weak_script", grasp.task, grasp.robot)
    first = run_episode(grasp, weak, "train", 1, seed=5)
    assert run_episode(grasp, weak, "train", 1, seed=5) == first


def test_an_episode_of_doing_nothing_is_truncated_at_the_time_limit(grasp):
    grasp.reset(options={"split": "test", "index": 1})
    idle = np.array([0, 0, 0, 0, 1], dtype=np.float32)
    ends = [grasp.step(idle)[2:4] for _ in range(grasp.task.max_steps)]
    assert ends[:-1] == [(False, False)] * (grasp.task.max_steps - 1)
    assert ends[-1] == (False, True)


def test_the_camera_agrees_with_the_truth(grasp):
    truth = RobotEnv("grasp", perception="truth")
    options = {"split": "validation", "index": 3}
    seen, info = grasp.reset(options=options)
    known, _ = truth.reset(options=options)
    assert seen == pytest.approx(known, abs=0.1)
    assert np.array_equal(seen, flatten(grasp.task.observation_spec, info["observation"]))
    truth.close()


def test_bad_arguments_are_refused(grasp):
    with pytest.raises(UserError, match="camera or truth"):
        RobotEnv("grasp", perception="radar")
    with pytest.raises(UserError, match="train, validation, test"):
        grasp.reset(options={"split": "exam"})
    with pytest.raises(UserError, match="unknown robot"):
        RobotEnv("grasp", robot="crane")


def test_a_robot_without_a_camera_is_refused(monkeypatch):
    blind = replace(load_robot("arm"), cameras=())
    monkeypatch.setattr(robot_env, "load_robot", lambda name: blind)
    with pytest.raises(UserError, match="no camera"):
        RobotEnv("grasp")


def test_a_robot_that_takes_arrays_gets_the_end_of_each_period(monkeypatch):
    """As in the graph, where such a message holds one set point and no time."""
    arm = load_robot("arm")
    arrays = tuple(replace(i, type="std_msgs/msg/Float64MultiArray") for i in arm.interfaces)
    monkeypatch.setattr(robot_env, "load_robot", lambda name: replace(arm, interfaces=arrays))
    env = RobotEnv("reach", perception="truth")
    env.reset(options={"split": "test", "index": 0})
    sent = {}
    command = env.simulator.command

    def spy(name, times, positions):
        sent[name] = (list(times), np.asarray(positions))
        command(name, times, positions)

    monkeypatch.setattr(env.simulator, "command", spy)
    env.step(np.array([1, 0, 0, 0, 1], dtype=np.float32))
    names = list(arm.joint_names)
    for interface in arrays:
        times, positions = sent[interface.name]
        assert times == [0.0]
        columns = [names.index(joint) for joint in interface.joints]
        np.testing.assert_array_equal(positions, env._loop.reference[columns][None])
    env.close()
