import numpy as np
import torch

from rl_robot.experience.sources import Source
from rl_robot.experience.store import ReplayStore
from rl_robot.experience.transitions import EpisodeTransitions
from rl_robot.learners import BehaviorCloning, BehaviorCloningConfig, layout_of
from rl_robot.learners.bc import Imitation
from rl_robot.robots.description import load_robot
from rl_robot.tasks import Reach, flat_size

TASK, ROBOT = Reach(), load_robot("arm")
D, A = flat_size(TASK.observation_spec), len(TASK.action_names)


def demonstrations(count=10, steps=30, noise=0.0):
    """Episodes of a demonstrator whose action is tanh of the observation's first values."""
    random = np.random.default_rng(0)
    episodes = []
    for _ in range(count):
        observations = random.uniform(-1, 1, (steps + 1, D)).astype(np.float32)
        actions = np.tanh(observations[:-1, :A]) + noise * random.standard_normal((steps, A))
        episodes.append(
            EpisodeTransitions(
                observations=observations,
                proposed=np.zeros((steps, A), np.float32),
                executed=actions.astype(np.float32),
                rewards=np.zeros(steps, np.float32),
                terminated=False,
            )
        )
    return episodes


def stored(episodes):
    store = ReplayStore.in_memory(layout_of(TASK))
    for episode in episodes:
        store.add(Source("demonstration", ROBOT.name, TASK.name), episode)
    return store


def imitation(episodes, seed=0, **options):
    config = BehaviorCloningConfig(hidden=(32, 32), batch_size=64, **options)
    cloning = BehaviorCloning(TASK, ROBOT, config, seed=seed)
    return Imitation(cloning, stored(episodes), TASK, seed=seed)


def finished(run):
    while not run.done:
        run.step()
    return run.policy()


def test_it_does_what_was_executed_and_sees_through_noise():
    policy = finished(imitation(demonstrations(40, noise=0.2), updates=400))
    (unseen,) = demonstrations(1)
    with torch.no_grad():
        mean, _ = policy.actor(torch.from_numpy(unseen.observations[:-1]))
    error = np.sqrt(np.mean((np.tanh(mean.numpy()) - unseen.executed) ** 2))
    assert error < 0.15


def test_it_ends_after_the_updates_of_its_recipe_or_at_most_as_many_as_asked_for():
    run = imitation(demonstrations(2), updates=7)
    assert finished(run).spec.version == run.updates == 7
    cloning = BehaviorCloning(TASK, ROBOT, BehaviorCloningConfig(hidden=(8,), updates=7))
    short = Imitation(cloning, stored(demonstrations(2)), TASK, most_updates=3)
    assert finished(short).spec.version == 3


def test_the_same_seed_gives_the_same_policy():
    first, again, other = (
        finished(imitation(demonstrations(2), seed, updates=5)).actor.state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
