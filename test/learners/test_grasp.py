"""The recipe at work on the grasp, with the camera: minutes, so `make test-learning` runs it."""

import cv2
import numpy as np
import pytest

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.training import Training, run_episodes, time_ratio
from rl_robot.learners import make_learner
from rl_robot.policies import load_policy


@pytest.mark.learning
def test_the_grasp_is_learnt_and_becomes_quicker_than_its_demonstrator():
    cv2.setNumThreads(1)
    env = RobotEnv("grasp")
    demonstrator = load_policy("weak_script", env.task, env.robot)
    demonstrations = run_episodes(env, demonstrator, "train", range(100), explore=True)
    assert np.mean([result.success for result in demonstrations]) < 0.8
    learner = make_learner("sac", env.task, env.robot, seed=0)
    training = Training(env, learner, [d.transitions for d in demonstrations])
    training.update(2000)
    training.explore(3000)
    learned = run_episodes(env, learner.policy(1), "test", range(100))
    shown = run_episodes(env, demonstrator, "test", range(100))
    env.close()
    assert np.mean([result.success for result in learned]) >= 0.9
    assert time_ratio(learned, shown) <= 0.7
