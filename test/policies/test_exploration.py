"""Exploration noise is smooth in time and yet, at each time, distributed as the actor says."""

from dataclasses import replace

import numpy as np
import torch

from rl_robot.policies import PolicySpec
from rl_robot.policies.network import NetworkPolicy
from rl_robot.robots.description import load_robot
from rl_robot.tasks import Reach

TASK = Reach()
OBSERVATION = {n: np.zeros(e.shape, np.float32) for n, e in TASK.observation_spec.items()}


def noises(episodes, steps, **changes):
    """Return the noise (episodes, steps, A) of a policy whose actor says mean 0 and deviation 1."""
    spec = replace(PolicySpec.of(TASK, load_robot("arm")), **changes)
    policy = NetworkPolicy(spec, hidden=(8,))
    with torch.no_grad():
        policy.actor.head.weight.zero_()
        policy.actor.head.bias.zero_()
    found = []
    for seed in range(episodes):
        policy.reset(seed)
        found.append([np.arctanh(policy.act(OBSERVATION, explore=True)) for _ in range(steps)])
    return np.array(found, dtype=np.float64)


def test_each_sample_is_a_standard_normal_from_the_first_step_on():
    noise = noises(400, 8)
    for step in (0, 1, 7):
        sample = noise[:, step].ravel()  # 2000 values: standard errors 0.022 and 0.016
        assert abs(sample.mean()) < 0.1
        assert abs(sample.std() - 1.0) < 0.08


def test_neighbouring_samples_are_alike_and_far_ones_and_other_components_are_not():
    noise = noises(100, 40)

    def correlation(lag):
        return float(np.mean(noise[:, : 40 - lag] * noise[:, lag:]))

    assert 0.55 < correlation(1) < 0.85
    assert correlation(1) > correlation(3) > correlation(6)
    assert abs(correlation(20)) < 0.1
    assert abs(float(np.mean(noise[..., 0] * noise[..., 1]))) < 0.1


def test_without_correlation_the_noise_is_white():
    noise = noises(100, 40, noise_correlation=0.0)
    assert abs(float(np.mean(noise[:, 1:] * noise[:, :-1]))) < 0.03  # standard error 0.007
    assert abs(float(noise.std()) - 1.0) < 0.03


def test_episodes_of_other_seeds_begin_otherwise():
    noise = noises(2, 2)
    assert not np.array_equal(noise[0, 0], noise[1, 0])
