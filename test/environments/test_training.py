import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import EpisodeResult, mean_squared_jerk
from rl_robot.environments.training import Training, run_episodes, time_ratio
from rl_robot.learners import make_learner
from rl_robot.policies import load_policy
from rl_robot.tasks import Start

SMALL = {"hidden": (8,), "batch_size": 8}


@pytest.fixture(scope="module")
def reach():
    env = RobotEnv("reach", perception="truth")
    yield env
    env.close()


@pytest.fixture(scope="module")
def demonstrations(reach):
    weak = load_policy("weak_script", reach.task, reach.robot)
    return [r.transitions for r in run_episodes(reach, weak, "train", range(2), explore=True)]


def training(reach, demonstrations, seed=0):
    learner = make_learner("sac", reach.task, reach.robot, seed=seed, **SMALL)
    return Training(reach, learner, demonstrations, seed=seed)


def test_an_episode_says_what_was_observed_executed_and_paid(reach):
    weak = load_policy("weak_script", reach.task, reach.robot)
    (result,) = run_episodes(reach, weak, "train", [3], explore=True)
    episode = result.transitions
    assert len(episode) == result.steps
    assert episode.observations.shape == (result.steps + 1, *reach.observation_space.shape)
    assert episode.executed.shape == episode.proposed.shape == (result.steps, 5)
    assert float(episode.rewards.sum()) == pytest.approx(result.total, abs=1e-4)
    assert episode.terminated == result.success


def test_a_time_out_is_not_terminal(reach):
    untrained = make_learner("sac", reach.task, reach.robot, **SMALL).policy(0)
    (result,) = run_episodes(reach, untrained, "test", [0])
    assert result.steps == reach.task.max_steps
    assert not result.transitions.terminated


def test_it_explores_in_whole_episodes_and_updates_in_the_ratio_asked_for(reach, demonstrations):
    run = training(reach, demonstrations)
    assert run.replay.demonstrations == sum(map(len, demonstrations))
    results = run.explore(70, updates_per_step=0.25)
    assert run.steps == sum(result.steps for result in results) >= 70
    assert run.steps - results[-1].steps < 70
    assert run.replay.experience == run.steps
    assert run.updates == run.steps // 4


def test_no_exploration_starts_where_a_demonstration_did(reach, demonstrations):
    results = training(reach, demonstrations).explore(130, updates_per_step=0.0)
    known = [reach.task.start("train", index) for index in range(10)]
    assert [result.start for result in results] == known[2 : 2 + len(results)]


def test_training_repeats_under_its_seed(reach, demonstrations):
    def weights(seed):
        run = training(reach, demonstrations, seed)
        run.update(3)
        run.explore(60, updates_per_step=0.2)
        return run.learner.state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["critics.weights.0"], other["critics.weights.0"])


def test_the_jerk_of_a_path_is_its_third_derivative():
    times = 0.02 * np.arange(12.0)
    path = np.stack([4.0 * times**3, times**2], axis=1)  # jerks 24 and 0
    assert mean_squared_jerk(path, 0.02) == pytest.approx(288.0)
    assert mean_squared_jerk(path[:, 1:], 0.02) == pytest.approx(0.0, abs=1e-9)


def test_an_episode_says_how_jerky_it_was(reach):
    still, weak, shaky = (
        run_episodes(reach, load_policy(name, reach.task, reach.robot), "test", [0])[0].squared_jerk
        for name in ("script", "weak_script", "random")
    )
    assert 0.0 < still < weak < shaky


def test_times_are_compared_where_both_succeed(demonstrations):
    done = EpisodeResult(Start({}), True, 10, 0.0, 0.0, demonstrations[0])
    failed = replace(done, success=False, steps=60)
    slow = replace(done, steps=30)
    assert time_ratio([done, done, failed], [slow, failed, done]) == pytest.approx(1 / 3)
    assert math.isnan(time_ratio([done], [failed]))
